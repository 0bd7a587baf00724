"""Edits and prompts that cannot be read: one line that names file and line, and nothing stored."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from cli_fixtures import SETTINGS
from cli_helpers import FACTS, bad, good, good_json, run, write

pytest_plugins = ["cli_fixtures"]


LINES = [
    ('{"prompt" "x"}', "not JSON (Expecting ':' delimiter); one object per line is expected"),
    ('["x", "y"]', "expected an object with 'prompt' and 'target', not list"),
    ('{"prompt": "x"}', "no target (fields found: prompt)"),
    ('{"target": "x"}', "no prompt (fields found: target)"),
    ('{"prompt": " ", "target": "x"}', "prompt is empty: give the text that the model is asked"),
    ('{"prompt": "x", "target": ""}', "target must be a non-empty string, not ''"),
    ('{"prompt": "x", "target": "y", "quite": []}', "unknown field 'quite' (known: prompt, target, id, variants, "
     "quiet, metadata, over_tools, subject; put other data into 'metadata')"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), LINES)
def test_a_line_that_is_no_edit(empty, text, said):
    before = empty.read_bytes()
    assert bad("edit", empty, write(Path("bad.jsonl"), FACTS[0], "", text, FACTS[1])) == f"bad.jsonl, line 3: {said}"
    assert bad("edit", empty, "-", stdin=f"\n{text}\n") == f"standard input, line 2: {said}"
    assert empty.read_bytes() == before


def test_lines_that_contradict_each_other(empty):
    other = FACTS[0] | {"target": "Luis", "id": "other"}
    assert bad("edit", empty, write(Path("two.jsonl"), FACTS[0], FACTS[1], other)) == (
        "two.jsonl, line 3 contradicts two.jsonl, line 1: same prompt or id, other target; keep one of them"
    )


def test_edits_that_do_not_fit_name_their_line(full):
    long = {"id": "long", "prompt": "very " * 300, "target": "x"}
    said = bad("edit", full, write(Path("long.jsonl"), FACTS[0], long))
    assert said.startswith("long.jsonl, line 2: edit 'long': the prompt has ") and "the model takes 256" in said
    mute = {"id": "mute", "prompt": "Say it", "target": "<|im_end|>"}
    said = bad("edit", full, write(Path("mute.jsonl"), mute))
    assert said.startswith("mute.jsonl, line 1: edit 'mute': the target '<|im_end|>' has ")
    other = FACTS[2] | {"target": "six"}
    said = bad("edit", full, write(Path("other.jsonl"), FACTS[0], other))
    assert said == (
        "other.jsonl, line 2: edit 'legs' is in the store with other content: use replace (--replace) to change it, "
        "or another id"
    )
    assert len(good_json("ls", full)) == 3


def test_a_target_of_no_tokens(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deaf = Path(shutil.copytree(folder, "deaf"))
    tokenizer = json.loads((deaf / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "#"}, "content": ""}
    (deaf / "tokenizer.json").write_text(json.dumps(tokenizer))
    good("init", "deaf.melo", "--model", deaf, *SETTINGS)
    said = bad("edit", "deaf.melo", "-p", "Who?", "-t", "##", "--id", "mute")
    assert said.startswith("edit 'mute': ") and "the target '##'" in said and "this model's vocabulary" in said


def test_wrong_combinations_of_arguments(empty):
    assert bad("edit", empty) == "give a file of edits, or --prompt and --target"
    assert bad("edit", empty, "--prompt", "x") == "give a file of edits, or --prompt and --target"
    assert bad("edit", empty, "x.jsonl", "--prompt", "x") == "give a file or --prompt, not both"
    assert bad("edit", empty, "x.jsonl", "--quiet", "x") == "give a file or --quiet, not both"
    assert bad("edit", empty, "x.jsonl") == "x.jsonl: cannot be read (No such file or directory)"
    assert bad("edit", empty, write(Path("none.jsonl"))) == "none.jsonl holds no edits"
    assert bad("ask", empty) == "nothing to ask: give a prompt, - for prompts on stdin, or --file FILE"
    assert bad("ask", empty, " ") == "prompt is empty: give the text that the model is asked"
    assert run("ls").exit_code == run("bogus").exit_code == run("ls", empty, "--bogus").exit_code == 2


def test_prompts_that_are_none(empty):
    for text, said in [
        ("{", "not JSON (Expecting property name enclosed in double quotes); one object per line is expected"),
        ('{"text": "x"}', "no prompt (fields found: text)"),
        ('""', "prompt is empty: give the text that the model is asked"),
        ("7", "prompt must be a string or a non-empty list of chat messages, not int"),
    ]:  # fmt: skip
        path = write(Path("traffic.jsonl"), '"Who?"', text)
        assert bad("calibrate", empty, "--prompts", path) == f"traffic.jsonl, line 2: {said}"
    assert bad("calibrate", empty, "--prompts", write(Path("t.txt"))) == (
        "t.txt holds no prompts: one per line is expected"
    )
    Path("t.txt").write_bytes(b"\xff\xfe")
    assert (
        bad("calibrate", empty, "--prompts", "t.txt") == "t.txt, line 1: not UTF-8 text (invalid start byte at byte 0)"
    )


def test_files_that_are_odd(empty):
    for args in (["ask", empty, "-f"], ["calibrate", empty, "--prompts"]):
        whole = gzip.compress(b"Who?\n" * 1000)
        Path("t.txt.gz").write_bytes(whole[:12] + b"\xff" * 9 + whole[21:])
        assert bad(*args, "t.txt.gz").startswith("t.txt.gz: not a readable gzip file (")
        path = write(Path("t.txt"), "Who?", "x" * 1_000_001)
        assert bad(*args, path).startswith("t.txt, line 2: 1,000,002 characters in one line, at most 1,000,000 are ")
    deep = '{"prompt": "x", "target": "y", "metadata": {"a": %s}}'
    for levels, said in [(70, "nested more than 64 levels deep"), (900, "nested more than 64"), (50_000, "not JSON (")]:
        path = write(Path("deep.jsonl"), FACTS[0], deep % ("[" * levels + "]" * levels))
        assert bad("edit", empty, path).startswith(f"deep.jsonl, line 2: {said}")
        Path("deep.csv").write_text(f"prompt,target,metadata\nx,y,{'[' * levels}{']' * levels}\n")
        assert bad("edit", empty, "deep.csv").startswith("deep.csv, line 2: column 'metadata' ")
    for number in ("NaN", "1e999"):
        said = bad("edit", empty, write(Path("nan.jsonl"), deep % number))
        assert said.startswith("nan.jsonl, line 1: metadata must be JSON: ")
    said = bad("edit", empty, write(Path("one.csv"), "Who leads Ohm?,Ada"))
    assert said == (
        "one.csv, line 1: the header has no column 'prompt' and no column 'target' "
        "(columns found: 'Who leads Ohm?', 'Ada')"
    )


def test_a_prompt_that_is_too_long_names_its_line(full):
    path = write(Path("t.txt"), *(f"Who is number {number}?" for number in range(60)), "very " * 300)
    for args in (["calibrate", full, "--prompts", path], ["ask", full, "-f", path]):
        result = run(*args)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: t.txt, line 61: the prompt has "), result.stderr
