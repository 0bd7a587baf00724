"""The console of an app that is mounted in another one, under a prefix."""

import threading
import time

from fastapi import FastAPI
from playwright.sync_api import expect
from serve_helpers import PATIENCE
from support.prompts import FACTS

from meloedit.serve.server import bind, make_server

from .pages import Pages


def test_the_console_works_under_a_prefix(browser, served):
    own = FastAPI()  # without a lifespan: the threads of the mounted app run for the other server already
    own.mount("/melo", served.app)
    listening = bind("127.0.0.1", 0)
    server = make_server(own, served.settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/melo"
        opened = Pages(browser, url)
        page = opened.open("edits")  # its addresses all begin with the prefix, else closing it fails
        page.get_by_role("link", name=FACTS[0].prompt).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(FACTS[0].prompt)
        expect(page.get_by_text("Jorge", exact=True)).to_be_visible()
        opened.close()
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
