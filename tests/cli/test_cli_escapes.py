"""What a store, a file or an argument brings is spelled out on a terminal, and never obeyed by it."""

import io
import json
from dataclasses import replace

import pytest
from cli_helpers import run
from support.store_cases import CONFIG, MODEL, record

from meloedit import Edit
from meloedit.cli import terminal
from meloedit.store import Store
from meloedit.text import plain, visible

EVIL = {
    "red": "\x1b[31mred",
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[H",
    "one byte": "\x9b31m",
    "turned around": "\u202egnp.exe",
    "carriage": "ok\rno",
    "line": "a\u2028b\x85c",
    "back": "abc\b\b\b",
    "half": "\udc9b",
}
EVERY = "".join(text for name, text in EVIL.items() if name != "half")


def is_harmless(text):
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize("name", EVIL)
def test_control_characters_are_spelled_out(name):
    assert is_harmless(visible(EVIL[name])) and plain(EVIL[name]).isprintable()
    assert visible(EVIL[name]) != EVIL[name]


@pytest.mark.parametrize(
    "text",
    [
        "Zoë wrote: \u201cno\u201d",
        "12\u00a0000\u202f€",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "👩\u200d💻 日本語",
    ],
)
def test_texts_of_every_script_stay_as_they_are(text):
    assert visible(text) == plain(text) == text


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "facts.melo"
    with Store.create(path, MODEL | {"name": EVERY, EVERY: EVERY}, CONFIG | {"key_layer": EVERY}) as store:
        store.calibrate({}, {"source": EVERY, EVERY: [EVERY]}, {})
        new = record("x", "y", 1)
        edit = Edit(
            EVERY + "?", EVERY, EVERY, (EVERY + "!",), (EVERY + ".",), {EVERY: [{EVERY: EVERY}], "a": {"b": EVERY}}
        )
        store.put([replace(new, edit=edit, report={EVERY: EVERY, "loss": [EVERY]})], EVERY)
        store.amend(edit, new.keys, "quiet", {"prompts": [EVERY], "reason": EVERY, EVERY: EVERY})
    return path


@pytest.mark.parametrize(
    "args",
    [
        ["ls"],
        ["show"],
        ["show", "{store}", EVERY],
        ["history"],
        ["history", "{store}", EVERY],
        ["review", "{store}", "--list"],
        ["disable", "{store}", EVERY],
        ["rm", "{store}", EVERY],
        ["rollback", "{store}", "2"],
        ["show", "{store}", EVERY + "?"],
        ["rm", "{store}", EVERY, "--" + EVERY],
        [EVERY],
        ["--" + EVERY],
        ["ls", "{store}", "--at", EVERY],
        ["ls", EVERY],
        ["edit", "{store}", EVERY],
        ["ask", "{store}", "--file", EVERY],
    ],
)
def test_no_command_passes_them_on(args, store):
    note = {"prompt": EVERY, "edit": EVERY, "fired": True, "score": 0.5, "time": EVERY}
    store.with_name("facts.melo.near.jsonl").write_text(json.dumps(note) + "\n")
    result = run(*(str(store) if arg == "{store}" else arg for arg in args), *([store] if len(args) == 1 else []))
    shown = result.stdout + result.stderr
    assert shown and is_harmless(shown), repr(shown)
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), result.exception


def test_answers_are_spelled_out_on_a_terminal_unless_they_are_wanted_as_they_are(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    answer = "one\n\ttwo " + EVERY
    for stream, as_is, raw in ((Terminal(), False, False), (Terminal(), True, True), (io.StringIO(), False, True)):
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr(terminal.typer, "echo", lambda text, stream=stream: stream.write(text))
        terminal.put_answer(answer, as_is)
        assert (stream.getvalue() == answer) == raw and (raw or is_harmless(stream.getvalue()))
        assert stream.getvalue().startswith("one\n\ttwo ")


def test_warnings_of_the_library_are_spelled_out(capsys):
    terminal.show_warnings()
    terminal.logging.getLogger("meloedit").warning("%s was changed", EVERY)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and is_harmless(shown)
