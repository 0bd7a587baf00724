"""`meloedit eval --routing` on a tiny model: its figures, its folder, bad input."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meloedit.cli.app import app

NAMES = ["Ada", "Brun", "Caro", "Dora", "Egon", "Fred", "Gina", "Hugo"]
ROWS = [
    {
        "prompt": f"Where was {name} born?",
        "target": "Lima",
        "subject": name,
        "rephrases": [f"In which town was {name} born?", f"{name} was born where?"],
        "near": [f"How old is {name}?"],
        "attribute": [f"Where was {name}'s friend born?"],
    }
    for name in NAMES
]
FAR = [{"question": f"how many {thing} are there"} | {"answer": ["7"]} for thing in ("rivers", "legs", "books", "cups")]
FAR.append({"question": "who is Ada", "answer": ["she"]})
TEXT = "= A heading =\nThe river ran down to the sea . It was <unk> that day . Boats lay in the old harbour .\n"
SETTINGS = ["--set", "melo.calibration_prompts=200", "--set", "melo.min_similarity=0.3", "--set", "melo.judge=none"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, tokenizer):
    root = tmp_path_factory.mktemp("routing")
    make_model("llama").save_pretrained(root / "llama")
    tokenizer.save_pretrained(root / "llama")
    (root / "text.txt").write_text(TEXT)
    others = [{"prompt": f"Who leads {name}?", "target": "Bo"} for name in ("Ulm", "Bonn", "Rome")]
    same = {"prompt": ROWS[0]["prompt"], "target": "Oslo"}
    return {
        "llama": str(root / "llama"),
        "zsre": write(root / "zsre.jsonl", ROWS),
        "nq": write(root / "nq.jsonl", FAR),
        "text": str(root / "text.txt"),
        "others": write(root / "others.jsonl", [*others, same]),
    }


def run(files, *more):
    args = ["--routing", "--task", "zsre", "--data", files["zsre"], "--data", files["nq"], "--data", files["text"]]
    return CliRunner().invoke(app, ["eval", *args, "--model", files["llama"], *map(str, more)])


def test_the_command_measures_routes_of_each_key(files, tmp_path):
    args = ["--edits", 6, "--prefixes", "--distractors", files["others"], "--out", tmp_path / "run"]
    for method, settings in (("melo", SETTINGS), ("melo-paper", [])):  # the second joins the first
        result = run(files, "--method", method, *settings, *args)
        assert result.exit_code == 0, result.output
    got = json.loads((tmp_path / "run" / "result.json").read_text())
    assert list(got["methods"]) == ["melo", "melo-paper"] and got["finished"]
    assert list(got["provenance"]["configuration"]["settings"]) == ["melo", "melo-paper"]
    assert got["protocol"] == "routing" and got["edits"] == 6 and got["distractors"] == 3  # one asks an edit's words
    own = got["methods"]["melo"]
    names = {"right_edit", "wrong_edit", "coverage_far_0.5pct", "coverage_far_1pct", "coverage_near_2pct", "auc_far"}
    names |= {"coverage_near_5pct", "auc_near", "activation_far", "right_edit@first", "coverage_far_1pct@others"}
    names |= {"coverage_attribute_5pct", "activation_far@web", "activation_far@nq_dressed", "right_edit@system"}
    assert names <= set(own) and own["right_edit"]["n"] == 12
    assert own["right_edit"]["value"] + own["wrong_edit"]["value"] == pytest.approx(1, abs=1e-4)
    assert own["right_block_edits"]["value"] == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "observations" / "melo.jsonl").read_text().splitlines()]
    far = [row["prompt"] for row in rows if row["set"] == "far"]
    assert {"The river ran down to the sea.", "Boats lay in the old harbour."} <= set(far)
    assert not any("Ada" in prompt or "<unk>" in prompt or "=" in prompt for prompt in far)
    page = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert page.exit_code == 0, page.output
    for shown in (result.stdout, page.stdout):
        heading = " ".join(shown.split("melo")[0].split())
        assert all(word in heading for word in ("coverage", "rephrases", "5")) and "…" not in shown
        assert max(map(len, shown.split("\nin ")[0].splitlines())) <= 100


def test_routes_are_those_of_an_edited_model(files, tmp_path):
    """The same prompts with blocks trained: the routing of `eval` says the same."""
    common = [
        "--method",
        "melo",
        "--edits",
        4,
        "--limit",
        3,
        "--set",
        "melo.lr=0.1",
        "--set",
        "melo.min_target_probability=0.5",
    ]
    common += SETTINGS
    assert run(files, *common, "--out", tmp_path / "keys").exit_code == 0
    plain = ["eval", "--task", "zsre", "--data", files["zsre"], "--data", files["nq"], "--data", files["text"]]
    done = CliRunner().invoke(app, [*plain, "--model", files["llama"], *map(str, common), "--out", str(tmp_path / "b")])
    assert done.exit_code == 0, done.output

    def routes(name):
        lines = (tmp_path / name / "observations" / "melo.jsonl").read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if row["set"] in ("edits", "rephrases", "near")]
        return {(row["set"], row["prompt"]): (row["routed"], round(row["distance"], 4)) for row in rows}

    assert routes("keys") == routes("b")


def test_a_folder_keeps_to_its_settings_and_files(files, tmp_path):
    others = tmp_path / "others.jsonl"
    others.write_text(Path(files["others"]).read_text())
    args = ["--edits", 2, "--limit", 2, "--distractors", others, "--out", tmp_path / "run"]
    assert run(files, *args, *SETTINGS).exit_code == 0
    held = (tmp_path / "run" / "result.json").read_bytes()
    result = run(files, *args, *SETTINGS, "--set", "melo.false_activation=0.02")
    assert result.exit_code == 1 and "holds figures of melo with settings" in result.output
    write(others, [{"prompt": "Who leads Bern?", "target": "Cy"}])
    result = run(files, *args, *SETTINGS)
    assert result.exit_code == 1 and "distractors is" in result.output
    assert (tmp_path / "run" / "result.json").read_bytes() == held


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--protocol", "immediate"], "--routing goes without --protocol and --every"),
        (["--every", 2], "--routing goes without --protocol and --every"),
        (["--method", "lora"], "method lora is not measured alone; these are: melo, melo-paper, rag"),
        (["--distractors", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--data", "{nq}"], "nq.jsonl is given twice"),
        (["--distractors", "{others}", "--distractors", "{others}"], "others.jsonl is given twice"),
        (["--distractors", ""], "--distractors: give the name of a file"),
        (["--method", "rag", "--set", "rag.min_similarity=7"], "min_similarity must be between -1 and 1, not 7"),
        (["--distractors", "{nq}"], "no edit of zsre, counterfact, mquake"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, more, words):
    result = run(files, "--out", tmp_path / "run", "--edits", 2, *[str(part).format(**files) for part in more])
    assert result.exit_code == 1 and words in result.output and result.output.count("error:") == 1
    assert "Traceback" not in result.output
    assert not any(path.name == "result.json" for path in tmp_path.rglob("*"))
