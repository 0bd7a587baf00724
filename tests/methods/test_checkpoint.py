"""The state of a method on disk: whole, of this version and this model, or refused in one line."""

import pytest
import torch

from meloedit import Edit
from meloedit.errors import MeloEditError
from meloedit.methods import checkpoint, method_class
from meloedit.methods.checkpoint import read_state, write_state

BOOK = Edit("Who wrote the book of sand?", "Jorge", id="book")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_two_newest_files_stay_and_no_third_is_there_meanwhile(tmp_path, monkeypatch):
    noted = [write_state(tmp_path, {"a": torch.tensor([float(i)])}) for i in range(3)]
    assert names(tmp_path) == ["state-000002.safetensors", "state-000003.safetensors"]
    from safetensors import torch as safetensors

    whole, seen = safetensors.save_file, []
    monkeypatch.setattr(safetensors, "save_file", lambda *args: seen.append(names(tmp_path)) or whole(*args))
    write_state(tmp_path, {"a": torch.zeros(1)})
    assert seen == [["state-000003.safetensors"]]  # as large as a model, each
    assert read_state(tmp_path, noted[2])["a"].item() == 2 and names(tmp_path) == ["state-000003.safetensors"]


def test_what_a_killed_or_failed_run_was_writing_goes_and_what_was_noted_stays(tmp_path, monkeypatch):
    noted = write_state(tmp_path, {"a": torch.ones(1)})
    (tmp_path / "state-000002.part").write_bytes(b"half")
    monkeypatch.setattr(
        checkpoint.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(MeloEditError, match=r"state-000002.safetensors cannot be written \(.*No space left on device"):
        write_state(tmp_path, {"a": torch.ones(1)})
    assert names(tmp_path) == ["state-000001.safetensors"] and read_state(tmp_path, noted)["a"].item() == 1


def test_damage_another_version_and_a_missing_file_are_one_line(tmp_path):
    noted = write_state(tmp_path, {"a": torch.ones(4)})
    path = tmp_path / noted["file"]
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:20], b""):
        path.write_bytes(damaged)
        with pytest.raises(MeloEditError, match=r"state-000001\.safetensors is damaged$"):
            read_state(tmp_path, noted)
    path.write_bytes(whole)
    for other, version in ((noted | {"version": 9}, "9"), ({"name": noted["file"]}, "None")):
        with pytest.raises(MeloEditError, match=rf"is of another version \({version}, this one reads 1\)$"):
            read_state(tmp_path, other)
    path.unlink()
    with pytest.raises(MeloEditError, match=r"cannot be read \(No such file or directory\)$"):
        read_state(tmp_path, noted)
    with pytest.raises(MeloEditError, match="without a folder keeps no state"):
        read_state(None, noted)


@pytest.mark.parametrize("name", ["cmr", "ft"])
def test_a_state_of_another_model_or_of_other_settings_is_one_line(name, make_model, tokenizer, tmp_path):
    def make(family, depth):
        return method_class(name)(make_model(family), tokenizer, {"depth": depth}, tmp_path)

    first = make("llama", 0.9)
    first.edit([BOOK])
    noted = first.checkpoint()
    others = [make("gpt2", 0.9)] + [make("llama", 0.0)] * (name == "cmr")
    for other in others:
        before = {key: weight.clone() for key, weight in other._weights.items()}
        with pytest.raises(MeloEditError, match=rf"^method {name}: the state does not fit \S+: it is of another model"):
            other.restore(noted, [BOOK])
        assert all(torch.equal(weight, before[key]) for key, weight in other._weights.items())


def test_a_restored_optimizer_has_its_numbers_where_the_weights_are(make_model, tokenizer, tmp_path):
    settings = {"depth": 0.9, "epochs": 2, "replay_size": 1, "upstream_size": 1}
    method = method_class("cmr")(make_model("llama"), tokenizer, settings, tmp_path)
    method.edit([BOOK])
    kinds = {name: (value.dtype, value.device) for name, value in next(iter(method._optimizer.state.values())).items()}
    steps = {int(state["step"]) for state in method._optimizer.state.values()}
    method.restore(method.checkpoint(), [BOOK])
    states = list(method._optimizer.state.values())
    assert {int(state["step"]) for state in states} == steps == {2}
    assert all({name: (value.dtype, value.device) for name, value in state.items()} == kinds for state in states)
