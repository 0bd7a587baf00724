"""The console of an app that is mounted in another one, under a prefix."""

from fastapi import FastAPI
from playwright.sync_api import expect
from serve_helpers import running
from support.prompts import FACTS

from .pages import Pages


def test_the_console_works_under_a_prefix(browser, served):
    own = FastAPI()  # without a lifespan: the threads of the mounted app run for the other server already
    own.mount("/melo", served.app)
    with running(own, served.settings) as port:
        opened = Pages(browser, f"http://127.0.0.1:{port}/melo")
        page = opened.open("edits")  # its addresses all begin with the prefix, else closing it fails
        page.get_by_role("link", name=FACTS[0].prompt).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(FACTS[0].prompt)
        expect(page.get_by_text("Jorge", exact=True)).to_be_visible()
        opened.close()
