"""The ablations: their figures on keys that are known, what is drawn, what is kept, and how bad input ends."""

import csv
import gzip
import hashlib
import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from meloedit import Edit, MeloConfig
from meloedit.cli.app import app
from meloedit.errors import ModelError
from meloedit.evaluation.ablations import bench as ablations
from meloedit.evaluation.ablations import plots
from meloedit.evaluation.ablations.bench import at_quantiles, insert, principal
from meloedit.evaluation.ablations.edits import parameters
from meloedit.evaluation.ablations.facts import Fact, Runs, read_facts
from meloedit.paper.clusters import ClusterIndex

SIZE = 6
FACTS = [
    {
        "id": f"fact-{i}",
        "prompt": f"Who leads town {i} now?",
        "target": ["Ada", "Bo", "Cy"][i % 3],
        "rephrases": [f"Name the head of town {i} now", f"Town {i} is led by now", f"Leader of town {i} now"],
    }
    for i in range(24)
]


def words_key(text):
    """A key that is near for prompts about one town; a question about no town lies far off."""
    town = next((int(word) for word in text.split() if word.isdigit()), 500)
    wording = torch.tensor([byte / 255 for byte in hashlib.sha256(text.lower().encode()).digest()[:SIZE]])
    return torch.tensor([town % 5, town // 5, 0.0, 0.0, 0.0, 0.0]) * 10 + wording


class FakeEditor:
    """Keys of words, the real index, and blocks that answer with their edit's target if their rank is above 1."""

    opened: list = []
    batches: list = []
    stop_at = None

    def __init__(self, model, tokenizer, config):
        if config.key_layer and config.key_layer not in dict(model.named_modules()):
            raise ModelError(f"no module {config.key_layer!r} to take keys from")
        if FakeEditor.stop_at is not None and len(FakeEditor.opened) >= FakeEditor.stop_at:
            raise KeyboardInterrupt
        FakeEditor.opened.append(config)
        self.config = MeloConfig.paper(**config.to_dict() | {"key_layer": config.key_layer or "model.layers.1"})
        self.index = ClusterIndex(SIZE, config.radius, config.expand, quirks=config.reference_quirks)
        sites = [SimpleNamespace(name=f"m{i}", inputs=48, outputs=32, dtype=torch.float32) for i in range(2)]
        self.router = SimpleNamespace(bank=SimpleNamespace(sites=sites))
        self.edits = []

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass

    def keys(self, prompts, targets=None):
        FakeEditor.batches.append((len(prompts), targets and len(targets)))
        return torch.stack([words_key(prompt) for prompt in prompts])

    def edit_in_parts(self, edits, progress=None):
        size = self.config.edits_per_block
        for block, start in enumerate(range(0, len(edits), size)):
            part = edits[start : start + size]
            owners = range(start, start + len(part))
            labels = [edit.target for edit in part]
            self.index.add_batch(owners, [block] * len(part), self.keys([e.prompt for e in part]), labels)
            self.edits += part
            progress("editing", len(self.edits), len(edits))
            yield [SimpleNamespace(id=e.id, held=True, seconds=0.1, steps=50, loss=0.0) for e in part]

    def ask(self, prompts, progress=None):
        found = self.index.search(self.keys(prompts))
        answers = []
        for block, owner in zip(found.block.tolist(), found.owner.tolist(), strict=True):
            edit = self.edits[owner] if block >= 0 else None
            right = edit and (self.config.rank > 1 or owner % 2)
            text = f" {edit.target} " if right else "nobody"
            answers.append(SimpleNamespace(text=text, route=SimpleNamespace(edit=edit and edit.id)))
        return answers


@pytest.fixture
def place(make_model, tokenizer, tmp_path, monkeypatch):
    """A folder with a file of facts; the commands there use the fake editor on a tiny model."""
    monkeypatch.chdir(tmp_path)
    model = make_model("llama")
    monkeypatch.setattr("meloedit.cli.commands.ablate.load", lambda *_: (model, tokenizer))
    monkeypatch.setattr("meloedit.editor.Editor", FakeEditor)
    monkeypatch.setattr(FakeEditor, "opened", [])
    monkeypatch.setattr(FakeEditor, "batches", [])
    monkeypatch.setattr(FakeEditor, "stop_at", None)
    write(tmp_path / "facts.jsonl", *FACTS)
    return tmp_path


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def run(*args):
    return CliRunner().invoke(app, ["ablate", *map(str, args)], prog_name="meloedit")


COMMON = ["--model", "tiny", "--edits", "facts.jsonl", "--out", "out", "--set", "edits_per_block=10"]


def good(command, *args):
    result = run(command, *COMMON, *args)
    assert result.exit_code == 0, result.output
    return result.stdout


def found(command, *args):
    return json.loads(good(command, *args, "--json"))


def bad(command, *args):
    result = run(command, *args)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").rstrip("\n")


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def check_png(path):
    from matplotlib.image import imread

    head = path.read_bytes()[:24]
    width, height = struct.unpack(">II", head[16:24])
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and width > 600 and height > 400
    assert imread(path)[..., :3].std() > 0.05  # something is drawn


# -- figures that are known


def test_parameters_are_those_of_the_papers_example():
    assert parameters([(1024, 512)] * 4, rank=2, edits=1000, edits_per_block=100) == 122_880
    assert parameters([(8, 4)], rank=3, edits=101, edits_per_block=100) == 2 * 3 * 12
    assert parameters([(8, 4), (4, 8)], rank=1, edits=1, edits_per_block=100) == 24


def stream(facts=40, wordings=4):
    """Keys of facts far apart, wordings near each other, and the facts' own labels."""
    made = torch.Generator().manual_seed(1)
    centres = torch.randn(facts, 8, generator=made) * 20
    keys = centres.repeat_interleave(wordings, 0) + torch.randn(facts * wordings, 8, generator=made)
    order = torch.randperm(facts * wordings, generator=made)
    return keys[order], [f"target {i}" for i in (order // wordings).tolist()]


def curve(radius, keys, labels, **settings):
    config = MeloConfig.paper(radius=radius, edits_per_block=25, **settings)
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
    config = MeloConfig.paper(radius=1.0, edits_per_block=1, reference_quirks=True)
    last = insert(torch.zeros(2, 1), ["x", "y"], config, lambda *_: None)["curve"][-1]
    index = ClusterIndex(1, 1.0, quirks=True)
    for owner, label in enumerate("xy"):
        index.add(owner, owner, torch.zeros(1), label)
    assert index.forgotten == [0] and index.counts["forgotten"] == 0  # the emptied cluster keeps a point of its own
    assert last == {"edits": 2} | index.counts | {"forgotten": 1}


def test_auto_radii_are_quantiles_of_distances_to_other_facts(monkeypatch):
    monkeypatch.setattr(ablations, "QUANTILES", (0.0, 0.5, 1.0))
    keys = torch.tensor([[0.0], [0.1], [3.0], [10.0], [10.5]])
    # To another fact: 3, 2.9, 2.9, 7, 7.5.
    assert at_quantiles(keys, [0, 0, 1, 2, 2]) == [2.9, 3.0, 7.5]
    with pytest.raises(Exception, match="needs two facts"):
        at_quantiles(keys, [0] * 5)
    with pytest.raises(Exception, match="almost all keys are the same"):
        at_quantiles(torch.zeros(4, 3), [0, 1, 2, 3])


def test_principal_components():
    flat = torch.zeros(50, 7, dtype=torch.float64)
    flat[:, 2] = torch.linspace(-6, 6, 50, dtype=torch.float64)
    flat[:, 5] = torch.tensor([1.0, -1.0] * 25)
    places, share = principal(flat + 100)
    assert sum(share) == pytest.approx(1) and share[0] > 0.9
    assert torch.allclose(torch.pdist(places), torch.pdist(flat), atol=1e-9)
    cloud = torch.randn(30, 4, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(principal(cloud)[0], principal(cloud.flip(0))[0].flip(0), atol=1e-9)  # signs are settled
    for few in (torch.ones(3, 4), torch.tensor([[1.0], [2.0]])):
        places, share = principal(few)
        assert places.shape == (len(few), 2) and places.isfinite().all() and len(share) == 2


def test_the_first_rephrasing_that_was_never_trained():
    fact = Fact(Edit("Who?", "Ada", variants=("Which one?",)), ("Which one? ", "What person?"))
    assert fact.unseen == "What person?" and fact.wordings == ("Who?", "Which one? ", "What person?")
    assert Fact(Edit("Who?", "Ada")).unseen is None


# -- the commands


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
    (keys,) = Path("out/runs").glob("keys-*.safetensors")
    assert load_file(keys)["keys"].shape == (72, SIZE)
    assert "24" in good("radius", "--radii", "2", "--wordings", 3)


def test_radius_of_keys_that_say_how_far_they_lie(place):
    data = found("radius")
    stated = data["radii_from"]
    assert stated["quantiles"] == list(ablations.QUANTILES) and "another fact" in stated["of"]
    radii = [made["radius"] for made in data["runs"]]
    assert radii == sorted(set(radii)) and all(8 < radius < 12 for radius in radii)
    out = good("radius")
    assert "the radii are the quantiles 0.001, 0.005, " in out and "in out: radius.json, radius.csv, radius.png" in out


def test_a_second_call_reads_what_is_kept(place):
    first = found("radius", "--radii", "1,2", "--wordings", 2)
    assert len(FakeEditor.opened) == 1  # for the keys
    stamps = {path: path.stat().st_mtime_ns for path in Path("out/runs").iterdir()}
    assert len(stamps) == 3
    assert found("radius", "--radii", "1,2", "--wordings", 2) == first and len(FakeEditor.opened) == 1
    assert {path: path.stat().st_mtime_ns for path in Path("out/runs").iterdir()} == stamps
    found("radius", "--radii", "1,2,3", "--wordings", 2)  # one more run, on the same keys
    assert len(FakeEditor.opened) == 1 and len(list(Path("out/runs").iterdir())) == 4


def test_other_settings_edits_or_models_are_other_runs(place, make_model, tokenizer, monkeypatch):
    found("rank", "--ranks", "2")
    assert len(FakeEditor.opened) == 1
    found("rank", "--ranks", "2", "--set", "steps=51")
    found("rank", "--ranks", "2", "--count", 23)
    write(Path("facts.jsonl"), *FACTS, "")
    found("rank", "--ranks", "2")
    monkeypatch.setattr("meloedit.cli.commands.ablate.load", lambda *_: (make_model("llama").half(), tokenizer))
    found("rank", "--ranks", "2")
    assert len(FakeEditor.opened) == len(list(Path("out/runs").iterdir())) == 5


def test_a_file_of_other_settings_or_a_damaged_one_is_not_taken(place):
    first = found("rank", "--ranks", "2")
    (path,) = Path("out/runs").iterdir()
    held = json.loads(path.read_text())
    assert held["settings"]["config"]["rank"] == 2 and held["settings"]["facts_sha256"] == first["facts_sha256"]
    held["settings"]["config"]["rank"] = 3
    for wrong in (json.dumps(held), "{", "[]", '{"settings": {}}', ""):
        path.write_text(wrong)
        before = len(FakeEditor.opened)
        assert found("rank", "--ranks", "2") == first and len(FakeEditor.opened) == before + 1, wrong
    (keys,) = (made for _ in [found("keys")] for made in Path("out/runs").glob("keys-*"))
    keys.write_bytes(keys.read_bytes()[:100])
    before = len(FakeEditor.opened)
    found("keys")
    assert len(FakeEditor.opened) == before + 1 and len(load_file(keys)["keys"]) == 96


def test_runs_need_no_exact_types(tmp_path):
    runs = Runs(tmp_path, {"model": "m"})
    first = runs.run("x", {"a": (1, 2)}, lambda: {"b": (3, 4)})
    assert first == runs.run("x", {"a": [1, 2]}, dict) == {"b": [3, 4]} and (runs.made, runs.read) == (1, 1)
    assert Runs(tmp_path, {"model": "n"}).run("x", {"a": [1, 2]}, lambda: {"c": 1}) == {"c": 1}


def test_interrupting_keeps_finished_runs(place, monkeypatch):
    monkeypatch.setattr(FakeEditor, "stop_at", 2)
    result = run("rank", *COMMON, "--ranks", "1,2,4")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.endswith("interrupted: 2 finished runs kept in out; run the same command again for the rest\n")
    monkeypatch.setattr(FakeEditor, "stop_at", None)
    assert [made["rank"] for made in found("rank", "--ranks", "1,2,4")["runs"]] == [1, 2, 4]
    assert [config.rank for config in FakeEditor.opened] == [1, 2, 4]
    assert not list(Path("out").rglob("*.part"))


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


def test_names_are_drawn_as_they_are(place):
    odd = ["$x$ and $", "_hidden", "\N{CJK UNIFIED IDEOGRAPH-5B57}", "a " * 60, r"\frac{", "%s {}"]
    write(Path("facts.jsonl"), *({"prompt": f"town {i}", "target": name} for i, name in enumerate(odd)))
    data = found("keys", "--targets", 6)
    check_png(Path("out/keys.png"))
    (legend,) = plots._keys(data).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 6 and texts[1].strip() == "_hidden" and len(texts[3]) < 32


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


def test_names_of_layers_are_told_apart_by_where_they_differ():
    assert plots.apart(["a.0.wo", "a.12.wo"]) == (["0", "12"], "a.*.wo")
    assert plots.apart(["a.0", "a.0.wo"]) == (["-", "wo"], "a.0.*")
    assert plots.apart(["a.0", "b.1"]) == (["a.0", "b.1"], "")
    assert plots.apart(["a.b"]) == (["a.b"], "")
    assert plots.apart(["a.a", "a.a.a"]) == (["-", "a"], "a.a.*")


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


# -- bad input


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
    assert said(more=["--edits", "z"]).startswith("z: not UTF-8 text (")


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


def test_what_is_varied_prevails_over_what_is_set(place):
    found("rank", "--ranks", "2,8", "--set", "rank=4", "--set", "lr=0.5")
    assert [(config.rank, config.lr) for config in FakeEditor.opened] == [(2, 0.5), (8, 0.5)]


def test_settings_that_do_not_fit(place):
    assert bad("rank", *COMMON, "--preset", "zsre").startswith("no preset 'zsre'; there are: ")
    assert bad("rank", *COMMON, "--set", "colour=red").startswith("unknown setting 'colour'; the settings are: ")
    assert bad("rank", *COMMON, "--set", "lr").startswith("--set lr: give NAME=VALUE")
    assert bad("rank", *COMMON, "--set", "mode=default").startswith("--set mode=default: the ablations are of paper")
    assert bad("rank", *COMMON, "--set", "lr=high") == "lr must be positive and finite, not 'high'"
    assert not Path("out").exists()


def test_drawing_needs_its_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert bad("radius", *COMMON) == "drawing needs the extra 'plots': pip install 'meloedit[plots]'"
    assert not FakeEditor.opened


def test_help_imports_neither_torch_nor_matplotlib():
    code = "import sys; from meloedit.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    code += "; assert not {'torch', 'transformers', 'matplotlib', 'numpy'} & sys.modules.keys()"
    for args in (["--help"], ["ablate", "--help"], ["ablate", "radius", "--help"]):
        subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True)


def test_facts_of_a_count_and_their_digest(tmp_path):
    path = write(tmp_path / "facts.jsonl", *FACTS, "not even JSON")
    facts = read_facts(path, 24)  # lines behind those wanted are not read
    assert len(facts.edits) == 24 and facts.items[0].rephrases[0] == "Name the head of town 0 now"
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_labels_by_name_and_by_number_are_one_target(make_source, tmp_path, monkeypatch):
    model, own = make_source("bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("meloedit.cli.commands.ablate.load", lambda *_: (model, own))
    facts = [{"id": f"c{i}", "prompt": f"Case number {i}", "target": ("tax", "4")[i % 2]} for i in range(6)]
    write(tmp_path / "cases.jsonl", *facts)
    result = run("keys", "--model", "bert", "--edits", "cases.jsonl", "--wordings", 1, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["targets"] == ["tax"]
