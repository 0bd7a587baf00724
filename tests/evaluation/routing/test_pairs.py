"""Pairs: figures worked by hand, each edit alone, and the command on a tiny model."""

import json
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from meloedit import Edit
from meloedit.cli.app import app
from meloedit.evaluation.routing.pairs import pair_figures
from meloedit.evaluation.routing.retriever import Nearest
from meloedit.evaluation.routing.retrievers import RETRIEVERS, MeloRetriever, PaperRetriever
from meloedit.evaluation.routing.routed_set import RoutedSet
from meloedit.evaluation.run.prompts import EvalPrompt
from meloedit.methods.none import Unedited

QUICK = {"calibration_prompts": 200, "min_similarity": 0.3}


def routed(*rows):
    """Rows are (item, same, category, distance)."""
    prompts = [
        EvalPrompt("rephrases" if same else "near", item, 0, "?", edit=f"e{item}" if same else None, kind=kind)
        for item, same, kind, _ in rows
    ]
    distance = torch.tensor([row[3] for row in rows], dtype=torch.float64)
    return RoutedSet(prompts, Nearest(torch.tensor([0 if row[3] < 9 else -1 for row in rows]), distance))


def test_figures_by_hand():
    pairs = routed(
        (0, True, "wording", 0.1),
        (0, True, "wording", 0.5),
        (1, True, "typo", 0.3),
        (0, False, "negation", 0.2),
        (2, False, "negation", 0.6),
        (3, False, "number", 0.9),
    )
    found = pair_figures(pairs, [0.4] * 5 + [1.0])
    values = {name: round(figure.value, 4) for name, figure in found.items()}
    assert values["auc"] == round((3 + 2 + 2) / 9, 4)
    assert values["hits"] == 0.6667 and values["traps"] == 0.6667  # the last pair has a threshold of its own
    assert values["coverage_traps_5pct"] == 0.3333  # below the nearest trap: 0.1 alone
    assert values["hits@wording"] == 0.5 and values["traps@negation"] == 0.5 and values["traps@number"] == 1
    assert values["auc@number"] == 1 and values["auc@negation"] == round(4 / 6, 4)  # against all hits
    assert values["auc@wording"] == round((3 + 2) / 6, 4)  # against all traps
    assert "traps@wording" not in values and "hits@negation" not in values
    assert found["hits"].n == 3 and found["auc"].n == 3
    without = pair_figures(pairs, None)
    assert "hits" not in without and without["auc"].value == found["auc"].value


def test_a_category_with_hits_and_traps_stands_by_itself():
    pairs = routed((0, True, "a b, c", 0.4), (1, False, "a b, c", 0.5), (2, True, None, 0.6), (3, False, None, 0.1))
    found = pair_figures(pairs, None)
    assert found["auc"].value == 0.25 and found["auc@a_b_c"].value == 1
    alone = pair_figures(routed((0, True, None, 0.4)), [0.5])
    assert set(alone) == {"hits"}


def test_the_judge_is_measured_by_itself():
    rows = [(0, True, "a", 9.0), (1, False, "a", 0.3), (2, False, "b", 0.4)]  # the hit has no candidate
    judged = routed(*((*row[:3], score) for row, score in zip(rows, (0.2, 0.1, 0.9), strict=True)))
    found = pair_figures(routed(*rows), None, judged)
    assert found["auc"].value == 0 and found["auc_judge"].value == 0.5
    assert found["auc_judge@a"].value == 0 and found["auc_judge@b"].value == 1
    assert "auc_judge" not in pair_figures(routed(*rows), None)


def test_each_edit_is_alone_in_the_index(make_model, tokenizer):
    base = Unedited(make_model("llama"), tokenizer)
    edits = [Edit(f"Where was {name} born?", "yes", name, variants=(f"{name}'s place of birth?",)) for name in "ABC"]
    prompts = ["In which town was A born?", "How old is B?", "Boats lie in the harbour."]
    for kind, settings in ((MeloRetriever, QUICK), (PaperRetriever, {})):
        together = kind(base, settings, lambda *step: None)
        found = together.search_pairs(edits, prompts)
        together.close()
        assert found.owner.tolist() == [0, 1, 2]
        for i, (edit, prompt) in enumerate(zip(edits, prompts, strict=True)):
            alone = kind(base, settings, lambda *step: None)
            alone.add([edit])
            assert float(alone.search([prompt]).distance) == pytest.approx(float(found.distance[i]), abs=1e-5)
            assert alone.threshold == pytest.approx(float(found.threshold[i]))
            alone.close()


ROWS = [
    {"a": f"Where was {name} born?", "b": text.format(name), "same": same, "why": why}
    for name in ("Ada", "Brun", "Caro")
    for text, same, why in (
        ("In which town was {} born?", True, "paraphrase"),
        ("How old is {}?", False, "same subject, other relation"),
    )
]


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, tokenizer):
    root = tmp_path_factory.mktemp("pairs")
    make_model("llama").save_pretrained(root / "llama")
    tokenizer.save_pretrained(root / "llama")
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return SimpleNamespace(model=str(root / "llama"), pairs=str(root / "pairs.jsonl"))


def run(files, *more):
    args = ["eval", "--task", "pairs", "--data", files.pairs, "--model", files.model, *map(str, more)]
    return CliRunner().invoke(app, args)


def test_the_command_measures_pairs(files, tmp_path):
    quick = [part for name, value in QUICK.items() for part in ("--set", f"melo.{name}={value}")]
    done = run(files, "--routing", "--method", "melo,melo-paper", *quick, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["edits"] == 6 and "scored: 6 pairs" in result["notes"]
    own = result["methods"]["melo"]
    assert {"auc", "hits", "traps", "traps@same_subject_other_relation", "hits@paraphrase"} <= set(own)
    assert own["hits"]["n"] == own["traps"]["n"] == 3
    rows = [json.loads(line) for line in (tmp_path / "run" / "observations" / "melo.jsonl").read_text().splitlines()]
    assert [row["set"] for row in rows].count("rephrases") == 3 and len(rows) == 6
    assert {row["kind"] for row in rows if row["set"] == "near"} == {"same subject, other relation"}
    assert all(row["nearest"] == row["wanted"] for row in rows if row["set"] == "rephrases")
    page = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert page.exit_code == 0, page.output
    for shown in (done.stdout, page.stdout):
        assert "auc" in shown.lower() and "traps" in shown
    html = (tmp_path / "run" / "report.html").read_text()
    assert "hits that fire" in html and "Of a part of the prompts: paraphrase" in html


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "task pairs says which prompts ask the same, not what to answer: give --routing"),
        (["--routing", "--prefixes"], "--prefixes does not fit task pairs"),
        (["--routing", "--distractors", "x.jsonl"], "--distractors does not fit task pairs"),
        (["--routing", "--edits", 7], "6 edits, fewer than the 7 asked for"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, more, words):
    done = run(files, *more, "--out", tmp_path / "run")
    assert done.exit_code == 1 and words in done.output and done.output.count("error:") == 1


def test_every_retriever_knows_pairs():
    assert list(RETRIEVERS) == ["melo", "melo-paper", "rag"]
    assert not any(kind.__abstractmethods__ for kind in RETRIEVERS.values())
