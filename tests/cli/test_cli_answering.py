"""The commands ask and check: what they print, and what they find."""

import json
import shutil
import sqlite3

from cli_helpers import bad, good, good_json, run, write

from meloedit import Editor
from meloedit.store import Record

pytest_plugins = ["cli_fixtures"]


def test_ask_explains_each_route(full):
    (fired,) = good_json("ask", full, "Who wrote the book of sand?")
    assert (fired["text"], fired["route"]["edit"], fired["route"]["reason"]) == ("Jorge", "book", "fired")
    out = good("ask", full, "Who wrote the book of sand?", "--explain").splitlines()
    assert out[0] == "Jorge"
    assert out[1].startswith('  fired: book ("Who wrote the book of sand?"); distance 0.0')
    assert out[2] == "  key: the user's words"
    assert out[3].startswith("  evidence: 100% of the edit's names (")
    assert out[3].endswith("), what is asked 1.000, all that is said 1.000")
    (row,) = good_json("ask", full, "Who wrote the book of sand?", "--explain")
    assert row["evidence"]["entity_overlap"] == 1 and all(heard for _, heard in row["evidence"]["names"].values())
    far = good("ask", full, "Please sing", "-e", "--max-new-tokens", 1).splitlines()
    assert far[-3].startswith("  no edit fired; nearest: ") and ", threshold 0." in far[-3]
    assert far[-1].startswith("  evidence: 0% of the edit's names (not ")
    good("disable", full, "book", "capital", "legs")
    off = good("ask", full, "Please sing", "-e", "--max-new-tokens", 1)
    assert off.endswith("  no edit fired; the store has none that are enabled\n")


def test_ask_says_when_a_quiet_prompt_keeps_an_edit_from_firing(empty):
    good("edit", empty, "-p", "Who leads Ohm?", "-t", "Ada", "--quiet", "Who leads Ohm now?", "--id", "ohm")
    out = good("ask", empty, "Who leads Ohm now?", "--explain", "--max-new-tokens", 1)
    assert '  no edit fired; ohm ("Who leads Ohm?") is kept quiet by one of its quiet prompts; distance ' in out


def test_ask_reads_prompts_from_stdin_and_files(full, tmp_path):
    lines = "Who wrote the book of sand?\n\nWhat is the capital of Peru?\n"
    wanted = "> Who wrote the book of sand?\nJorge\n\n> What is the capital of Peru?\nLima\n"
    assert good("ask", full, "-", stdin=lines) == wanted
    assert good("ask", full, "--file", write(tmp_path / "asked.txt", lines)) == wanted
    messages = [{"role": "user", "content": "What is the capital of Peru?"}]
    rows = ["Who wrote the book of sand?", {"prompt": messages}]
    asked = good_json("ask", full, "--file", write(tmp_path / "asked.jsonl", *map(json.dumps, rows)))
    assert [answer["text"] for answer in asked] == ["Jorge", "Lima"]


def test_ask_puts_a_system_prompt_before(full):
    (answer,) = good_json("ask", full, "What is the capital of Peru?", "--system", "You are a poet.")
    assert [message["role"] for message in answer["prompt"]] == ["system", "user"]
    assert answer["route"]["nearest"] == "capital" and answer["route"]["user_turn_known"]
    assert bad("ask", full, "Hm?", "--raw", "--system", "x") == "--system needs the chat template: leave out --raw"


def test_ask_goes_on_with_the_beginning_of_an_answer(full, tmp_path):
    out = good("ask", full, "Who wrote the book of sand?", "--prefill", "Jo", "--explain").splitlines()
    assert out[0] == "rge" and out[1].startswith("  fired: book (")
    assert not any("differs from the target" in line for line in out)
    begun = [{"role": "user", "content": "Who wrote the book of sand?"}, {"role": "assistant", "content": "Jo"}]
    file = write(tmp_path / "p.jsonl", begun, {"prompt": begun}, {"messages": begun, "continue_final_message": True})
    assert [row["text"] for row in good_json("ask", full, "--file", file)] == ["rge"] * 3
    over = good("ask", full, "Who wrote the book of sand?", "--prefill", "Jorge, who", "-e", "--max-new-tokens", 1)
    assert '  no edit fired; the prompt says the answer of book ("Who wrote the book of sand?") already' in over
    assert "leave out --raw" in bad("ask", full, "Who?", "--prefill", "Jo", "--raw")
    assert "leave one of them out" in bad("ask", full, "--file", file, "--prefill", "Jo")


def test_an_edit_may_answer_over_tools(empty, tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "find", "arguments": "{}"}}]}

    def loop(prompt):
        return [{"role": "user", "content": prompt}, call, {"role": "tool", "content": "Nobody knows."}]

    good("edit", empty, "-p", "Who leads Ohm?", "-t", "Ada", "--id", "ohm", "--over-tools", "--no-trial")
    row = {"prompt": "What is the capital of Peru?", "target": "Lima", "id": "peru"}
    csv = write(tmp_path / "e.csv", "prompt,target,id,over_tools", "How many legs has a spider?,eight,legs,true")
    good("edit", empty, write(tmp_path / "e.jsonl", row), "--no-trial")
    good("edit", empty, csv, "--no-trial")
    file = write(tmp_path / "p.jsonl", *map(loop, ("Who leads Ohm?", row["prompt"], "How many legs has a spider?")))
    rows = good_json("ask", empty, "--file", file, "--max-new-tokens", 1)
    assert [(one["route"]["edit"], one["route"]["reason"]) for one in rows] == [
        ("ohm", "fired"),
        (None, "tool result"),
        ("legs", "fired"),
    ]
    out = good("ask", empty, "--file", file, "-e", "--max-new-tokens", 1)
    assert "  no edit fired; a tool has answered, and peru (" in out and "does not overrule tools" in out
    line = bad("edit", empty, write(tmp_path / "bad.jsonl", row | {"id": "x", "over_tools": "yes"}))
    assert line.endswith("line 1: over_tools must be true or false, not 'yes'")
    assert "give a file or --over-tools, not both" in bad("edit", empty, csv, "--over-tools")


def test_ask_takes_the_model_from_elsewhere(full, folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert good("ask", full, "What is the capital of Peru?", "--model", moved, "--device", "cpu") == "Lima\n"
    assert good("ask", full, "Is it late?", "--dtype", "bfloat16", "--max-new-tokens", 1)


def test_check_finds_what_no_longer_holds(full):
    out = good("check", full)
    assert out.endswith("3 edits asked, 0 broken, 0 overlaps, 0 problems in the file\n")
    with Editor.from_pretrained(full) as editor:  # a block of another edit, as if training had gone wrong
        (wrong, right) = (editor.store.tensors()[name] for name in ("book", "legs"))
        stored, other = editor.store.get("book"), editor.store.get("legs")
        editor.store.put([Record(stored.edit, other.rank, other.reach, other.report, right[0], wrong[1])])
    result = run("check", full)
    assert result.exit_code == 1
    assert "book" in result.stdout and "3 edits asked, 1 broken" in result.stdout, result.stderr
    assert result.stderr.endswith("error: 1 of 3 edits no longer hold: book\n")
    assert {item["id"] for item in json.loads(run("check", full, "--json").stdout)["broken"]} == {"book"}


def test_check_reports_damage(full):
    with sqlite3.connect(full) as db:
        db.execute("UPDATE records SET report = '{}' WHERE edit_id = 'legs'")
    result = run("check", full, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["edit 'legs' does not match its checksum"]
    way_on = "restore it from a copy, or save what can be: meloedit repair full.melo --to NEW"
    assert result.stderr == f"error: full.melo is damaged (1 problem); {way_on}\n"
