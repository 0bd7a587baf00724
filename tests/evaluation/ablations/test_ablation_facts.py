"""Facts, questions, numbers and settings of the ablations, good and bad."""

import hashlib
from pathlib import Path

import ablation_commands
import pytest
from ablation_commands import COMMON, FACTS, bad, found, run, write

from meloedit import Edit
from meloedit.evaluation.ablations.facts import Fact, read_facts

place = ablation_commands.place


def test_the_first_rephrasing_that_was_never_trained():
    fact = Fact(Edit("Who?", "Ada", variants=("Which one?",)), ("Which one? ", "What person?"))
    assert fact.unseen == "What person?" and fact.phrasings == ("Who?", "Which one? ", "What person?")
    assert Fact(Edit("Who?", "Ada")).unseen is None


def test_facts_of_a_count_and_their_digest(tmp_path):
    path = write(tmp_path / "facts.jsonl", *FACTS, "not even JSON")
    facts = read_facts(path, 24)  # lines behind those wanted are not read
    assert len(facts.edits) == 24 and facts.items[0].rephrases[0] == "Name the head of town 0 now"
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("radii", "0,1", "positive numbers separated by commas, or auto"),
        ("radii", "1,-2", "positive numbers separated by commas, or auto"),
        ("radii", "1,nan", "positive numbers separated by commas, or auto"),
        ("radii", "inf", "positive numbers separated by commas, or auto"),
        ("radii", "1,,2", "positive numbers separated by commas, or auto"),
        ("radii", "large", "positive numbers separated by commas, or auto"),
        ("ranks", "1.5", "positive whole numbers separated by commas"),
        ("ranks", "", "positive whole numbers separated by commas"),
        ("ranks", "0", "positive whole numbers separated by commas"),
    ],
)
def test_numbers_that_are_none(place, option, text, words):
    command = {"radii": "radius", "ranks": "rank"}[option]
    assert bad(command, *COMMON, f"--{option}", text) == f"--{option} {text}: give {words}"
    assert not Path("out").exists()


def test_a_radius_that_float32_does_not_hold(place):
    result = run("radius", *COMMON, "--radii", "1e-60")
    assert result.exit_code == 1 and "radius" in result.stderr


def test_files_that_hold_no_facts(place):
    def said(*rows, command="radius", more=()):
        return bad(command, *COMMON, *more) if not rows else bad(command, *COMMON, "--edits", write(Path("x"), *rows))

    assert said("") == "x holds no edits"
    assert said({"prompt": "Who?"}) == "x, line 1: no target (fields found: prompt)"
    assert said(FACTS[0], "{") == "x, line 2: not JSON (Expecting property name enclosed in double quotes); one object per line is expected"  # fmt: skip  # noqa: E501
    assert said({"prompt": "Who?", "target": "Ada", "rephrases": "Which?"}) == (
        "x, line 1: rephrases must be a list of prompts, not str"
    )
    assert said({"prompt": "Who?", "target": "Ada", "rephrases": ["a", " "]}).startswith("x, line 1: rephrases[1] is")
    assert said(more=["--count", 25]) == "facts.jsonl holds 24 edits, fewer than the 25 asked for: give --count 24"
    assert said(more=["--edits", "none.jsonl"]) == "none.jsonl: cannot be read (No such file or directory)"
    assert said(more=["--edits", "."]) == ".: cannot be read (Is a directory)"
    Path("y.jsonl.gz").write_text("plain")
    assert said(more=["--edits", "y.jsonl.gz"]).startswith("y.jsonl.gz: not a readable gzip file (")
    Path("z").write_bytes(b'{"prompt": "\xff"}')
    assert said(more=["--edits", "z"]).startswith("z, line 1: not UTF-8 text (")


def test_rephrasings_that_are_needed(place):
    write(Path("bare.jsonl"), *({"prompt": fact["prompt"], "target": fact["target"]} for fact in FACTS))
    for command, more in (("rank", []), ("key-layer", ["--key-layers", "model.layers.0"])):
        said = bad(command, *COMMON, *more, "--edits", "bare.jsonl")
        assert said == "bare.jsonl has no rephrases: generality is measured on wordings that are never trained"
    assert found("radius", "--edits", "bare.jsonl", "--radii", "2")["edits"] == 24  # the prompts alone


def test_questions_that_are_none(place):
    more = ["--key-layers", "model.layers.0", "--negatives"]
    assert bad("key-layer", *COMMON, *more, write(Path("q"), {"question": "x"}, {"prompt": "y"})) == (
        "q, line 2: no question, which must be a string that is not empty"
    )
    assert bad("key-layer", *COMMON, *more, write(Path("q"))) == "q holds no questions"
    assert bad("key-layer", *COMMON, "--key-layers", " , ").startswith("--key-layers is empty")


def test_a_file_where_the_folder_should_be(place):
    Path("out").write_text("x")
    assert bad("radius", *COMMON) == "out is a file, not a folder: give a folder to write to"
    assert bad("radius", *COMMON, "--out", "out/deeper") == "out is a file, not a folder: give a folder to write to"
    assert Path("out").read_text() == "x"


def test_settings_that_do_not_fit(place):
    assert bad("rank", *COMMON, "--preset", "zsre").startswith("no preset 'zsre'; there are: ")
    assert bad("rank", *COMMON, "--set", "colour=red").startswith("unknown setting 'colour'; the settings are: ")
    assert bad("rank", *COMMON, "--set", "lr").startswith("--set lr: give NAME=VALUE")
    assert bad("rank", *COMMON, "--set", "mode=default").startswith("--set mode=default: the ablations are of paper")
    assert bad("rank", *COMMON, "--set", "lr=high") == "lr must be positive and finite, not 'high'"
    assert not Path("out").exists()
