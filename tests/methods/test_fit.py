"""``fit``: what is learned is kept and read again; a run that was stopped goes on; bad files are one line."""

import json

import pytest
import torch
from support.prompts import EDITS

from meloedit.errors import MeloEditError
from meloedit.files import load_tensors, save_tensors
from meloedit.methods import method_class
from meloedit.methods.learned.fitting import Fitting, values_of
from meloedit.testing import training_edits

SETTINGS = {
    "mend": {"rank": 6, "layers": 1},
    "serac": {"layers": 1, "lr": 1e-3},
}
COMMON = {"steps": 10, "batch_size": 5, "val_interval": 3, "val_examples": 4}


@pytest.fixture
def make(make_model, tokenizer, tiny_encoder, tmp_path):
    def open_it(name, folder="kept", family="llama", **changes):
        extra = {"encoder": tiny_encoder} if name == "serac" else {}
        settings = COMMON | SETTINGS[name] | extra | {"learned": str(tmp_path / folder)} | changes
        return method_class(name)(make_model(family), tokenizer, settings)

    return open_it


def files(tmp_path, folder="kept", kind="learned"):
    return sorted((tmp_path / folder).glob(f"*.{kind}"))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(make, tmp_path, name):
    whole = make(name, "whole")
    whole.fit(training_edits("llama"))

    def stop(step, done, total):
        if "learning" in step and done == 8:
            raise KeyboardInterrupt

    stopped = make(name)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(training_edits("llama"), stop)
    (state,) = files(tmp_path, kind="learning")
    assert files(tmp_path) == []
    with pytest.raises(MeloEditError, match=f"^method {name} has learned nothing yet"):  # and not with half a network
        stopped.edit(EDITS[:1])
    part = state.with_name(f"{state.name}.1234.part")  # of a process that was killed while it wrote
    part.write_bytes(state.read_bytes()[:100])
    steps = []
    again = make(name)
    again.fit(training_edits("llama"), lambda step, done, total: steps.append(done) if "learning" in step else None)
    assert steps == [7, 8, 9, 10] and [path.suffix for path in (tmp_path / "kept").iterdir()] == [".learned"]
    one, other = values_of(whole.learner), values_of(again.learner)
    assert list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)
    assert again.learned["losses"] == whole.learned["losses"] and len(again.learned["losses"]) == 4
    assert again.learned["examples"] == 20 and again.learned["held_out"] == 4


def test_a_state_beside_what_was_learned_is_removed_when_that_is_read(make, tmp_path):
    make("mend").fit(training_edits("llama"))
    (path,) = files(tmp_path)
    path.with_suffix(".learning").write_bytes(b"of a run that was killed before it removed this")
    make("mend").fit(training_edits("llama"))
    assert list((tmp_path / "kept").iterdir()) == [path]


@pytest.mark.parametrize("name", SETTINGS)
def test_what_was_learned_is_read_again_and_other_settings_learn_anew(make, tmp_path, monkeypatch, name):
    first = make(name)
    first.fit(training_edits("llama"))
    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "run", lambda self: pytest.fail("learns again"))
        again = make(name)
        again.fit(training_edits("llama"))
    one, other = values_of(first.learner), values_of(again.learner)
    assert all(torch.equal(one[key], other[key]) for key in one) and again.learned == first.learned
    assert again.details() == {"learned": first.learned} and again.learned["processor_seconds"] > 0
    make(name, steps=2).fit(training_edits("llama"))
    make(name).fit(training_edits("llama", 16))
    assert len(files(tmp_path)) == 3


def test_the_weights_that_do_best_on_held_out_edits_are_kept(make, monkeypatch):
    method = make("mend", steps=9, lr=1e-3)
    losses, values = iter([5.0, 3.0, 4.0]), []

    def look(self):
        loss = next(losses)
        values.append({key: one.clone() for key, one in values_of(self.learner).items()})
        if loss < self.notes["best_loss"]:
            self.notes |= {"best_loss": loss, "best_step": self.notes["step"]}
            self.best = values[-1]

    monkeypatch.setattr(Fitting, "_look", look)
    method.fit(training_edits("llama"))
    kept = values_of(method.learner)
    assert method.learned["best_step"] == 6 and all(torch.equal(kept[key], values[1][key]) for key in kept)
    assert not all(torch.equal(kept[key], values[2][key]) for key in kept)


def test_learning_ends_when_nothing_gets_better(make, monkeypatch):
    method = make("mend", steps=90, early_stop_patience=6)
    look = Fitting._look

    def worse(self):
        look(self)
        self.notes |= {"best_loss": -1.0, "best_step": min(self.notes["best_step"], 3)}

    monkeypatch.setattr(Fitting, "_look", worse)
    method.fit(training_edits("llama"))
    assert method.learned["steps"] == 9


def test_damage_other_versions_and_other_models_are_one_line(make, tmp_path):
    edits = training_edits("llama")
    make("mend").fit(edits)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(MeloEditError, match=r"^method mend: \S+ is damaged: remove it, and the method learns anew$"):
        make("mend").fit(edits)
    path.write_bytes(whole)
    tensors = load_tensors(path)
    notes = json.loads(bytes(tensors["notes"].tolist()))
    save_tensors(path, tensors | {"notes": _text(notes | {"version": 99})})
    with pytest.raises(MeloEditError, match=r"is of another version \(99, this one reads 1\): remove it"):
        make("mend").fit(edits)
    for other in ({"notes": tensors["notes"]}, tensors | {"notes": _text([])}):  # of the right checksum
        save_tensors(path, other)
        with pytest.raises(MeloEditError, match=r"is damaged: remove it"):
            make("mend").fit(edits)
    save_tensors(path, tensors | {"notes": _text(notes | {"model": "abc"})})
    with pytest.raises(MeloEditError, match=r"was learned on another model \(abc, this one is \w+\): choose another"):
        make("mend").fit(edits)


def _text(notes):
    return torch.tensor(list(json.dumps(notes).encode()), dtype=torch.uint8)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_cannot_be_learned_from_and_edits_before_learning_are_refused(make, name):
    method = make(name)
    with pytest.raises(MeloEditError, match=f"^method {name} has learned nothing yet: call fit"):
        method.edit(EDITS[:1])
    with pytest.raises(MeloEditError, match=f"^method {name} learns from 2 training edits or more, and gets 1$"):
        method.fit(training_edits("llama")[:1])
    long = [edit.__class__("word " * 300 + str(i), "x") for i, edit in enumerate(EDITS)]
    with pytest.raises(MeloEditError, match=r"has tokens and room for 0 of the 4 training edits: give others$"):
        method.fit(long)
    method.edits = {"a": EDITS[0]}
    with pytest.raises(MeloEditError, match="learns before the first edit"):
        method.fit(training_edits("llama"))
    method.edits = {}


def test_more_memory_than_there_is_is_said_before_any_work(make, monkeypatch):
    from meloedit.methods import free_memory

    monkeypatch.setattr(free_memory, "free_bytes", lambda device: 1000)
    for name in SETTINGS:
        with pytest.raises(MeloEditError, match=rf"^method {name} needs about .+ while (it|they) learn"):
            make(name).check()


def test_what_is_kept_of_the_lower_layers_counts_as_memory(make, monkeypatch):
    from meloedit.methods import free_memory

    method = make("mend")
    monkeypatch.setattr(free_memory, "free_bytes", lambda device: 1000)
    with pytest.raises(
        MeloEditError, match=r"^method mend needs about .+ what the lower layers give for \d+ rows of tr"
    ):
        method.fit(training_edits("llama"))
    assert method.learner is None and method._lower._states == {}
    monkeypatch.setattr(free_memory, "free_bytes", lambda device: 10**7)
    method.fit(training_edits("llama"))
