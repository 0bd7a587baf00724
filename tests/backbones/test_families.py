"""Every family that the docs speak of: which modules are chosen in a tiny random model, and whether edits hold."""

import copy
import re
from pathlib import Path

import pytest
import torch
import transformers
from support.families import FAMILIES, Family
from support.prompts import EDITS

from meloedit import Edit, Editor
from meloedit.backbones import model_class
from meloedit.backbones.feed_forward import PROJECTION, SHARED, WHOLE, feed_forward_linear, feed_forwards
from meloedit.backbones.layers import decoder_layers
from meloedit.errors import ModelError

DOCS = Path(__file__).parents[2] / "docs" / "families.md"
FIVE = [*EDITS, Edit("Is the sea salty?", "indeed", id="sea")]
KINDS = {PROJECTION: "projection", SHARED: "shared expert", WHOLE: "whole feed-forward"}


def named(name):
    return next(family for family in FAMILIES if family.name == name)


def row(family, make_editor, tokenizer):
    """Return the family's row of the table: what was measured, or the line of the refusal."""
    model = family.build(len(tokenizer), tokenizer.eos_token_id)
    if model is None:
        pytest.skip(f"transformers {transformers.__version__} has no {family.model} ({family.name})")
    try:
        editor = make_editor(model=model, rank=4)
    except ModelError as error:
        return f"| {family.name} | `{family.model}` | refused: {error} | | |"
    failed = {report.id for report in editor.edit(FIVE) if not report.holds}
    broken = {item.id for item in editor.check().broken}
    chosen = editor.store.model["chosen"]
    modules = dict.fromkeys(f"`{re.sub(r'[.][0-9]+[.]', '.N.', name)}`" for name in editor.engine.modules)
    kinds = [kind for why, kind in KINDS.items() if why in chosen]
    editor.unload()
    return (
        f"| {family.name} | `{family.model}` | {', '.join(modules)} | {', '.join(kinds)} | {5 - len(failed | broken)} |"
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_as_the_docs_say(family, make_editor, tokenizer):
    measured = row(family, make_editor, tokenizer)
    assert measured in DOCS.read_text().splitlines()
    assert measured.endswith("| 5 |") or "| refused: " in measured
    assert not re.search(r"att|mamba|mixer\.(in|out)_proj|conv", measured.split("|")[3].split("refused")[0])


def test_the_docs_name_no_family_that_is_not_tried():
    rows = [line.split("|")[1].strip() for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert rows[1:] == [family.name for family in FAMILIES]


@pytest.mark.parametrize("name", ["Mixtral", "GPT-OSS", "Llama 4", "OPT", "Falcon-H1"])
def test_a_route_changes_its_own_row_alone(name, make_editor, tokenizer):
    """A whole feed-forward, one that returns a tuple, modules that see all rows as one, and layers with a state."""
    editor = make_editor(model=named(name).build(len(tokenizer), tokenizer.eos_token_id), edits=EDITS[:1])
    texts = [EDITS[0].prompt, "Where do the children play?"]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        edited = editor.model(**batch).logits
        with editor.base_model():
            base = editor.model(**batch).logits
    changed, same = (edited - base).abs().amax((1, 2)).tolist()
    assert changed > 0.1 and same == 0
    editor.unload()


def test_a_store_keeps_a_whole_feed_forward_and_why(make_editor, tokenizer, tmp_path):
    size = len(tokenizer), tokenizer.eos_token_id
    editor = make_editor(model=named("Jamba").build(*size), edits=EDITS[:1], store=tmp_path / "a.melo")
    chosen = editor.store.model["chosen"]
    assert chosen == (
        f"in the last 3 layers with a feed-forward, model.layers.1.feed_forward, model.layers.3.feed_forward: {WHOLE}; "
        f"model.layers.2.feed_forward.down_proj: {PROJECTION}"
    )
    editor.unload()
    with Editor.from_pretrained(tmp_path / "a.melo", named("Jamba").build(*size), tokenizer) as again:
        assert again.store.model["chosen"] == chosen
        assert again.ask(EDITS[0].prompt)[0].text == EDITS[0].target


def test_layers_without_a_feed_forward_are_passed_over(make_editor, tokenizer):
    kinds = ["mamba", "mlp", "attention", "mlp", "mamba", "mlp", "attention"]
    config = named("Nemotron-H").config | {"layers_block_type": kinds, "num_hidden_layers": 7}
    model = Family("", "NemotronHForCausalLM", config).build(len(tokenizer), tokenizer.eos_token_id)
    editor = make_editor(model=model)
    assert editor.engine.modules == tuple(f"model.layers.{i}.mixer.down_proj" for i in (1, 3, 5))
    assert editor.store.model["chosen"] == (
        f"in the last 3 layers with a feed-forward, {PROJECTION}; model.layers.2, .4, .6 have none"
    )
    editor.unload()


def test_a_model_without_feed_forwards_is_refused(make_editor, tokenizer):
    config = named("Nemotron-H").config | {"layers_block_type": ["mamba", "attention"] * 2, "num_hidden_layers": 4}
    model = Family("", "NemotronHForCausalLM", config).build(len(tokenizer), tokenizer.eos_token_id)
    with pytest.raises(ModelError, match="^NemotronHForCausalLM has no feed-forward in its layers.*name the modules"):
        make_editor(model=model)


def test_the_layers_are_those_of_the_text(tokenizer):
    model = named("Llava").build(len(tokenizer), tokenizer.eos_token_id)
    assert decoder_layers(model)[0] == "model.language_model.layers"


def test_methods_that_change_a_matrix_need_one(make_editor, tokenizer):
    editor = make_editor(model=named("Mixtral").build(len(tokenizer), tokenizer.eos_token_id))
    backbone = editor.backbone
    editor.unload()
    (found,) = feed_forwards(backbone, ["model.layers.2"])
    assert (found.module, found.linear) == ("model.layers.2.mlp", False)
    with pytest.raises(ModelError, match="no linear module of model.layers.2 writes"):
        feed_forward_linear(backbone, "model.layers.2")


class Experts(torch.nn.Module):
    """A feed-forward of two experts in a list; the first token alone goes to the second."""

    def __init__(self, mlp):
        super().__init__()
        self.experts = torch.nn.ModuleList([mlp, copy.deepcopy(mlp)])

    def forward(self, hidden):
        flat = hidden.flatten(0, 1)
        return torch.cat([self.experts[1](flat[:1]), self.experts[0](flat[1:])]).view(hidden.shape)


def test_experts_in_a_list_are_edited_as_a_whole(make_editor, make_model):
    model = make_model()
    for layer in model.model.layers:
        layer.mlp = Experts(layer.mlp)
    editor = make_editor(model=model, edits=EDITS[:1])
    assert editor.engine.modules == tuple(f"model.layers.{i}.mlp" for i in (2, 3, 4))
    editor.unload()


def test_an_expert_that_is_named_is_refused(make_editor, make_model):
    model = make_model()
    mlp = model.model.layers[4].mlp
    model.model.layers[4].mlp = Experts(mlp)
    model.model.layers[4].mlp.forward = lambda hidden: mlp(hidden.flatten(0, 1)).view(hidden.shape)
    with pytest.raises(ModelError, match="'model.layers.4.mlp.experts.0.down_proj' may see a part of the tokens"):
        make_editor(model=model, modules=["model.layers.4.mlp.experts.0.down_proj"])


@pytest.mark.parametrize("name", ["Qwen3", "Llava", "Gemma 3", "Qwen2.5-VL"])
def test_a_folder_is_loaded_as_its_family(name, tokenizer, tmp_path):
    model = named(name).build(len(tokenizer), tokenizer.eos_token_id)
    model.save_pretrained(tmp_path)
    loaded = model_class(model.config).from_pretrained(tmp_path)
    assert type(loaded) is type(model)
