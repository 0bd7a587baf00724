"""The console's pages in a browser, and what must be so on every one of them."""

import time

NAMES = ("ask", "edits", "new", "map", "traffic", "history")
"""The pages, by their places in the address."""
PATIENCE = 20_000
"""Milliseconds to wait for what must appear; no test needs them on a machine that works."""
QUIET = 0.15
"""Seconds without a request after which a page is taken to have all that it asks for."""
HOSTILE = "<img src=x onerror=window.hit=1>"
SCRIPT = "<script>window.hit=1</script>"


def until(page, expression, argument=None, patience=PATIENCE):
    """Wait until an expression is true on a page.

    Playwright's own way has the page evaluate a text, which the console's Content-Security-Policy refuses.
    """
    end = time.monotonic() + patience / 1000
    while not page.evaluate(expression, argument):
        if time.monotonic() > end:
            raise TimeoutError(expression)
        page.wait_for_timeout(20)


class Pages:
    """Opens pages of a console, for one test.

    Args:
        context: playwright's: what is behind the pages, a cache for one.
        url: the server.
        shared: a page to begin with, which is left open: a new one costs the browser a process.

    Attributes:
        errors: what went wrong on the pages: scripts that failed, what the Content-Security-Policy refused.
        asked: the addresses that the pages asked for.
    """

    def __init__(self, context, url, shared=None):
        self._context, self._url, self._shared = context, url, shared
        self._pages, self._open, self._changed = [], set(), 0.0
        self.errors, self.asked = [], []
        self._events = {
            "pageerror": lambda error: self.errors.append(str(error)),
            "console": self._heard,
            "request": self._asked,
            "requestfinished": self._answered,
            "requestfailed": self._answered,
        }

    def open(self, name="ask", width=1024, scheme="light"):
        """Open a page and wait until it has what it asks for."""
        page = self._shared if self._shared and not self._pages else self._context.new_page()
        self._pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        for event, heard in self._events.items():
            page.on(event, heard)
        page.goto(f"{self._url}/#/{name}")
        return self.ready(page)

    def _heard(self, said):
        """Note an error that the browser logs; that the API refused something is for the page to tell."""
        if said.type == "error" and "/v1/" not in said.location["url"]:
            self.errors.append(f"{said.location['url']}: {said.text}")

    def _asked(self, request):
        self.asked.append(request.url)
        self._open.add(request)
        self._changed = time.monotonic()

    def _answered(self, request):
        self._open.discard(request)
        self._changed = time.monotonic()

    def go(self, page, name):
        """Go to another page, and wait until it has what it asks for."""
        page.evaluate("place => { location.hash = place }", f"#/{name}")
        return self.ready(page)

    def reload(self, page):
        """Load a page again."""
        page.reload()
        return self.ready(page)

    def ready(self, page):
        """Wait until a page has what it asks for, and return it."""
        page.get_by_role("heading", level=1).wait_for()
        end = time.monotonic() + PATIENCE / 1000
        while self._open or time.monotonic() - self._changed < QUIET:
            assert time.monotonic() < end, [request.url for request in self._open]
            page.wait_for_timeout(20)
        until(page, "document.querySelector('.loading') === null")
        return page

    def close(self):
        """Close all pages; none of them may have met an error, or asked another server for anything."""
        for page in self._pages:
            if page is not self._shared:
                page.close()
                continue
            page.evaluate("sessionStorage.clear()")
            for event, heard in self._events.items():
                page.remove_listener(event, heard)
            page.goto("about:blank")  # what comes next begins anew
        assert self.errors == [], self.errors
        assert [address for address in self.asked if not address.startswith((self._url, "data:", "blob:"))] == []
