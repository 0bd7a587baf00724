"""Rank, key layer and efficiency, and all ablations with the editor itself."""

import gzip
import json
from pathlib import Path

import ablation_commands
import pytest
import torch
from ablation_commands import COMMON, FACTS, SIZE, FakeEditor, bad, check_png, found, good, rows_of, write

from meloedit.evaluation.ablations.edits import parameters

place = ablation_commands.place


def test_parameters_are_those_of_the_papers_example():
    assert parameters([(1024, 512)] * 4, rank=2, edits=1000, edits_per_block=100) == 122_880
    assert parameters([(8, 4)], rank=3, edits=101, edits_per_block=100) == 2 * 3 * 12
    assert parameters([(8, 4), (4, 8)], rank=1, edits=1, edits_per_block=100) == 24


def test_rank(place):
    data = found("rank", "--ranks", "1,2", "--set", "radius=4")
    one, two = data["runs"]
    assert (two["edit_success"], two["rephrase_success"], two["edit_f1"], two["held"]) == (1, 1, 1, 24)
    assert (one["edit_success"], one["rephrase_success"]) == (0.5, 0.5) and 0.5 <= one["edit_f1"] < 1
    assert (two["edits"], two["rephrased"], two["clusters"], two["forgotten"]) == (24, 24, 24, 0)
    assert (two["edit_reached"], one["edit_reached"], one["rephrase_reached"]) == (1, 1, 1)
    assert [row["rank"] for row in rows_of("out/rank.csv")] == ["1", "2"]
    assert float(rows_of("out/rank.csv")[0]["edit_f1"]) == one["edit_f1"]
    check_png(Path("out/rank.png"))
    out = good("rank", "--ranks", "1,2", "--set", "radius=4")
    assert "rephrased right" in out and "0.5" in out


def test_facts_without_rephrasings_are_left_out_of_generality(place):
    rows = [fact if i % 2 else {k: v for k, v in fact.items() if k != "rephrases"} for i, fact in enumerate(FACTS)]
    write(Path("facts.jsonl"), *rows)
    (made,) = found("rank", "--ranks", "1", "--set", "radius=4")["runs"]
    assert (made["edits"], made["rephrased"], made["edit_success"], made["rephrase_success"]) == (24, 12, 0.5, 1)


def test_key_layer(place):
    questions = ["who leads town 3 now?", "where is it", "when was that"]
    with gzip.open("nq.jsonl.gz", "wt") as stream:
        stream.write("".join(json.dumps({"question": text, "answer": ["x"]}) + "\n" for text in questions))
    layers = "model.layers.0,model.layers.1.mlp.down_proj"
    data = found("key-layer", "--key-layers", layers, "--negatives", "nq.jsonl.gz", "--set", "radius=4")
    assert [made["key_layer"] for made in data["runs"]] == layers.split(",")
    for made in data["runs"]:
        assert made["edit_success"] == made["rephrase_success"] == 1 and made["negatives"] == 3
        assert made["activation"] == pytest.approx(1 / 3) and made["activation_dressed"] == pytest.approx(1 / 3)
    assert [config.key_layer for config in FakeEditor.opened] == layers.split(",")
    assert float(rows_of("out/key-layer.csv")[0]["activation"]) == pytest.approx(1 / 3)
    check_png(Path("out/key-layer.png"))
    assert "activation" not in found("key-layer", "--key-layers", layers)["runs"][0]
    said = bad("key-layer", *COMMON, "--key-layers", "model.layers.0,model.layers.9")
    assert said == "no module 'model.layers.9' to take keys from"


def test_efficiency(place):
    data = found("efficiency", "--count", 20, "--set", "rank=2", "--set", 'key_layer="model.layers.1.mlp.down_proj"')
    counted = data["parameters"]
    assert counted["melo_blocks"] == 100 * 2 * 2 * (48 + 32) == parameters([(48, 32)] * 2, 2, 1000, 10)
    assert counted["melo_blocks_and_keys"] - counted["melo_blocks"] == 1000 * SIZE
    assert (counted["grace_values"], counted["grace_keys_and_values"]) == (32_000, 80_000)  # down_proj is 48 -> 32
    measured = data["measured"]
    assert (measured["edits"], measured["blocks"]) == (20, 2)
    assert measured["block_bytes_per_edit"] == 2 * 2 * 2 * 80 * 4 / 20 and measured["key_bytes_per_edit"] >= 4 * SIZE
    assert measured["edits_per_minute"] * measured["seconds_per_edit"] == pytest.approx(60)
    rows = {row["name"]: row["value"] for row in rows_of("out/efficiency.csv")}
    assert rows["melo_blocks"] == "32000" and rows["per_edits"] == "1000"
    check_png(Path("out/efficiency.png"))
    # A key layer that is no linear module has one width; the measured run is kept.
    data = found("efficiency", "--count", 20)
    assert data["parameters"]["grace_keys_and_values"] == 2 * 1000 * SIZE
    assert found("efficiency", "--count", 20) == data and len(FakeEditor.opened) == 2
    assert "edits per minute" in good("efficiency", "--count", 20)


def test_the_editor_itself(make_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make_model("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    monkeypatch.setattr("meloedit.cli.commands.ablate.load", lambda *_: (model, tokenizer))
    write(Path("facts.jsonl"), *FACTS[:6])
    write(Path("nq.jsonl"), {"question": "where is it"})
    small = ["--set", "edits_per_block=3", "--set", "steps=2", "--set", "radius=0.5"]
    data = found("radius", "--wordings", 2)
    assert data["edits"] == 12 and data["runs"][0]["curve"][-1]["edits"] == 12
    assert found("radius", "--wordings", 2, "--set", "reference_quirks=true")["runs"][0]["curve"][-1]["edits"] == 12
    assert len(found("keys", "--targets", 2)["points"]) == 16
    assert [made["edits"] for made in found("rank", "--ranks", "1,2", *small)["runs"]] == [6, 6]
    layer = "model.layers.0.mlp.down_proj"
    (made,) = found("key-layer", "--key-layers", layer, "--negatives", "nq.jsonl", *small)["runs"]
    assert 0 <= made["activation"] <= 1 and made["edit_reached"] > 0.5
    data = found("efficiency", *small)
    assert (data["parameters"]["melo_blocks"], data["measured"]["blocks"]) == (334 * 2 * 3 * (48 + 32), 2)
    assert data["measured"]["key_bytes_per_edit"] > 4 * 32
    said = bad("rank", *COMMON, "--ranks", "1", "--set", "key_layer=model.layers.9")
    assert said.startswith("no module 'model.layers.9'")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_what_is_varied_prevails_over_what_is_set(place):
    found("rank", "--ranks", "2,8", "--set", "rank=4", "--set", "lr=0.5")
    assert [(config.rank, config.lr) for config in FakeEditor.opened] == [(2, 0.5), (8, 0.5)]
