"""The radius and the map of keys, on keys that are known."""

import hashlib
import json
import math
from pathlib import Path

import ablation_commands
import pytest
import torch
from ablation_commands import FACTS, SIZE, FakeEditor, check_png, found, good, rows_of, run, write

from meloedit.evaluation.ablations import keys as key_ablations
from meloedit.evaluation.ablations import plots
from meloedit.evaluation.ablations.keys import at_quantiles, insert
from meloedit.files import load_tensors
from meloedit.paper.clusters import ClusterIndex
from meloedit.paper.config import PaperConfig

place = ablation_commands.place


def stream(facts=40, wordings=4):
    """Keys of facts far apart, wordings near each other, and the facts' own labels."""
    made = torch.Generator().manual_seed(1)
    centres = torch.randn(facts, 8, generator=made) * 20
    keys = centres.repeat_interleave(wordings, 0) + torch.randn(facts * wordings, 8, generator=made)
    order = torch.randperm(facts * wordings, generator=made)
    return keys[order], [f"target {i}" for i in (order // wordings).tolist()]


def curve(radius, keys, labels, **settings):
    config = PaperConfig(radius=radius, edits_per_block=25, **settings)
    return insert(keys, labels, config, lambda *_: None)["curve"]


def test_larger_radii_give_fewer_clusters():
    keys, labels = stream()
    curves = [curve(radius, keys, labels) for radius in (0.1, 1.0, 2.0, 4.0)]
    clusters = [made[-1]["clusters"] for made in curves]
    assert clusters == sorted(clusters, reverse=True) and clusters[0] == 160 and clusters[-1] == 40
    assert [point["edits"] for point in curves[0]] == [25, 50, 75, 100, 125, 150, 160]
    for made in curves:
        assert all(a["clusters"] <= b["clusters"] for a, b in zip(made, made[1:], strict=False))
        assert (made[-1]["conflicts"], made[-1]["forgotten"], made[-1]["keys"]) == (0, 0, 160)


def test_conflicts_and_forgotten_keys_are_counted():
    keys = torch.tensor([[0.0], [1.0], [1.5]])
    (last,) = curve(1.0, keys, ["x", "x", "y"])
    # The third lies 1.5 from the first cluster: both radii become 0.75, and the key at 1 lies outside.
    assert last == {"edits": 3, "clusters": 2, "keys": 2, "conflicts": 1, "forgotten": 1}


def test_forgotten_keys_are_counted_where_the_released_code_counts_too_few():
    config = PaperConfig(radius=1.0, edits_per_block=1, reference_quirks=True)
    last = insert(torch.zeros(2, 1), ["x", "y"], config, lambda *_: None)["curve"][-1]
    index = ClusterIndex(1, 1.0, quirks=True)
    for owner, label in enumerate("xy"):
        index.add(owner, owner, torch.zeros(1), label)
    assert index.forgotten == [0] and index.counts["forgotten"] == 0  # the emptied cluster keeps a point of its own
    assert last == {"edits": 2} | index.counts | {"forgotten": 1}


def test_auto_radii_are_quantiles_of_distances_to_other_facts(monkeypatch):
    monkeypatch.setattr(key_ablations, "QUANTILES", (0.0, 0.5, 1.0))
    keys = torch.tensor([[0.0], [0.1], [3.0], [10.0], [10.5]])
    # To another fact: 3, 2.9, 2.9, 7, 7.5.
    assert at_quantiles(keys, [0, 0, 1, 2, 2]) == [2.9, 3.0, 7.5]
    with pytest.raises(Exception, match="needs two facts"):
        at_quantiles(keys, [0] * 5)
    with pytest.raises(Exception, match="almost all keys are the same"):
        at_quantiles(torch.zeros(4, 3), [0, 1, 2, 3])


def test_radius(place):
    data = found("radius", "--radii", "0.5,2", "--wordings", 3)
    assert (data["edits"], data["facts"], data["reference_quirks"], data["radii_from"]) == (72, 24, False, None)
    assert data["facts_sha256"] == hashlib.sha256(Path("facts.jsonl").read_bytes()).hexdigest()
    small, large = (made["curve"] for made in data["runs"])
    assert [point["edits"] for point in small] == [10, 20, 30, 40, 50, 60, 70, 72]
    assert small[-1]["clusters"] > large[-1]["clusters"] == 24 and large[-1]["conflicts"] == 0
    rows = rows_of("out/radius.csv")
    assert list(rows[0]) == ["radius", "edits", "clusters", "keys", "conflicts", "forgotten"] and len(rows) == 16
    assert rows[-1] == {k: str(v) for k, v in ({"radius": 2.0} | large[-1]).items()}
    assert json.loads(Path("out/radius.json").read_text()) == data
    check_png(Path("out/radius.png"))
    (keys,) = Path("out/runs").glob("keys-*.tensors")
    assert load_tensors(keys)["keys"].shape == (72, SIZE)
    assert "24" in good("radius", "--radii", "2", "--wordings", 3)


def test_radius_of_keys_that_say_how_far_they_lie(place):
    data = found("radius")
    stated = data["radii_from"]
    assert stated["quantiles"] == list(key_ablations.QUANTILES) and "another fact" in stated["of"]
    radii = [made["radius"] for made in data["runs"]]
    assert radii == sorted(set(radii)) and all(8 < radius < 12 for radius in radii)
    out = good("radius")
    assert "the radii are the quantiles 0.001, 0.005, " in out and "in out: radius.json, radius.csv, radius.png" in out


def test_a_run_with_the_quirks_of_the_released_code_says_so(place):
    data = found("radius", "--radii", "2", "--set", "reference_quirks=true", "--set", 'expand="reference"')
    assert data["reference_quirks"] and data["config"]["expand"] == "reference"
    assert "reference_quirks" in plots._radius(data)._suptitle.get_text()
    assert FakeEditor.batches == [(10, 10)] * 9 + [(6, 6)]  # the answers stand behind the prompts, batch by batch
    assert "with reference_quirks" in good("keys", "--set", "reference_quirks=true")
    assert "reference_quirks" not in plots._radius(found("radius", "--radii", "2"))._suptitle.get_text()
    assert FakeEditor.batches[-1] == (96, None)


def test_keys(place):
    data = found("keys", "--targets", 2, "--wordings", 2)
    assert data["targets"] == ["Ada", "Bo"] and len(data["points"]) == 32
    rows = rows_of("out/keys.csv")
    assert list(rows[0]) == ["fact", "wording", "target", "x", "y"]
    assert [row["target"] for row in rows] == ["Ada"] * 16 + ["Bo"] * 16
    assert (rows[2]["fact"], rows[3]["fact"], rows[3]["wording"]) == ("fact-3", "fact-3", "1")
    assert float(rows[5]["x"]) == data["points"][5]["x"]
    assert 0.9 < sum(data["share_of_variance"]) <= 1  # towns lie in a plane
    places = torch.tensor([[float(row["x"]), float(row["y"])] for row in rows])
    assert math.dist(places[0], places[1]) < 3 < math.dist(places[0], places[2])
    check_png(Path("out/keys.png"))
    assert "the two components hold" in good("keys")


def test_the_most_frequent_targets_are_taken(place):
    write(Path("facts.jsonl"), FACTS[0], FACTS[1], FACTS[4], FACTS[2], FACTS[5])
    assert found("keys", "--targets", 2)["targets"] == ["Bo", "Cy"]
    assert found("keys", "--targets", 9)["targets"] == ["Bo", "Cy", "Ada"]


def test_labels_by_name_and_by_number_are_one_target(make_source, tmp_path, monkeypatch):
    model, own = make_source("bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("meloedit.cli.commands.ablate.load", lambda *_: (model, own))
    facts = [{"id": f"c{i}", "prompt": f"Case number {i}", "target": ("tax", "4")[i % 2]} for i in range(6)]
    write(tmp_path / "cases.jsonl", *facts)
    result = run("keys", "--model", "bert", "--edits", "cases.jsonl", "--wordings", 1, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["targets"] == ["tax"]
