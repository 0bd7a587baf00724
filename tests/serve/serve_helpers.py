"""A server in a thread of its own, with real sockets, and what tests ask of it."""

import threading
import time
from contextlib import contextmanager

import httpx

from meloedit.serve import app
from meloedit.serve.server import bind, make_server
from meloedit.serve.settings import ServeSettings

PATIENCE = 120  # seconds; no test needs them on a machine that works
MODEL = "LlamaForCausalLM"


class Served:
    """A running server: its address, its editor, and a client."""

    def __init__(self, editor, made, settings, port):
        self.editor, self.app, self.settings = editor, made, settings
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.service = made.state.meloedit_service
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def get(self, path, **kwargs):
        return self.http.get(path, **kwargs)

    def post(self, path, body=None, **kwargs):
        return self.http.post(path, json={} if body is None else body, **kwargs)

    def good(self, response, status=200):
        assert response.status_code == status, (response.status_code, response.text)
        return response.json()

    def bad(self, response, status):
        """The message of an error, which must be one line in OpenAI's shape."""
        assert response.status_code == status, (response.status_code, response.text)
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"]
        assert "Traceback" not in response.text
        return error["message"]

    def ask(self, text, **fields):
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 8} | fields
        return self.post("/v1/chat/completions", body)

    def edit(self, *edits, wait=PATIENCE, **fields):
        """Make edits, and return the reports of the job."""
        body = {"edits": list(edits)} | fields
        job = self.good(self.post("/v1/edits", body, params={"wait": wait}))
        assert job["state"] == "done", job
        return job["reports"]


@contextmanager
def running(made, limits):
    """Run an ASGI app in a thread until the block ends; give its port."""
    listening = bind("127.0.0.1", 0)
    server = make_server(made, limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
        assert not thread.is_alive()


@contextmanager
def serving(editor, tokens=None, **settings):
    """Serve an editor until the block ends."""
    made, limits = app(editor, tokens, **settings), ServeSettings(**settings)
    with running(made, limits) as port:
        served = Served(editor, made, limits, port)
        yield served
        served.http.close()


@contextmanager
def brought_back(served):
    """Bring the edits back at the end of the block."""
    before = served.editor.store.revision
    yield served
    if served.editor.store.revision != before:
        job = served.good(served.post("/v1/store/rollback", {"to": before}, params={"wait": PATIENCE}))
        assert job["state"] == "done"
