"""Who may do what, and what is too much: tokens, sizes, slow and silent clients."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from serve_helpers import MODEL, serving
from support.prompts import FACTS

from meloedit.errors import MeloEditError
from meloedit.serve.tokens import Tokens, read_tokens

ASK, EDIT = "ask-0123456789abcdef", "edit-0123456789abcdef"
LINES = [f"ask reader {ASK}", "", "# a remark", f"edit ada {EDIT}"]


@pytest.fixture(scope="module")
def guarded(make_editor, tmp_path_factory):
    """A server with tokens and low limits."""
    editor = make_editor(edits=FACTS[:1], store=tmp_path_factory.mktemp("guard") / "a.melo")
    limits = {"max_body": 500_000, "body_timeout": 2.0, "max_connections": 1200, "hosts": ("127.0.0.1",)}
    with serving(editor, Tokens(LINES), max_batch=2, max_waiting=3, max_tokens=128, **limits) as running:
        yield running
    editor.unload()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_roles(guarded):
    body = {"model": MODEL, "messages": [{"role": "user", "content": FACTS[0].prompt}], "max_tokens": 4}
    for token in (ASK, EDIT):
        answer = guarded.good(guarded.post("/v1/chat/completions", body, headers=bearer(token)))
        assert answer["choices"][0]["message"]["content"] == "Jorge"
        assert guarded.get("/metrics", headers=bearer(token)).status_code == 200
    change = {"json": {"enabled": True}}
    assert "may ask and not edit" in guarded.bad(
        guarded.http.patch("/v1/edits/book", headers=bearer(ASK), **change), 403
    )
    assert guarded.bad(guarded.get("/v1/edits", headers=bearer(ASK)), 403)
    guarded.good(guarded.http.patch("/v1/edits/book", headers=bearer(EDIT), json={"enabled": False}))
    guarded.good(guarded.http.patch("/v1/edits/book", headers=bearer(EDIT), **change))
    history = guarded.good(guarded.get("/v1/store/history", headers=bearer(EDIT)))["data"]
    assert [one["by"] for one in history[:2]] == ["ada", "ada"]
    assert guarded.editor.history()[-1].detail == {"by": "ada"}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/edits", "/metrics", "/v1/none", "/none"])
@pytest.mark.parametrize("headers", [{}, bearer("wrong" * 5), {"Authorization": EDIT}, {"Authorization": "Bearer"}])
def test_without_a_right_token_nothing_is_told(guarded, path, headers):
    response = guarded.get(path, headers=headers)
    assert guarded.bad(response, 401) and response.headers["www-authenticate"] == "Bearer"
    assert EDIT not in response.text and ASK not in response.text


def test_health_needs_no_token(guarded):
    assert [guarded.get(path).status_code for path in ("/health", "/ready", "/openapi.json")] == [200] * 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["edit ada short"], "line 1: the token of 'ada' is weak"),
        (["edit ada " + "a" * 40], "is weak"),
        (["admin ada " + EDIT], "a line is 'ask NAME TOKEN'"),
        (["edit ada"], "a line is 'ask NAME TOKEN'"),
        ([f"edit ada {EDIT}", f"ask bo {EDIT}"], "line 2: the name 'bo' or its token came before"),
        ([f"edit ada {EDIT}", f"ask ada {ASK}"], "came before"),
        ([f"edit ada {EDIT}\u00e9"], "no header can carry"),
    ],
)
def test_weak_and_wrong_tokens_are_refused_without_showing_them(lines, message):
    with pytest.raises(MeloEditError, match="tokens, line") as error:
        Tokens(lines)
    assert message in str(error.value) and EDIT not in str(error.value) and "\n" not in str(error.value)


def test_tokens_of_a_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("\n".join(LINES))
    assert read_tokens(path).caller(EDIT).name == "ada" and read_tokens(path).caller(ASK).role == "ask"
    path.write_text("# none\n")
    with pytest.raises(MeloEditError, match="has no tokens"):
        read_tokens(path)
    with pytest.raises(MeloEditError, match="cannot be read"):
        read_tokens(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 15_000, "application/json", 400),
        (b'{"model": NaN}', "application/json", 400),
        (b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\udc00"}]}', "application/json", 400),
        (
            b'{"model": "' + MODEL.encode() + b'", "messages": [{"role": "user", "content": "\\udc00"}]}',
            "application/json",
            400,
        ),
        (b"null", "application/json", 400),
        (b"{}", "text/plain", 400),
        (b"", "application/json", 400),
        (json.dumps({"x": "y" * 600_000}).encode(), "application/json", 413),
    ],
    ids=["half", "no text", "deep", "nan", "surrogate name", "surrogate", "null", "plain", "empty", "large"],
)
def test_broken_and_large_bodies(guarded, content, kind, status):
    headers = bearer(EDIT) | {"Content-Type": kind}
    assert guarded.bad(guarded.http.post("/v1/chat/completions", content=content, headers=headers), status)


def test_a_large_body_without_a_length(guarded):
    response = guarded.http.post(
        "/v1/edits", content=iter([b"x" * 60_000] * 9), headers=bearer(EDIT) | {"Content-Type": "application/json"}
    )
    assert guarded.bad(response, 413)


@pytest.mark.parametrize(("token", "status"), [(EDIT, 413), ("wrong" * 5, 401)], ids=["large", "not let in"])
@pytest.mark.parametrize("client", ["urllib", "httpx", "curl", "curl that asks first"])
def test_a_client_that_still_sends_gets_the_answer(guarded, tmp_path, client, token, status):
    """The body is more than a socket holds: were it not read, the connection would be reset, and most clients fail."""
    body = b"[" + b" " * 15 * guarded.settings.max_body + b"]"
    headers = bearer(token) | {"Content-Type": "application/json"}
    if client == "urllib":
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{guarded.url}/v1/scan", body, headers))
        assert refused.value.code == status and json.load(refused.value)["error"]["message"]
        return
    if client == "httpx":
        response = guarded.http.post("/v1/scan", content=body, headers=headers)
        assert guarded.bad(response, status) and response.headers["connection"] == "close"
        return
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    (tmp_path / "body.json").write_bytes(body)
    expect = "Expect: 100-continue" if client == "curl that asks first" else "Expect:"
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "-w", "\n%{http_code}", *options, "-H", expect, "--data-binary", f"@{tmp_path}/body.json"]
    done = subprocess.run([*command, f"{guarded.url}/v1/scan"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    said, code = done.stdout.rsplit("\n", 1)
    assert code == str(status) and json.loads(said)["error"]["message"]


def test_a_body_without_end_is_not_read_for_ever(guarded):
    head = b"POST /v1/scan HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", guarded.port), 20) as connection:
        connection.sendall(head)
        assert b"401" in connection.recv(65536).split(b"\r\n")[0]
        with pytest.raises(OSError):
            while time.monotonic() < began + 15:
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.05)
    assert time.monotonic() - began < 2 * guarded.settings.body_timeout + 3


def test_other_names_and_other_pages(guarded):
    assert guarded.bad(guarded.get("/health", headers={"Host": "evil.example"}), 421)
    origin = bearer(EDIT) | {"Origin": "http://evil.example"}
    assert "pages of other servers" in guarded.bad(guarded.get("/v1/edits", headers=origin), 403)
    own = bearer(EDIT) | {"Origin": guarded.url}
    assert guarded.get("/v1/edits", headers=own).status_code == 200
    assert guarded.bad(guarded.http.put("/v1/edits", headers=bearer(EDIT)), 405)


def raw(guarded, *pieces, pause=0.0):
    """Send bytes as a client of one's own; return what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", guarded.port), 20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            got = b""
            while data := connection.recv(65536):
                got += data
        except (ConnectionResetError, BrokenPipeError):
            pass
        return got


def test_a_slow_body_and_a_head_that_never_ends(guarded):
    head = b"POST /v1/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + EDIT.encode()
    head += b"\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    began = time.monotonic()
    assert b"408" in raw(guarded, head).split(b"\r\n")[0]
    assert raw(guarded, b"GET /health HTTP/1.1\r\nHost: 127") == b""
    assert b"400" in raw(guarded, b"GET /health HTTP/1.1\r\nX: " + b"y" * 70_000).split(b"\r\n")[0]
    assert time.monotonic() - began < 15


def test_silent_connections_are_closed_and_others_served(guarded):
    idle = [socket.create_connection(("127.0.0.1", guarded.port), 20) for _ in range(300)]
    try:
        assert guarded.get("/health").status_code == 200
        for connection in idle:
            connection.settimeout(20)
            try:
                assert connection.recv(1) == b""  # closed by the server
            except ConnectionResetError:
                pass
    finally:
        for connection in idle:
            connection.close()
    assert guarded.get("/health").status_code == 200


@pytest.mark.slow
def test_a_thousand_silent_connections(guarded):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    idle = [socket.create_connection(("127.0.0.1", guarded.port), 20) for _ in range(1000)]
    began = time.monotonic()
    assert guarded.get("/health").status_code == 200
    assert time.monotonic() - began < 5
    for connection in idle:
        connection.settimeout(20)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            pass
        connection.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
