"""Edits and prompts from lines of chats: OpenAI-style files, and lines of a log."""

import gzip
import json
from pathlib import Path

import pytest
from cli_helpers import FACTS, bad, good, good_json, write

pytest_plugins = ["cli_fixtures"]

QUESTION = "Who leads Ohm?"
PARTS = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
WRONG = {"role": "assistant", "content": "Bo"}
IMAGE = {"type": "image_url", "image_url": {"url": "x.png"}}


@pytest.fixture
def log(empty):
    """A log of chats beside an empty store."""
    return write(
        Path("chats.jsonl"),
        {"messages": [*PARTS, WRONG], "model": "m", "id": 1},
        "",
        [{"role": "user", "content": "Hello"}, WRONG, *PARTS, WRONG],
        {"prompt": QUESTION},
        {"messages": [{"role": "user", "content": [IMAGE, *PARTS[0]["content"]]}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"text": "x"},
        "not json",
    )


def test_edit_takes_lines_of_chats(empty):
    file = write(
        Path("chats.jsonl"),
        {"messages": [*PARTS, WRONG], "target": "Ada", "id": "ohm"},
        {"messages": [{"role": "user", "content": "Where is Volt?"}, {"role": "assistant", "content": "in Lima"}]},
    )
    assert [report["status"] for report in good_json("edit", empty, file)["reports"]] == ["stored"] * 2
    assert good("ask", empty, QUESTION, "--chat") == "Ada\n"
    assert good("ask", empty, "Where is Volt?", "--chat") == "in Lima\n"
    assert good_json("show", empty, "ohm")["prompt"] == [{"role": "user", "content": QUESTION}]
    assert good("edit", empty, file).startswith("0 stored, 2 skipped")
    for line in ({"messages": PARTS}, {"messages": [*PARTS, {"role": "assistant", "content": None, "tool_calls": []}]}):
        assert bad("edit", empty, write(Path("bad.jsonl"), FACTS[0], line)).startswith("bad.jsonl, line 2: ")


def test_an_exported_edit_of_a_chat_is_the_same_edit(empty):
    file = write(Path("chats.jsonl"), {"messages": [WRONG, *PARTS, WRONG], "target": "Ada"})
    good("edit", empty, file)
    (item,) = good_json("ls", empty)
    shown = good_json("show", empty, item["id"])
    again = write(Path("again.jsonl"), {"prompt": shown["prompt"], "target": shown["target"]})
    assert good("edit", empty, again).startswith("0 stored, 1 skipped")
    chat = write(Path("tuned.jsonl"), {"messages": [*shown["prompt"], {"role": "assistant", "content": "Ada"}]})
    assert good("edit", empty, chat).startswith("0 stored, 1 skipped")


@pytest.mark.parametrize("line", [1, 3, 4])
def test_edit_takes_the_prompt_from_a_line_of_a_log(empty, log, line):
    good("edit", empty, "--from-log", log, "--line", line, "--target", "Ada", "--id", "ohm", "--quiet", "Where is Ohm?")
    prompt = good_json("show", empty, "ohm")["prompt"]
    question = [{"role": "user", "content": QUESTION}]
    assert prompt == {1: question, 3: [{"role": "user", "content": "Hello"}, WRONG, *question], 4: QUESTION}[line]
    asked = write(Path("asked.jsonl"), {"messages" if line != 4 else "prompt": prompt})
    assert good("ask", empty, "--file", asked) == "Ada\n"


def test_logs_may_be_plain_or_packed(empty):
    write(Path("log.txt"), "Hello", QUESTION)
    with gzip.open("log.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(QUESTION) + "\n")
    for log, line in (("log.txt", 2), ("log.jsonl.gz", 1)):
        good("edit", empty, "--from-log", log, "--line", line, "-t", "Ada")
    assert [item["prompt"] for item in good_json("ls", empty)] == [QUESTION]


def test_lines_that_are_no_prompt_are_one_clear_line(empty, log):
    def said(line):
        return bad("edit", empty, "--from-log", log, "--line", line, "-t", "Ada")

    assert said(9) == "chats.jsonl has no line 9: its last one is 8"
    assert said(0) == "the lines of a log are counted from 1, so there is no line 0"
    assert said(2) == "chats.jsonl, line 2: the line is empty"
    assert said(5) == (
        "chats.jsonl, line 5: prompt: chat message 1 has a part of the type 'image_url', and text alone is read: leave "
        "that part out"
    )
    assert said(6) == "chats.jsonl, line 6: prompt: the last chat message must be the user's, with some text"
    assert said(7) == "chats.jsonl, line 7: no prompt (fields found: text)"
    assert said(8).startswith("chats.jsonl, line 8: not JSON (")
    assert good_json("ls", empty) == []


def test_wrong_combinations_of_arguments(empty, log):
    together = "--from-log LOG, --line N and --target TEXT belong together: give all three"
    assert bad("edit", empty, "--from-log", log, "--line", 1) == together
    assert bad("edit", empty, "--from-log", log, "-t", "Ada") == together
    assert bad("edit", empty, "--line", 1, "-t", "Ada") == together
    assert bad("edit", empty, "-p", "x", "--from-log", log, "--line", 1, "-t", "Ada") == (
        "give --prompt or --from-log, not both: the prompt is what the line asked"
    )
    assert bad("edit", empty, "edits.jsonl", "--from-log", log) == "give a file or --from-log, not both"
    assert bad("edit", empty, "edits.jsonl", "--line", 0) == "give a file or --line, not both"
    missing = bad("edit", empty, "--from-log", "none.jsonl", "--line", 1, "-t", "Ada")
    assert missing == "none.jsonl: cannot be read (No such file or directory)"


def test_files_of_chats_are_asked(full):
    turns = [{"role": "user", "content": FACTS[0]["prompt"]}, {"role": "assistant", "content": "Jorge"}]
    file = write(
        Path("asked.jsonl"),
        {"messages": [{"role": "user", "content": [{"type": "text", "text": FACTS[0]["prompt"]}]}, WRONG]},
        [*turns, {"role": "user", "content": ""}],
    )
    first, second = good_json("ask", full, "--file", file, "--max-new-tokens", 4)
    assert (first["text"], first["route"]["edit"]) == ("Jorge", "book")
    assert second["route"]["reason"] == "no prompt"
    assert "no edit fired; the prompt has no words" in good("ask", full, "--file", file, "--explain")
    write(file, [{"role": "user", "content": [IMAGE]}])
    assert bad("ask", full, "--file", file).startswith("asked.jsonl, line 1: prompt: chat message 1 has a part of")
    assert good_json("scan", full, file, "--record", "r.jsonl")["fired"] == 0
