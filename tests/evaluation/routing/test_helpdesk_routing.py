"""`meloedit eval --task helpdesk` on a tiny model: routes alone, answers too, and a model without a chat template."""

import json

import pytest
import torch
from typer.testing import CliRunner

from meloedit.cli.app import app
from meloedit.evaluation.routing.retriever import Nearest
from meloedit.evaluation.routing.routed_set import RoutedSet, routing_figures
from meloedit.evaluation.run.prompts import EvalPrompt

SETTINGS = ["--set", "melo.calibration_prompts=200", "--set", "melo.min_similarity=0.3"]
QUICK = [*SETTINGS, "--set", "melo.lr=0.1", "--set", "melo.min_target_probability=0.5"]


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def row(name, number, lang):
    return {
        "prompt": f"Where was {name} born?",
        "target": "Lima",
        "subject": name,
        "lang": lang,
        "rephrasings": [f"In which town was {name} born?", f"{name} was born where?", "Her town?", f"{name} born"],
        "near_same_subject": [f"How old is {name}?", f"Who is {name}?"],
        "near_same_relation": [f"Where was {name}son born?"],
        ("multi_turn", "pronoun_turn")[number % 2]: turns("hi", "Hello!", f"Where was {name} born?"),
    }


ROWS = [row(name, i, "en" if i < 4 else "de") for i, name in enumerate(["Ada", "Brun", "Caro", "Dora", "Egon"])]
UNRELATED = "Tell me a joke.\nWhat is Ada in Lisp?\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_model, make_tokenizer):
    root = tmp_path_factory.mktemp("helpdesk")
    for name, template in (("llama", "chatml"), ("bare", None)):
        make_model("llama").save_pretrained(root / name)
        make_tokenizer(template).save_pretrained(root / name)
    (root / "desk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (root / "unrelated.txt").write_text(UNRELATED)
    return root


def run(files, out, *more, model="llama"):
    args = ["--task", "helpdesk", "--data", files / "desk.jsonl", "--data", files / "unrelated.txt"]
    done = CliRunner().invoke(app, ["eval", *map(str, [*args, "--model", files / model, "--out", out, *more])])
    assert done.exit_code == 0, done.output
    return done, json.loads((out / "result.json").read_text())


def observed(out, method="melo"):
    return [json.loads(line) for line in (out / "observations" / f"{method}.jsonl").read_text().splitlines()]


def test_routes_by_kind_and_language(files, tmp_path):
    done, result = run(files, tmp_path / "run", "--routing", *SETTINGS)
    own = result["methods"]["melo"]
    wanted = {"reaches_close", "reaches_far", "reaches_terse", "reaches_chat", "reaches_pronoun", "activation_far"}
    wanted |= {"fires_same_subject_hard", "fires_same_subject_easy", "fires_same_subject", "fires_same_relation"}
    parts = {"auc_same_subject", "coverage_same_subject_5pct", "coverage_same_subject_2pct", "auc_same_relation"}
    parts |= {"coverage_same_relation_5pct", "reaches_close", "fires_same_relation"}
    assert wanted | parts <= set(own)
    assert {f"{name}@{part}" for name in parts for part in ("en", "other", "de")} <= set(own)
    assert own["reaches_close"]["n"] == 10 and own["reaches_close@de"]["n"] == 2 and own["reaches_pronoun"]["n"] == 2
    assert own["activation_far"]["n"] == 2  # "Ada" of the file of unrelated prompts stays
    assert {"right_edit@terse", "coverage_far_1pct@far"} <= set(own) and "right_edit@first" not in own
    rows = observed(tmp_path / "run")
    chats = [row for row in rows if row["set"] == "chats"]
    assert {row["kind"] for row in chats} == {"chat", "pronoun"} and chats[0]["lang"] == "en"
    reached = [row["routed"] == "right" for row in rows if row["kind"] == "close"]
    assert own["reaches_close"]["value"] == pytest.approx(sum(reached) / len(reached))
    fired = [row["routed"] != "none" for row in rows if (row["kind"] or "").startswith("same subject")]
    assert own["fires_same_subject"]["value"] == pytest.approx(sum(fired) / len(fired))
    page = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert page.exit_code == 0, page.output
    for shown in (done.stdout, page.stdout):
        assert "terse" in shown and "relation" in shown and max(map(len, shown.split("\nin ")[0].splitlines())) <= 100
    html = (tmp_path / "run" / "report.html").read_text()
    assert "fired, same subject, hard" in html and "Of a part of the prompts: de" in html


def test_the_usual_protocol_makes_the_edits_and_answers(files, tmp_path):
    _, result = run(files, tmp_path / "run", "--edits", 2, "--method", "melo,none", *QUICK)
    own, none = result["methods"]["melo"], result["methods"]["none"]
    assert {"generality", "generality@close", "generality@terse", "locality_near@same_relation"} <= set(own)
    assert {"reaches_close", "fires_same_subject_hard", "activation_far"} <= set(own)
    assert {name for name in own if name.startswith("generality@")} >= {"generality@chat", "generality@pronoun"}
    assert own["generality"]["n"] == 8 and own["edit_success"]["value"] == 1
    assert "generality@close" in none and "reaches_close" not in none
    asked = {row["set"] for row in observed(tmp_path / "run")}
    assert asked == {"edits", "rephrases", "chats", "near", "far"}


def test_prefixes_and_distractors(files, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps(row("Fred", 0, "en")) + "\n")
    _, result = run(files, tmp_path / "run", "--routing", "--prefixes", "--distractors", more, *SETTINGS)
    own = result["methods"]["melo"]
    assert result["distractors"] == 1 and "right_edit@system" in own
    assert not any(name.count("@") > 1 for name in own)


def test_conversations_are_left_out_where_there_is_no_chat_template(files, tmp_path):
    chat = ROWS[0] | {"prompt": turns("hi", "Hello!", "Who leads Ulm?"), "subject": "Ulm", "id": "chat"}
    path = files / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[1:], chat | {"rephrasings": ["Ulm's leader?"]}]))
    out = tmp_path / "run"
    args = [
        "eval",
        "--routing",
        "--task",
        "helpdesk",
        "--data",
        path,
        "--model",
        files / "bare",
        "--out",
        out,
        *SETTINGS,
    ]
    done = CliRunner().invoke(app, list(map(str, args)))
    assert done.exit_code == 0, done.output
    result = json.loads((out / "result.json").read_text())
    cleaning = result["provenance"]["cleaning"]
    assert (result["edits"], cleaning["conversation_edits"], cleaning["conversations"]) == (4, 1, 4)
    assert "left out: 4 conversations: the model has no chat template" in result["notes"]
    assert "left out: 1 edit of a conversation: the model has no chat template" in result["notes"]
    assert "reaches_chat" not in result["methods"]["melo"]
    assert not any(row["set"] == "chats" for row in observed(out))


def test_coverage_against_kinds_by_hand():
    def prompts(set_, *rows):
        return [EvalPrompt(set_, item, 0, "?", edit="e", kind=kind, lang=lang) for item, kind, lang in rows]

    near = [EvalPrompt("near", i, 0, "?", kind=kind, lang="en") for i, kind in enumerate(
        ("same subject hard", "same subject easy", "same relation"))]  # fmt: skip
    asked = prompts("rephrases", (0, "close", "en"), (1, "close", "en"), (2, "far", "en"), (3, "terse", "de"))
    sets = {
        "rephrases": RoutedSet(asked, Nearest(torch.tensor([0, 9, 2, 3]), torch.tensor([0.1, 0.1, 0.5, 0.2]))),
        "near": RoutedSet(near, Nearest(torch.tensor([0, 1, 2]), torch.tensor([0.3, 0.6, 0.4]))),
    }
    values = {name: round(figure.value, 4) for name, figure in routing_figures(sets, None).items()}
    assert values["coverage_same_subject_5pct"] == 0.5  # below 0.3: three, of which one is nearest to a wrong edit
    assert values["coverage_same_subject_easy_5pct"] == 0.75
    assert values["coverage_same_relation_5pct@en"] == 0.3333
    assert values["auc_same_subject"] == round((2 + 2 + 1 + 2) / 8, 4)
    assert values["auc_same_relation@en"] == 0.6667 and "auc_same_relation@de" not in values
    assert values["right_edit@close"] == 0.5
