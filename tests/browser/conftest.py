"""A real browser on a real server: one of each for the folder, and a fresh page for each test.

Playwright's loop runs in this thread as long as its browser does. Hence the scope: what other folders run in the same
process has its own loops.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from support.prompts import FACTS

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))

from serve_helpers import serving  # noqa: E402

from .pages import Pages  # noqa: E402

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
    """The machine's chromium. Without one the tests are left out, or fail where MELOEDIT_BROWSER_REQUIRED is set."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        leave = pytest.fail if os.environ.get("MELOEDIT_BROWSER_REQUIRED") else pytest.skip
        leave("no browser: install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="package")
def served(browser, make_editor, tmp_path_factory):
    """A server on a tiny model that knows FACTS and keeps prompts; tests that change its edits bring them back."""
    editor = make_editor(edits=FACTS, store=tmp_path_factory.mktemp("browser") / "facts.melo")
    with serving(editor, max_batch=4, max_tokens=64, keep_prompts=1.0) as running:
        yield running
    editor.unload()


@pytest.fixture
def pages(browser, served):
    """Opens the console's pages; fails the test afterwards if one of them met an error."""
    opened = Pages(browser, served.url)
    yield opened
    opened.close()
