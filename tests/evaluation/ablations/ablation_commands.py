"""The ablation commands on a tiny model, with an editor whose keys and answers are known."""

import csv
import hashlib
import json
import struct
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from meloedit.cli.app import app
from meloedit.errors import ModelError
from meloedit.paper.clusters import ClusterIndex
from meloedit.paper.config import PaperConfig

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
        self.config = PaperConfig.from_dict(config.to_dict() | {"key_layer": config.key_layer or "model.layers.1"})
        self.index = ClusterIndex(SIZE, config.radius, config.expand, quirks=config.reference_quirks)
        sites = [SimpleNamespace(name=f"m{i}", inputs=48, outputs=32, dtype=torch.float32) for i in range(2)]
        self.backbone = SimpleNamespace(encode=lambda prompt: prompt)  # keys are of words, not of tokens
        router, policy = SimpleNamespace(bank=SimpleNamespace(sites=sites)), SimpleNamespace(keys=self.keys)
        self.engine = SimpleNamespace(router=router, policy=policy)
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
            yield [SimpleNamespace(id=e.id, holds=True, seconds=0.1, steps=50, loss=0.0) for e in part]

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
