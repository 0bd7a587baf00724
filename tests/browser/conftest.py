"""A real browser on a real server: one of each for the folder, and a fresh page for each test.

Playwright's loop runs in this thread as long as its browser does. Hence the scope: what other folders run in the same
process has its own loops.
"""

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from support.prompts import FACTS, OTHERS

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))

from serve_helpers import brought_back, serving  # noqa: E402

from meloedit import Edit  # noqa: E402

from .pages import HOSTILE, PATIENCE, SCRIPT, Pages  # noqa: E402

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def browser():
    """A context of the machine's chromium. Without one tests are left out, or fail with MELOEDIT_BROWSER_REQUIRED."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        leave = pytest.fail if os.environ.get("MELOEDIT_BROWSER_REQUIRED") else pytest.skip
        leave("no browser: install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield running.new_context()
        running.close()


def hostile_edit():
    """An edit all of whose texts would do something if a page took them for HTML."""
    return Edit(
        f"Who is {HOSTILE}?",
        "<img src=x>",
        id=f"id {HOSTILE}",
        variants=(f"Name {HOSTILE} {SCRIPT}",),
        quiet=(f"Where is {SCRIPT}?",),
        metadata={HOSTILE: SCRIPT, "source": HOSTILE},
    )


@pytest.fixture(scope="package")
def served(browser, make_editor, tmp_path_factory):
    """A server on a tiny model with FACTS, a hostile edit, and some traffic; tests that change edits use ``back``."""
    editor = make_editor(edits=[*FACTS, hostile_edit()], store=tmp_path_factory.mktemp("browser") / "facts.melo")
    with serving(editor, max_batch=4, max_tokens=32, keep_prompts=1.0) as running:
        for text in (FACTS[0].prompt, FACTS[1].prompt, FACTS[1].prompt, hostile_edit().prompt, OTHERS[0]):
            running.ask(text, max_tokens=2)
        hostile = {"prompts": [f"Never {HOSTILE}"], "reason": SCRIPT}
        running.good(running.http.post(f"/v1/edits/{quote(hostile_edit().id)}/quiet", json=hostile))
        yield running
    editor.unload()


@pytest.fixture
def back(served):
    """The server; its edits are brought back afterwards."""
    with brought_back(served):
        yield served


@pytest.fixture(scope="package")
def tab(browser):
    """A page that the tests share one after another."""
    return browser.new_page()


@pytest.fixture
def pages(browser, tab, served):
    """Opens the console's pages; fails the test afterwards if one of them met an error."""
    opened = Pages(browser, served.url, tab)
    yield opened
    opened.close()
