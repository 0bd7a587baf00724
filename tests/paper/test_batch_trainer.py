"""Paper mode: a fixed number of iterations for a batch, against a literal loop of Adam and StepLR."""

import math

import pytest
import torch
from support.paper_cases import CASES, FACTS, FAMILIES, QUESTIONS, rows_of
from torch.nn import functional as F

from meloedit import Edit
from meloedit.paper.trainer import BatchTrainer
from meloedit.training.trainer import initial_block, seeded


def row_logits(editor, row):
    """Run the whole base model on one row; return the logits of its target's tokens."""
    with editor.base_model():
        if editor.backbone.answer_follows_prompt:
            ids = torch.tensor([row.prompt + row.target[:-1]])
            return editor.model(ids).logits[0, len(row.prompt) - 1 :]
        if editor.backbone.stop_ids:
            decoder = torch.tensor([[1, *row.target[:-1]]])
            return editor.model(torch.tensor([row.prompt]), decoder_input_ids=decoder).logits[0]
        return editor.model(torch.tensor([row.prompt])).logits


def literal_block(editor, edits, start, scale=1.0):
    """Train a block on the whole model by torch's Adam and StepLR, each factor multiplied by ``scale`` where used."""
    config, model = editor.config, editor.model
    tables = [(factor / scale).requires_grad_() for name in config.modules for factor in start[name][:2]]
    optimiser = torch.optim.Adam(tables, lr=config.lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, config.lr_step, config.lr_decay)
    rows = rows_of(editor, edits)
    targets = torch.tensor([token for row in rows for token in row.target])
    for step in range(config.steps + 1):
        used = [scale * table + ((scale * table).half() - scale * table).detach() for table in tables]  # as stored
        handles = [
            model.get_submodule(name).register_forward_hook(
                lambda module, args, output, a=used[2 * i], b=used[2 * i + 1]: (
                    output + args[0] @ a.to(output).T @ b.to(output).T
                )
            )
            for i, name in enumerate(config.modules)
        ]
        loss = F.cross_entropy(torch.cat([row_logits(editor, row) for row in rows]).float(), targets)
        for handle in handles:
            handle.remove()
        if step < config.steps:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    names = [f"{name}.{factor}" for name in config.modules for factor in "AB"]
    return dict(zip(names, [table.detach() for table in used], strict=True)), loss.item()


def assert_same_block(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.abs().max() > 0.01
        assert torch.allclose(tensor.float(), expected[name].float(), atol=4e-3), name


# Two lengths, so that a mean over tokens is not one over edits; one edit in two wordings.
BATCH = {
    "gpt2": ("Lima", "in the old river bed"),
    "t5-gated": ("Lima", "in the old river bed"),
    "bert": ("tax", "crime"),
}


def batch_of(family):
    one, other = BATCH[family]
    return [
        Edit(QUESTIONS["a"], one, id="a", variants=["The book of sand: by whom?"]),
        Edit(QUESTIONS["b"], other, id="b"),
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_training_is_a_literal_loop_of_adam_and_step_lr(make_paper, make_model, make_source, family, prefix_cache):
    model = make_model("gpt2") if family == "gpt2" else make_source(family)[0]
    model = model.double()  # so that the order of summation does not show
    editor = make_paper(family, model=model, lr=0.02, lr_step=8, prefix_cache=prefix_cache, steps=25)
    edits = batch_of(family)
    reports = editor.edit(edits)
    start = initial_block(editor.engine.router.bank.sites, 2, seeded(0, 2, "a/b"))
    expected, _ = literal_block(editor, edits, start)
    assert_same_block(editor.store.records([1])[1].block, expected)
    assert [report.steps for report in reports] == [25, 25]
    editor.unload()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_released_codes_training(make_paper, make_model, make_source, family):
    """A and B times sqrt(n) each in the forward pass, A drawn from U(-1/sqrt(p), 1/sqrt(p)) once that is folded in."""
    model = make_model("gpt2") if family == "gpt2" else make_source(family)[0]
    settings = {"reference_quirks": True, "declared_blocks": 20, "lr": 0.004, "steps": 20, "lr_step": 6, "rank": 3}
    editor = make_paper(family, model=model.double(), **settings)
    edits = batch_of(family)
    reports = editor.edit(edits)
    assert [report.rank for report in reports] == [3, 3]
    generator = seeded(0, 3, "a/b")
    start = {}
    for site in editor.engine.router.bank.sites:
        a = (2 * torch.rand(3, site.inputs, generator=generator) - 1) / math.sqrt(3)
        start[site.name] = (a, torch.zeros(site.outputs, 3))
    expected, _ = literal_block(editor, edits, start, scale=math.sqrt(20))
    assert_same_block(editor.store.records([1])[1].block, expected)
    other, _ = literal_block(editor, edits, start)  # the scale matters
    name = f"{editor.config.modules[0]}.B"
    assert not torch.allclose(other[name].float(), expected[name].float(), atol=0.02)
    editor.unload()


@pytest.mark.parametrize("quirks", [False, True])
def test_how_a_begins(make_paper, quirks):
    editor = make_paper("gpt2", FACTS[:1], rank=4, lr=1e-9, steps=1, reference_quirks=quirks)
    block = editor.store.records([1])[1].block
    a = torch.cat([block[f"{name}.A"].flatten() for name in editor.config.modules]).float()
    assert len(a) == 3 * 4 * 128
    if quirks:  # uniform
        assert a.abs().max() <= 0.5 and a.abs().max() > 0.49 and a.std() == pytest.approx(0.5 / math.sqrt(3), rel=0.05)
    else:  # Gaussian
        assert a.std() == pytest.approx(128**-0.5, rel=0.05) and a.abs().max() > 3 * 128**-0.5
    assert all(block[f"{name}.B"].abs().max() < 1e-6 for name in editor.config.modules)
    editor.unload()


def test_every_iteration_is_taken(make_paper):
    editor = make_paper("bert", prefix_cache=False)
    passes, holding = [], []
    handle = editor.model.bert.encoder.layer[-1].register_forward_hook(lambda *_: passes.append(1))
    rows = [(edit.id, rows_of(editor, [edit])) for edit in CASES[:2]]
    results = BatchTrainer(editor.engine.router, editor.config).train(rows, holding.append)
    handle.remove()
    assert len(passes) == len(holding) == 51  # the last one only checks
    assert holding[20] == 2  # long before the end
    assert [(result.steps, result.holds) for result in results] == [(50, True), (50, True)]
    assert results[0].block is results[1].block
    assert [report.steps for report in editor.edit(CASES[:3])] == [50, 50, 50]
    editor.unload()


def test_edits_that_do_not_hold_are_stored_and_said_to(make_paper):
    editor = make_paper("t5-gated", steps=1)
    reports = editor.edit(FACTS[:3])
    assert [(report.status, report.holds, report.steps) for report in reports] == [("stored", False, 1)] * 3
    assert {report.reason for report in reports} == {"does not hold after 1 iterations; stored as it is"}
    assert [stored.edit.id for stored in editor.edits()] == ["a", "b", "c"]
    assert [route.edit for route in editor.route([QUESTIONS[i] for i in "abc"])] == ["a", "b", "c"]
    assert {broken.id for broken in editor.check().broken} == {"a", "b", "c"}
    editor.unload()


def test_held_is_said_of_each_edit(make_paper):
    editor = make_paper("bert", document_tokens=8)  # two texts that the model cannot tell apart
    texts = [f"Who wrote the book of sand and {end}?" for end in ("salt", "stone")]
    assert editor.backbone.encode(texts[0]).ids == editor.backbone.encode(texts[1]).ids
    reports = editor.edit([Edit(texts[0], "tax", id="one"), Edit(texts[1], "crime", id="other")])
    assert sorted(report.holds for report in reports) == [False, True]
    assert [report.status for report in reports] == ["stored", "stored"]
    (held,) = [report for report in reports if report.holds]
    (lost,) = [report for report in reports if not report.holds]
    assert (held.reason, lost.reason) == ("", "does not hold after 50 iterations; stored as it is")
    assert editor.ask(texts)[0].text == {"one": "tax", "other": "crime"}[held.id]
    assert [route.edit for route in editor.route(texts)] == ["other", "other"]  # the newer one's key
    editor.unload()
