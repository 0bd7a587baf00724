"""Encoder-decoders and classifiers: training against a literal loop, with and without the cached prefix."""

import peft
import pytest
import torch
from support.encoder_checks import BOTH, logits_of
from support.model_calls import body, source_inputs
from support.prompts import BOOK, CASES, OTHERS, source_edits
from support.training import rows_of, train
from torch.nn import functional as F

from meloedit import Edit
from meloedit.training.trainer import initial_block, seeded


def target_logits(editor, row):
    """Run the whole base model on one row; return the logits of its target's tokens."""
    ids = torch.tensor([row.prompt])
    with editor.base_model():
        if editor.backbone.stop_ids:
            return editor.model(ids, decoder_input_ids=torch.tensor([[1, *row.target[:-1]]])).logits[0]
        return editor.model(ids).logits


def literal_losses(editor, edit, steps):
    """Train one block row by row on the whole model, with ``torch.optim.Adam``; return the loss before each step."""
    model, config = editor.model, editor.config
    start = initial_block(editor.engine.router.bank.sites, config.rank, seeded(config.seed, config.rank, edit.id))
    tables = [factor.clone().requires_grad_() for name in config.modules for factor in start[name][:2]]
    optimiser = torch.optim.Adam(tables, lr=config.lr)
    losses = []
    for _ in range(steps):
        rounded = [table + (table.half().float() - table).detach() for table in tables]
        handles = [
            model.get_submodule(name).register_forward_hook(
                lambda module, args, output, a=rounded[2 * i], b=rounded[2 * i + 1]: output + args[0] @ a.T @ b.T
            )
            for i, name in enumerate(config.modules)
        ]
        loss = torch.stack(
            [F.cross_entropy(target_logits(editor, row), torch.tensor(row.target)) for row in rows_of(editor, edit)]
        ).mean()
        for handle in handles:
            handle.remove()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize(
    ("family", "modules"), [("t5", None), ("t5-gated", None), ("bert", None), ("t5", BOTH), ("t5-gated", BOTH)]
)
def test_losses_are_those_of_a_literal_training_with_and_without_the_prefix_cache(make_source_editor, family, modules):
    editor = make_source_editor(family, lr=0.02, modules=modules, reach="all" if modules else "answer")
    book, capital, legs = source_edits(family)
    edits = [book, Edit(capital.prompt, capital.target, variants=["Peru's capital?", "Of Peru, the capital?"]), legs]
    settings = {"steps": 6, "min_target_probability": 0.999, "max_rank": 2}
    with_cache = [result.losses for result in train(editor, edits, **settings)]
    without = [result.losses for result in train(editor, edits, prefix_cache=False, **settings)]
    literal = [literal_losses(editor, edit, 7) for edit in edits]
    for cached, whole, expected in zip(with_cache, without, literal, strict=True):
        assert len(cached) > 3 and expected[0] > expected[-1]
        assert cached == pytest.approx(expected[: len(cached)], rel=1e-4)
        assert whole == pytest.approx(cached, rel=1e-4)
    editor.unload()


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
def test_training_together_equals_training_one_by_one(make_source, make_source_editor, family, monkeypatch):
    monkeypatch.setattr("meloedit.training.replay.ROWS_PER_BATCH", 2)
    editor = make_source_editor(
        family, model=make_source(family)[0].double(), steps=16, min_target_probability=0.9, max_rank=2
    )
    edits = [*source_edits(family), Edit(OTHERS[1], source_edits(family)[0].target, variants=[OTHERS[0]])]
    together = train(editor, edits)
    for edit, one in zip(edits, together, strict=True):
        (alone,) = train(editor, [edit])
        assert (alone.steps, alone.holds) == (one.steps, one.holds)
        assert alone.losses == pytest.approx(one.losses, rel=1e-6)
        for name, pair in alone.block.items():
            assert all(torch.equal(factor, other) for factor, other in zip(pair, one.block[name], strict=True))
    assert len({result.steps for result in together}) > 1
    editor.unload()


def test_a_model_whose_layers_cannot_be_run_again_is_trained_whole(make_source, make_source_editor, caplog):
    model, _ = make_source("bert")
    top, calls = model.bert.encoder.layer[-1], []
    forward, low = top.forward, model.bert.encoder.layer[0]
    lowest = low.forward

    def unusual(*args, **kwargs):  # depends on something that the layers below leave behind
        output = forward(*args, **kwargs)
        scale = 0.5 if calls else 1.0
        calls.clear()
        return output * scale

    low.forward = lambda *args, **kwargs: calls.append(1) or lowest(*args, **kwargs)
    top.forward = unusual
    editor = make_source_editor("bert", CASES[:2], model=model)
    assert "training runs the whole model instead" in caplog.text
    assert [answer.text for answer in editor.ask([edit.prompt for edit in CASES[:2]])] == ["tax", "economy"]
    editor.unload()


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_training_that_is_interrupted_puts_the_model_back(make_source, make_source_editor, family, error):
    model, _ = make_source(family)
    editor = make_source_editor(family, model=model.train())
    editor.calibrate()
    before, calls = body(model), []

    def fail(*_):
        calls.append(1)
        if len(calls) > 2:  # two passes check the cached prefix
            raise error("stop")

    handle = editor.backbone.stacks[-1][1][-1].register_forward_hook(fail)
    with pytest.raises(error, match="stop"):
        editor.edit(source_edits(family))
    handle.remove()
    assert body(model) == before and editor.edits() == []
    assert all(report.holds for report in editor.edit(source_edits(family)))
    editor.unload()


@pytest.mark.parametrize("family", ["t5", "t5-gated", "bert", "bart"])
def test_a_block_is_a_plain_lora_in_the_weights(make_source, make_source_editor, family):
    model, _ = make_source(family)
    editor = make_source_editor(family, source_edits(family)[:1], model=model.double())
    block, rank = editor.store.tensors()["book"][0], editor.edits()[0].rank
    rows = [editor.backbone.encode(BOOK.prompt).ids]
    ours = logits_of(editor, rows)
    assert editor.last_routes[0].edit == "book"
    with editor.base_model():
        base = logits_of(editor, rows)
    names = list(editor.config.modules)
    assert all(
        name.endswith({"bert": "output.dense", "bart": "fc2"}.get(family, "DenseReluDense.wo")) for name in names
    )
    inputs = source_inputs(editor, rows)
    editor.unload()

    wrapped = peft.get_peft_model(
        make_source(family)[0].double(), peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    ).double()
    plain = make_source(family)[0].double()
    with torch.no_grad():
        for name in names:
            a, b = block[f"{name}.A"].double(), block[f"{name}.B"].double()
            plain.get_submodule(name).weight += b @ a
            layer = wrapped.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b)
        assert torch.allclose(plain(**inputs).logits, ours, atol=1e-6)
        assert torch.allclose(wrapped.eval()(**inputs).logits, ours, atol=1e-6)
    assert not torch.allclose(ours, base, atol=0.1)
