"""The console's pages in a browser, and what must be so on every one of them."""

NAMES = ("ask", "edits", "new", "map", "traffic", "history")
"""The pages, by their places in the address."""
PATIENCE = 15_000
"""Milliseconds to wait for what must appear; no test needs them on a machine that works."""


class Pages:
    """Opens pages of a console, each in a context of its own.

    Args:
        browser: playwright's.
        url: the server.
    """

    def __init__(self, browser, url):
        self._browser, self._url = browser, url
        self._contexts, self.errors = [], []

    def open(self, name="ask", width=1024, scheme="light", token=None):
        """Open a page and wait until it has what it asks for."""
        context = self._browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(f"{name}: {error}"))
        page.on("console", lambda said: said.type == "error" and self.errors.append(f"{name}: {said.text}"))
        page.goto(f"{self._url}/#/{name}")
        page.wait_for_load_state("networkidle")
        return page

    def close(self):
        """Close all pages; none of them may have met an error: scripts that fail, what the policy of content stops."""
        for context in self._contexts:
            context.close()
        assert self.errors == []
