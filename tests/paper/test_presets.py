"""The published settings on models of the very architectures they were published for, without their weights."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones import locate, open_backbone
from meloedit.errors import ModelError
from meloedit.hooks.probe import probe_model
from meloedit.paper.config import PaperConfig
from meloedit.paper.mode import locate_published
from meloedit.paper.presets import PRESETS

T5_SMALL = {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6}
T5_LARGE = {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 16}
XL = {"n_layer": 48, "n_embd": 1600, "n_head": 25}


def t5(gated=True, **size):
    kind = "gated-gelu" if gated else "relu"
    config = T5Config(vocab_size=32128, feed_forward_proj=kind, decoder_start_token_id=0, **size)
    return T5ForConditionalGeneration(config)


MODELS = {
    "t5-small": lambda: t5(**T5_SMALL),
    "t5-small, not gated": lambda: t5(gated=False, **T5_SMALL),
    "t5-large": lambda: t5(**T5_LARGE),
    "t5-large, not gated": lambda: t5(gated=False, **T5_LARGE),
    "bert": lambda: BertForSequenceClassification(BertConfig(num_labels=11)),
    "gpt2-xl": lambda: GPT2LMHeadModel(GPT2Config(**XL)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config()),
}


@pytest.fixture
def backbone_of(tokenizer):
    """Open the backbone of a model that has shapes but no weights."""

    def make(name):
        with torch.device("meta"):
            model = MODELS[name]()
        return open_backbone(model.eval(), tokenizer)

    return make


CASES = [
    (
        "zsre-t5-small",
        "t5-small",
        "encoder.block.4.layer.1.DenseReluDense.wo",
        [
            "encoder.block.5.layer.1.DenseReluDense.wo",
            "encoder.block.6.layer.1.DenseReluDense.wo",
            "decoder.block.5.layer.2.DenseReluDense.wo",
            "decoder.block.6.layer.2.DenseReluDense.wo",
        ],
        (512, 12_288),  # 4 (1024 + 512) 2
    ),
    (
        "zsre-t5-small",
        "t5-small, not gated",
        "encoder.block.4.layer.1.DenseReluDense.wo",
        [
            "encoder.block.5.layer.1.DenseReluDense.wi",
            "encoder.block.5.layer.1.DenseReluDense.wo",
            "encoder.block.6.layer.1.DenseReluDense.wi",
            "encoder.block.6.layer.1.DenseReluDense.wo",
            "decoder.block.5.layer.2.DenseReluDense.wi",
            "decoder.block.5.layer.2.DenseReluDense.wo",
            "decoder.block.6.layer.2.DenseReluDense.wi",
            "decoder.block.6.layer.2.DenseReluDense.wo",
        ],
        (512, 24_576),
    ),
    (
        "zsre-t5-large",
        "t5-large",
        "encoder.block.12.layer.1.DenseReluDense.wo",
        [
            "encoder.block.22.layer.1.DenseReluDense.wo",
            "encoder.block.23.layer.1.DenseReluDense.wo",
            "decoder.block.22.layer.2.DenseReluDense.wo",
            "decoder.block.23.layer.2.DenseReluDense.wo",
        ],
        (1024, 30_720),
    ),
    (
        "zsre-t5-large",
        "t5-large, not gated",
        "encoder.block.12.layer.1.DenseReluDense.wo",
        [
            "encoder.block.22.layer.1.DenseReluDense.wi",
            "encoder.block.22.layer.1.DenseReluDense.wo",
            "encoder.block.23.layer.1.DenseReluDense.wi",
            "encoder.block.23.layer.1.DenseReluDense.wo",
            "decoder.block.22.layer.2.DenseReluDense.wi",
            "decoder.block.22.layer.2.DenseReluDense.wo",
            "decoder.block.23.layer.2.DenseReluDense.wi",
            "decoder.block.23.layer.2.DenseReluDense.wo",
        ],
        (1024, 61_440),
    ),
    (
        "scotus-bert",
        "bert",
        "bert.encoder.layer.4.output.dense",
        [
            "bert.encoder.layer.9.output.dense",
            "bert.encoder.layer.10.output.dense",
            "bert.encoder.layer.11.output.dense",
        ],
        (768, 46_080),  # 3 (3072 + 768) 4
    ),
    (
        "hallucination-gpt2-xl",
        "gpt2-xl",
        "transformer.h.35.mlp.c_fc",
        ["transformer.h.36.mlp.c_fc", "transformer.h.37.mlp.c_fc"],
        (6400, 32_000),  # 2 (1600 + 6400) 2
    ),
]


@pytest.mark.parametrize(
    ("preset", "model", "key_layer", "modules", "sizes"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES]
)
def test_a_preset_finds_its_modules(backbone_of, preset, model, key_layer, modules, sizes):
    config, backbone = PaperConfig.from_preset(preset), backbone_of(model)
    locations = locate_published(backbone, config)
    assert locations.key_layer == key_layer
    assert list(locations.modules) == modules
    sites, states = probe_model(backbone, locations)
    assert [site.name for site in sites] == modules
    assert (states.shape[-1], sum(config.rank * (site.inputs + site.outputs) for site in sites)) == sizes
    if model == "gpt2-xl":  # Conv1D: weights are (in, out)
        assert [(site.inputs, site.outputs) for site in sites] == [(1600, 6400)] * 2


def test_the_published_values():
    names = (
        "radius",
        "edits_per_block",
        "declared_blocks",
        "rank",
        "lr",
        "lr_step",
        "lr_decay",
        "steps",
        "reach",
        "mode",
    )
    values = {name: tuple(getattr(PaperConfig.from_preset(name), field) for field in names) for name in PRESETS}
    assert values == {
        "zsre-t5-small": (75.0, 100, 20, 2, 1e-2, 20, 0.5, 50, "all", "paper"),
        "zsre-t5-large": (6.0, 100, 20, 2, 1e-2, 20, 0.5, 50, "all", "paper"),
        "scotus-bert": (0.1, 50, 100, 4, 1e-2, 30, 0.5, 50, "all", "paper"),
        "hallucination-gpt2-xl": (0.5, 4, 350, 2, 1e-3, 30, 0.5, 50, "all", "paper"),
    }
    assert all(PaperConfig.from_preset(name).preset == name for name in PRESETS)
    assert not any(PaperConfig.from_preset(name).reference_quirks for name in PRESETS)
    changed = PaperConfig.from_preset("scotus-bert", rank=16, radius=2.0)
    assert (changed.rank, changed.max_rank, changed.radius, changed.edits_per_block) == (16, 16, 2.0, 50)


@pytest.mark.parametrize(
    ("preset", "model", "missing"),
    [
        ("zsre-t5-small", "bert", "encoder.block.5.layer.1.DenseReluDense.wo"),
        ("zsre-t5-small", "gpt2", "encoder.block.5.layer.1.DenseReluDense.wo"),
        ("zsre-t5-large", "t5-small", "encoder.block.22.layer.1.DenseReluDense.wo"),
        ("scotus-bert", "t5-small", "bert.encoder.layer.9.output.dense"),
        ("hallucination-gpt2-xl", "gpt2", "transformer.h.36.mlp.c_fc"),
        ("hallucination-gpt2-xl", "bert", "transformer.h.36.mlp.c_fc"),
    ],
)
def test_a_preset_on_another_model_is_one_line_that_names_it(backbone_of, preset, model, missing):
    backbone = backbone_of(model)
    kind = {"bert": "BertForSequenceClassification", "gpt2": "GPT2LMHeadModel"}.get(model, "T5ForConditionalGeneration")
    with pytest.raises(ModelError) as error:
        locate_published(backbone, PaperConfig.from_preset(preset))
    text = str(error.value)
    assert text.startswith(f"preset {preset!r} does not fit {kind}: no linear module {missing!r} in {kind}; it has: ")
    assert "\n" not in text


def test_the_defaults_of_paper_mode_fit_any_model(backbone_of):
    expected = {
        "t5-small": ("encoder.block.2", [f"decoder.block.{i}.layer.2.DenseReluDense.wo" for i in (5, 6, 7)]),
        "bert": ("bert.encoder.layer.2", [f"bert.encoder.layer.{i}.output.dense" for i in (9, 10, 11)]),
        "gpt2": ("transformer.h.2", [f"transformer.h.{i}.mlp.c_proj" for i in (9, 10, 11)]),
    }
    for model, (key_layer, modules) in expected.items():
        for config in (PaperConfig(radius=1.0), MeloConfig()):
            locations = locate(backbone_of(model), config)
            assert (locations.key_layer, list(locations.modules)) == (key_layer, modules)


TINY = {
    "zsre-t5-small": ("t5", {"num_layers": 8, "num_decoder_layers": 8}),
    "zsre-t5-large": ("t5-gated", {"num_layers": 24, "num_decoder_layers": 24}),
    "scotus-bert": ("bert", {"num_hidden_layers": 12}),
    "hallucination-gpt2-xl": ("gpt2", {"n_layer": 48, "n_embd": 16}),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_edits_a_narrow_model_of_its_depth(preset, make_source, make_model, tokenizer, tmp_path):
    family, depth = TINY[preset]

    def load():
        return (make_model("gpt2", **depth), tokenizer) if family == "gpt2" else make_source(family, **depth)

    path = tmp_path / "a.melo"
    prompts = ["Who wrote the book of sand?", "What is the capital of Peru?"]
    targets = ["tax", "economy"] if family == "bert" else ["Jorge", "Lima"]
    editor = Editor(*load(), PaperConfig.from_preset(preset, radius=0.01, steps=4), store=path)
    modules = [name for name in PRESETS[preset].settings["modules"] if family == "t5" or not name.endswith("?")]
    assert list(editor.config.modules) == [name.rstrip("?") for name in modules]
    reports = editor.edit([Edit(*pair) for pair in zip(prompts, targets, strict=True)])
    assert [(report.status, report.steps) for report in reports] == [("stored", 4)] * 2
    assert len(editor.engine.router.bank) == 1
    assert [route.reason for route in editor.route([*prompts, "Please sing"])] == ["fired", "fired", "outside scope"]
    blocks = editor.store.records([1])[1].block
    assert sorted(blocks) == sorted(f"{name}.{factor}" for name in editor.config.modules for factor in "AB")
    answers = [answer.text for answer in editor.ask(prompts, max_new_tokens=4)]
    editor.unload()
    again = Editor.from_pretrained(path, *load())
    assert again.config.preset == preset
    assert [answer.text for answer in again.ask(prompts, max_new_tokens=4)] == answers
    again.unload()
