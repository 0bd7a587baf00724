"""Models that are missing, broken or the wrong ones, and settings that do not fit."""

import json
import os
import shutil
from pathlib import Path

import pytest
from cli_helpers import SETTINGS, bad, good, good_json
from safetensors.torch import load_file, save_file

pytest_plugins = ["cli_fixtures"]


def test_a_store_of_another_model(full, make_model, tokenizer, tmp_path):
    other = tmp_path / "other"
    make_model("llama", intermediate_size=64).save_pretrained(other)
    tokenizer.save_pretrained(other)
    fingerprint = good_json("show", full)["model"]["fingerprint"]
    said = bad("ask", full, "x", "--model", other)
    assert said.startswith("full.melo was made for ") and f"fingerprint {fingerprint}" in said and str(other) in said


def test_a_model_that_is_not_there(full, tmp_path):
    new, nowhere = tmp_path / "new.melo", tmp_path / "nowhere"
    said = f"no model at {nowhere}: give a folder written by save_pretrained, a hub name, or 'smollm2'"
    assert bad("init", new, "--model", nowhere) == said
    assert bad("ask", full, "x", "--model", nowhere) == said
    assert not new.exists()
    empty_folder = tmp_path / "void"
    empty_folder.mkdir()
    assert f"cannot load model '{empty_folder}' (" in bad("init", new, "--model", empty_folder)


def test_a_model_that_has_moved(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good("init", "moved.melo", "--model", shutil.copytree(folder, "here"), *SETTINGS)
    shutil.rmtree("here")
    said = bad("ask", "moved.melo", "x")
    assert said.startswith("no model at ") and said.endswith(
        "; if the model of moved.melo has moved, say where with --model"
    )


def test_a_device_that_is_not_there(full):
    said = bad("ask", full, "x", "--device", "abacus")
    assert said.startswith("cannot use device 'abacus': ") and "--model" not in said


def test_settings_that_do_not_exist(folder, tmp_path):
    def said(*more):
        return bad("init", tmp_path / "new.melo", "--model", folder, *more)

    assert said("--modules", "lm_heat").startswith("no linear module 'lm_heat' in LlamaForCausalLM; it has: ")
    assert "model.layers.{0..4}.mlp.down_proj" in said("--modules", "model.layers.4.mlp.down_proj,lm_heat")
    assert said("--key-layer", "x") == ("no module 'x' to take keys from; layers: model.layers.0 to .4")
    assert said("--rank", 0).startswith("rank must be a positive integer, not 0")
    assert said("--set", "colour=red").startswith("unknown setting 'colour'; the settings are: modules, layers, ")
    assert said("--set", "lr") == "--set lr: give NAME=VALUE"
    assert said("--set", "lr=high") == "lr must be positive and finite, not 'high'"
    assert os.listdir(tmp_path) == []


def _without_a_weight(path):
    weights = load_file(path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def _with_a_wrong_shape(path):
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def _change_config(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


BROKEN_MODELS = [
    (_without_a_weight, "lacks the weight 'model.norm.weight'"),
    (_with_a_wrong_shape, "the weight 'model.norm.weight' has another shape than config.json says"),
    (lambda path: _change_config(path, hidden_size=64), "has another shape than config.json says"),
    (lambda path: _change_config(path, num_attention_heads="four"), "cannot load model"),
    (lambda path: (path / "model.safetensors").write_bytes(b"\xff" * 99), "cannot load model"),
    (lambda path: (path / "tokenizer.json").write_text('{"model": 7}'), "cannot load model"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN_MODELS)
def test_a_model_folder_that_is_broken(folder, tmp_path, spoil, said):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    spoil(broken)
    assert said in bad("init", tmp_path / "new.melo", "--model", broken, *SETTINGS)
    assert not (tmp_path / "new.melo").exists()


def test_names_and_settings_that_are_odd(full, folder, tmp_path):
    new = tmp_path / "new.melo"
    for args in (["init", new], ["ask", full, "x"]):
        assert bad(*args, "--model", "").startswith("--model is empty: ")
    assert bad("ask", full, "x", "--device", "meta") == "cannot use device 'meta': nothing is computed there"
    assert bad("init", new, "-m", folder, "--set", "lr=" + "[" * 10**5) == "--set lr: the value is nested too deeply"
    said = bad("init", new, "-m", folder, "--false-activation", "1e-320")
    assert said == "false_activation must be at least 1e-09 and below 1, not 1e-320"
