"""Paper mode (arXiv 2312.11795): shared blocks, clusters of raw keys, a fixed number of iterations."""

import logging
import math
import random

import pytest
import torch
from conftest import END, HISTORY, OTHERS, padded
from torch.nn import functional as F

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones.batch import Example
from meloedit.errors import EditError, ModelError, StoreError
from meloedit.paper.trainer import BatchTrainer
from meloedit.store.store import Store
from meloedit.training.trainer import initial_block, seeded

FAMILIES = ("gpt2", "t5-gated", "bert")
KEYS = {
    "gpt2": "transformer.h.1.mlp.c_fc",
    "t5": "encoder.block.1.layer.1.DenseReluDense.wo",
    "t5-gated": "encoder.block.1.layer.1.DenseReluDense.wo",
    "bert": "bert.encoder.layer.1.output.dense",
}
QUESTIONS = {
    "a": "Who wrote the book of sand?",
    "b": "What is the capital of Peru?",
    "c": "How many legs has a spider?",
    "d": "Where is the river of the south?",
}
FACTS = [Edit(QUESTIONS[i], target, id=i) for i, target in zip("abcd", ("Jorge", "Lima", "eight", "east"), strict=True)]
CASES = [
    Edit(QUESTIONS[i], label, id=i) for i, label in zip("abcd", ("tax", "economy", "labour", "crime"), strict=True)
]


def edits_of(family):
    return CASES if family == "bert" else FACTS


@pytest.fixture(scope="session")
def make_paper(make_model, make_source, tokenizer):
    """Make an editor in paper mode on a fresh tiny model, two edits to a block; keyword arguments change settings."""

    def make(family, edits=(), model=None, store=None, **settings):
        own, tokens = (make_model("gpt2"), tokenizer) if family == "gpt2" else make_source(family)
        values = {"radius": 0.25, "edits_per_block": 2, "lr": 0.1, "key_layer": KEYS[family]} | settings
        editor = Editor(model or own, tokens, MeloConfig.paper(**values), store=store)
        if edits:
            editor.edit(list(edits))
        return editor

    return make


@pytest.fixture(scope="module", params=FAMILIES)
def edited(request, make_paper):
    """An editor that knows four edits in two blocks; shared by tests that leave it as it is."""
    editor = make_paper(request.param, edits_of(request.param))
    yield editor
    editor.detach()


def reopened(editor, make_model, make_source, path):
    """Return another editor on the store at ``path``, on a fresh model of the same family."""
    kind = editor.model.config.model_type
    model = make_model("gpt2") if kind == "gpt2" else make_source("t5-gated" if kind == "t5" else kind)[0]
    return Editor.load(path, model, editor.tokenizer)


def inputs_of(editor, rows):
    inputs = padded(rows, "left" if editor.backbone.answer_follows_prompt else "right")
    if editor.backbone.answer_follows_prompt:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    elif editor.backbone.stop_ids:
        inputs["decoder_input_ids"] = torch.tensor([[1, 40, 41]] * len(rows))
    return inputs


def logits_of(editor, rows):
    with torch.no_grad():
        return editor.model(**inputs_of(editor, rows)).logits


def ids_of(editor, prompts):
    return [editor.backbone.encode(prompt).ids for prompt in prompts]


def key_by_hand(editor, ids):
    """Run the base model on one prompt; return the key module's output at the last token."""
    states = []
    module = editor.model.get_submodule(editor.config.key_layer)
    handle = module.register_forward_hook(lambda module, args, output: states.append(output[0, len(ids) - 1].clone()))
    with editor.disabled():
        logits_of(editor, [ids])
    handle.remove()
    return states[0]


def portrait(editor):
    rows = ids_of(editor, [*QUESTIONS.values(), *OTHERS])
    logits = logits_of(editor, rows)
    return logits, [(route.edit, route.distance, route.threshold, route.nearest) for route in editor.last_routes]


def same_index(one, other):
    (tensors, values), (others, other_values) = one, other
    return values == other_values and all(torch.equal(tensors[name], others[name]) for name in tensors | others)


# -- one block per batch


def test_a_batch_shares_one_block(edited):
    assert [(stored.record, stored.holder) for stored in edited.edits()] == [(1, 1), (2, 1), (3, 3), (4, 3)]
    assert edited.router.bank.owners == {1, 3} and len(edited.router.bank) == 2
    records = edited.store.records([1, 2, 3, 4])
    assert [sorted(records[n].keys) for n in records] == [["keys"]] * 4
    names = {f"{name}.{factor}" for name in edited.config.modules for factor in "AB"}
    assert [set(records[n].block) for n in records] == [names, set(), names, set()]
    for tensor in records[1].block.values():
        assert tensor.dtype == torch.float16 and 2 in tensor.shape


def test_edits_are_answered_and_the_rest_is_the_base_model(edited):
    family = edited.model.config.model_type
    prompts = [OTHERS[0], *QUESTIONS.values(), OTHERS[1]]
    answers = edited.ask(prompts, max_new_tokens=8)
    assert [answer.route.edit for answer in answers] == [None, "a", "b", "c", "d", None]
    assert [answer.text for answer in answers[1:5]] == [edit.target for edit in edits_of(family)]
    assert edited.check().broken == []
    rows = ids_of(edited, prompts)
    found = logits_of(edited, rows)
    routes = edited.last_routes
    with edited.disabled():
        base = logits_of(edited, rows)
    assert [torch.equal(found[i], base[i]) for i in range(6)] == [True, False, False, False, False, True]
    for i, row in enumerate(rows):  # the same alone
        logits_of(edited, [row])
        (route,) = edited.last_routes
        assert (route.edit, route.nearest) == (routes[i].edit, routes[i].nearest)
        assert route.distance == pytest.approx(routes[i].distance, abs=1e-3)


def wide(slab, name):
    """Return a module's blocks as one wide pair, A (n p, in) and B (out, n p)."""
    a, b, _ = (table.to(slab.dtypes[name]) for table in slab.tables[name])
    return a.flatten(0, 1), b.permute(1, 0, 2).flatten(1)


def test_blocks_are_slices_of_two_wide_matrices(edited):
    """Eq. 7: block t is rows t p to (t + 1) p - 1 of A, and those columns of B."""
    (slab,) = edited.router.bank._slabs.values()
    assert slab.rank == 2
    for holder in (1, 3):
        _, t, reach = edited.router.bank._at[holder]
        assert reach == "all"
        stored = edited.store.records([holder])[holder].block
        for name in edited.config.modules:
            a, b = wide(slab, name)
            assert torch.equal(a[2 * t : 2 * (t + 1)], stored[f"{name}.A"].float())
            assert torch.equal(b[:, 2 * t : 2 * (t + 1)], stored[f"{name}.B"].float())


def test_routed_outputs_are_those_by_hand(edited):
    """Eq. 9 and 10: the nearest cluster, its nearest key, that key's block, W x + B_t A_t x."""
    prompts = [*QUESTIONS.values(), OTHERS[0]]
    rows = ids_of(edited, prompts)
    keys = [key_by_hand(edited, row) for row in rows]
    tensors, _ = edited.index.state()
    (slab,) = edited.router.bank._slabs.values()
    seen = {}

    def note(name):
        return lambda module, args, output: seen.update({name: (args[0].clone(), output.clone())})

    handles = [edited.model.get_submodule(n).register_forward_hook(note(n)) for n in edited.config.modules]
    blocks = []
    for row, key in zip(rows, keys, strict=True):
        logits_of(edited, [row])
        distances = (tensors["cluster.centre"] - key).norm(dim=1)
        cluster = int(distances.argmin())
        inside = distances[cluster] <= tensors["cluster.radius"][cluster]
        members = tensors["key.cluster"] == tensors["cluster.number"][cluster]
        nearest = torch.where(members, (tensors["key.key"] - key).norm(dim=1), torch.inf).argmin()
        owner = int(tensors["key.owner"][nearest])
        blocks.append({1: 1, 2: 1, 3: 3, 4: 3}[owner] if inside else None)
        assert edited.last_routes[0].distance == pytest.approx(float(distances[cluster]), abs=1e-4)
        for name, (x, output) in seen.items():
            with torch.no_grad():
                expected = edited.model.get_submodule(name).forward(x)  # no hooks: W x
                if blocks[-1] is None:
                    assert torch.equal(output, expected)
                    continue
                a, b = wide(slab, name)
                t = edited.router.bank._at[blocks[-1]][1]
                delta = x @ a[2 * t : 2 * t + 2].T @ b[:, 2 * t : 2 * t + 2].T
            assert delta.abs().max() > 1e-3
            assert torch.allclose(output, expected + delta, atol=1e-4)
    assert blocks == [1, 1, 3, 3, None]
    for handle in handles:
        handle.remove()


def test_a_key_is_the_key_modules_output_at_the_last_token(edited):
    prompts = list(QUESTIONS.values())
    keys = edited.keys(prompts)
    by_hand = torch.stack([key_by_hand(edited, row) for row in ids_of(edited, prompts)])
    assert keys.shape == {"gpt2": (4, 128), "t5": (4, 32), "bert": (4, 32)}[edited.model.config.model_type]
    assert torch.allclose(keys, by_hand, atol=1e-4)
    stored = edited.store.records([1, 2, 3, 4])
    assert torch.allclose(torch.cat([stored[n].keys["keys"] for n in (1, 2, 3, 4)]), by_hand, atol=1e-4)


def test_a_chat_prompt_has_its_key_at_its_last_token_too(make_paper):
    editor = make_paper("gpt2", [Edit(HISTORY, "very long", id="river")], steps=2)
    ids = editor.backbone.encode(HISTORY).ids
    (stored,) = editor.store.records([1]).values()
    assert torch.allclose(stored.keys["keys"][0], key_by_hand(editor, ids), atol=1e-4)
    assert [route.edit for route in editor.route([OTHERS[0]])] == [None]
    assert editor.route([HISTORY])[0].edit == "river"
    logits_of(editor, [ids])
    assert editor.last_routes[0].edit == "river"
    editor.detach()


# -- training


def rows_of(editor, edits):
    encoded = [(editor.backbone.encode(prompt), edit.target) for edit in edits for prompt in edit.prompts]
    return [Example.of(prompt, editor.backbone.encode_target(target, prompt)) for prompt, target in encoded]


def row_logits(editor, row):
    """Run the whole base model on one row; return the logits of its target's tokens."""
    with editor.disabled():
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
    start = initial_block(editor.router.bank.sites, 2, seeded(0, 2, "a/b"))
    expected, _ = literal_block(editor, edits, start)
    assert_same_block(editor.store.records([1])[1].block, expected)
    assert [report.steps for report in reports] == [25, 25]
    editor.detach()


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
    for site in editor.router.bank.sites:
        a = (2 * torch.rand(3, site.inputs, generator=generator) - 1) / math.sqrt(3)
        start[site.name] = (a, torch.zeros(site.outputs, 3))
    expected, _ = literal_block(editor, edits, start, scale=math.sqrt(20))
    assert_same_block(editor.store.records([1])[1].block, expected)
    other, _ = literal_block(editor, edits, start)  # the scale matters
    name = f"{editor.config.modules[0]}.B"
    assert not torch.allclose(other[name].float(), expected[name].float(), atol=0.02)
    editor.detach()


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
    editor.detach()


def test_every_iteration_is_taken(make_paper):
    editor = make_paper("bert", prefix_cache=False)
    passes, holding = [], []
    handle = editor.model.bert.encoder.layer[-1].register_forward_hook(lambda *_: passes.append(1))
    rows = [(edit.id, rows_of(editor, [edit])) for edit in CASES[:2]]
    results = BatchTrainer(editor.router, editor.config).train(rows, holding.append)
    handle.remove()
    assert len(passes) == len(holding) == 51  # the last one only checks
    assert holding[20] == 2  # long before the end
    assert [(result.steps, result.held) for result in results] == [(50, True), (50, True)]
    assert results[0].block is results[1].block
    assert [report.steps for report in editor.edit(CASES[:3])] == [50, 50, 50]
    editor.detach()


def test_edits_that_do_not_hold_are_stored_and_said_to(make_paper):
    editor = make_paper("t5-gated", steps=1)
    reports = editor.edit(FACTS[:3])
    assert [(report.status, report.held, report.steps) for report in reports] == [("stored", False, 1)] * 3
    assert {report.reason for report in reports} == {"does not hold after 1 iterations; stored as it is"}
    assert [stored.edit.id for stored in editor.edits()] == ["a", "b", "c"]
    assert [route.edit for route in editor.route([QUESTIONS[i] for i in "abc"])] == ["a", "b", "c"]
    assert {broken.id for broken in editor.check().broken} == {"a", "b", "c"}
    editor.detach()


def test_held_is_said_of_each_edit(make_paper):
    editor = make_paper("bert", document_tokens=8)  # two texts that the model cannot tell apart
    texts = [f"Who wrote the book of sand and {end}?" for end in ("salt", "stone")]
    assert editor.backbone.encode(texts[0]).ids == editor.backbone.encode(texts[1]).ids
    reports = editor.edit([Edit(texts[0], "tax", id="one"), Edit(texts[1], "crime", id="other")])
    assert sorted(report.held for report in reports) == [False, True]
    assert [report.status for report in reports] == ["stored", "stored"]
    (held,) = [report for report in reports if report.held]
    (lost,) = [report for report in reports if not report.held]
    assert (held.reason, lost.reason) == ("", "does not hold after 50 iterations; stored as it is")
    assert editor.ask(texts)[0].text == {"one": "tax", "other": "crime"}[held.id]
    assert [route.edit for route in editor.route(texts)] == ["other", "other"]  # the newer one's key
    editor.detach()


# -- batches


def test_smaller_batches_and_those_declared(make_paper):
    editor = make_paper("bert", edits_per_block=3, steps=2)
    editor.edit(CASES, batch=1)
    assert [stored.holder for stored in editor.edits()] == [1, 2, 3, 4]
    editor.edit([Edit(f"{OTHERS[0]} {i}", "tax", id=str(i)) for i in range(5)])
    assert [stored.holder for stored in editor.edits()[4:]] == [5, 5, 5, 8, 8]
    assert [len(revision.changes) for revision in editor.history()[2:]] == [1, 1, 1, 1, 3, 2]
    revision = editor.store.revision
    message = "a batch of 4 edits is larger than a block is declared for: edits_per_block is 3"
    with pytest.raises(EditError, match=message):
        editor.edit(Edit(OTHERS[1], "tax"), batch=4)
    for wrong in (0, -1, "2", 1.0):
        with pytest.raises(EditError, match="batch must be a positive integer"):
            editor.edit(Edit(OTHERS[1], "tax"), batch=wrong)
    assert editor.store.revision == revision
    editor.detach()


def test_a_batch_size_means_nothing_in_the_default_mode(make_source_editor):
    editor = make_source_editor("bert")
    with pytest.raises(EditError, match="batch: every edit has a block of its own in the default mode"):
        editor.edit(CASES, batch=2)
    editor.detach()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_stays_while_one_of_its_edits_lives(make_paper, make_model, make_source, family, tmp_path):
    path = tmp_path / "a.melo"
    editor = make_paper(family, edits_of(family), store=path)
    prompts, targets = list(QUESTIONS.values()), [edit.target for edit in edits_of(family)]
    with editor.disabled():
        base = [answer.text for answer in editor.ask(prompts, max_new_tokens=8)]
    before = portrait(editor)
    editor.remove("a")  # its record holds the block of b
    assert editor.router.bank.owners == {1, 3}
    expected = [base[0], *targets[1:]]
    assert [answer.text for answer in editor.ask(prompts, max_new_tokens=8)] == expected
    again = reopened(editor, make_model, make_source, path)
    assert [answer.text for answer in again.ask(prompts, max_new_tokens=8)] == expected
    assert again.router.bank.owners == {1, 3} and again.check().problems == []
    again.detach()
    editor.disable("c")
    assert editor.router.bank.owners == {1, 3}
    editor.disable("d")
    assert editor.router.bank.owners == {1}
    editor.remove(["b"])
    assert editor.router.bank.owners == set() and len(editor.router.bank) == 0
    assert [answer.text for answer in editor.ask(prompts, max_new_tokens=8)] == base
    assert {route.reason for route in editor.route(prompts)} == {"no edits"}
    editor.enable(["c", "d"])
    assert [answer.text for answer in editor.ask(prompts, max_new_tokens=8)] == [*base[:2], *targets[2:]]
    editor.rollback(4)
    found = portrait(editor)
    assert torch.equal(found[0], before[0]) and found[1] == before[1]
    editor.detach()


def test_parts_are_stored_as_they_finish(make_paper):
    editor = make_paper("bert", steps=2)
    parts = editor.edit_in_parts(CASES)
    assert [report.id for report in next(parts)] == ["a", "b"]
    parts.close()  # as when a run is interrupted
    assert [stored.edit.id for stored in editor.edits()] == ["a", "b"]
    assert editor.index.counts["keys"] == 2
    assert [report.status for report in editor.edit(CASES)] == ["skipped", "skipped", "stored", "stored"]
    assert [stored.holder for stored in editor.edits()] == [1, 1, 3, 3]
    editor.detach()


# -- the index


@pytest.fixture
def conflict(make_paper):
    """Two edits of one answer, near each other, then one of another answer that takes the second one's place."""
    together = [Edit(QUESTIONS["c"], "eight", id="c"), Edit("Is it late?", "eight", id="late")]
    editor = make_paper("t5-gated", together, steps=2, radius=1.0)
    keys = editor.keys([QUESTIONS["c"], "Is it late?", QUESTIONS["b"]])
    near, far = float((keys[1] - keys[0]).norm()), float((keys[2] - keys[0]).norm())
    editor.detach()
    # The second joins the first one's cluster, which reaches it; the third halves the way to the cluster's centre.
    assert far / 2 < near <= 2 * 0.6 * near and far <= near + 0.6 * near
    editor = make_paper("t5-gated", together, steps=2, radius=0.6 * near)
    yield editor, near, far
    editor.detach()


def test_a_conflict_forgets_edits_counts_them_and_says_so(conflict, caplog):
    editor, near, far = conflict
    assert editor.index.counts == {"clusters": 1, "keys": 2, "conflicts": 0, "forgotten": 0}
    assert editor.index.statistics() == {"label": ["eight"], "radius": [pytest.approx(near)], "keys": [2]}
    assert [route.edit for route in editor.route([QUESTIONS["c"], "Is it late?"])] == ["c", "late"]
    revision = editor.store.revision
    with caplog.at_level(logging.WARNING):
        editor.edit(Edit(QUESTIONS["b"], "Lima", id="b"))
    assert "the index forgot 1 keys in conflicts with new edits: late" in caplog.text
    assert editor.index.counts == {"clusters": 2, "keys": 2, "conflicts": 1, "forgotten": 1}
    assert editor.index.statistics()["radius"] == pytest.approx([far / 2, far / 2])
    prompts = [QUESTIONS["c"], "Is it late?", QUESTIONS["b"]]
    assert [route.edit for route in editor.route(prompts)] == ["c", None, "b"]
    assert [stored.edit.id for stored in editor.edits()] == ["c", "late", "b"]  # it is not lost from the store
    assert "late" in {broken.id for broken in editor.check().broken}
    editor.remove("b")  # what was forgotten does not come back by itself
    assert [route.edit for route in editor.route(prompts)][:2] == ["c", None]
    editor.rollback(revision)
    assert [route.edit for route in editor.route(prompts)][:2] == ["c", "late"]
    assert editor.index.counts == {"clusters": 1, "keys": 2, "conflicts": 0, "forgotten": 0}


def test_a_new_answer_to_the_same_prompt_takes_its_place(make_paper):
    editor = make_paper("bert", CASES[:2])
    (report,) = editor.edit(Edit(QUESTIONS["a"], "crime", id="new"))
    assert report.replaced == ["a"]
    assert [stored.edit.id for stored in editor.edits()] == ["b", "new"]
    assert [answer.text for answer in editor.ask([QUESTIONS["a"], QUESTIONS["b"]])] == ["crime", "economy"]
    assert editor.index.counts == {"clusters": 2, "keys": 2, "conflicts": 0, "forgotten": 0}
    editor.detach()


POOL = ["What is up?", "What is down?", "Is it late?", "Is it early?", "Who sings?", "Who is it?", "Is she up?"]


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {}),
        ("bert", {"expand": "reference"}),
        ("bert", {"reference_quirks": True}),
        ("t5-gated", {}),
        ("gpt2", {"expand": "reference"}),
    ],
)
def test_whatever_happens_a_rollback_and_a_reopened_store_have_the_very_index(
    make_paper, make_model, make_source, family, settings, tmp_path
):
    targets = ("tax", "crime") if family == "bert" else ("Lima", "eight")
    radius = {"bert": 10.0, "t5-gated": 0.8, "gpt2": 17.0}[family]
    counted = {"conflicts": 0, "forgotten": 0, "rollback": 0}
    for seed in range(4):
        draw, path = random.Random(f"{family}/{seed}"), tmp_path / f"{seed}.melo"
        editor = make_paper(family, store=path, radius=radius, edits_per_block=3, steps=1, **settings)
        states, looks = {1: editor.index.state()}, {1: portrait(editor)}
        for _ in range(10):
            there = [stored.edit.id for stored in editor.edits()]
            do = draw.choice(["edit", "edit", "edit", "remove", "disable", "enable", "replace", "rollback"])
            if do == "edit":
                prompts = draw.sample(POOL, draw.randint(1, 4))
                new = [Edit(prompt, draw.choice(targets), id=prompt, variants=[prompt + " Say."]) for prompt in prompts]
                editor.edit([edit for edit in new if edit.id not in there])
            elif do == "replace" and there:
                prompt = draw.choice(there)
                old = editor.store.get(prompt).edit.target
                editor.edit(Edit(prompt, next(t for t in targets if t != old), id=prompt), replace=True)
            elif do == "rollback":
                to = draw.randint(1, editor.store.revision)
                editor.rollback(to)
                counted["rollback"] += 1
                if to in states:
                    assert same_index(editor.index.state(), states[to])
                    found = portrait(editor)
                    assert torch.equal(found[0], looks[to][0]) and found[1] == looks[to][1]
            elif do in ("remove", "disable", "enable") and there:
                getattr(editor, do)(draw.sample(there, draw.randint(1, len(there))))
            states[editor.store.revision], looks[editor.store.revision] = editor.index.state(), portrait(editor)
        again = reopened(editor, make_model, make_source, path)
        assert same_index(again.index.state(), editor.index.state())
        assert again.router.bank.owners == editor.router.bank.owners
        found, expected = portrait(again), portrait(editor)
        assert torch.equal(found[0], expected[0]) and found[1] == expected[1]
        counted["conflicts"] += max(values["tally"]["conflicts"] for _, values in states.values())
        counted["forgotten"] += max(len(values["forgotten"]) for _, values in states.values())
        again.detach()
        assert editor.check().problems == []
        editor.detach()
    assert min(counted.values()) > 0, counted  # the sequences are such that something is at stake


# -- the released code's quirks


def test_the_released_codes_key_is_at_the_last_position(make_paper):
    quirky, own = make_paper("t5-gated", reference_quirks=True), make_paper("t5-gated")
    short, long = "Is it late?", QUESTIONS["d"]
    assert torch.allclose(quirky.keys([short]), own.keys([short]), atol=1e-5)  # alone it is the last token
    assert not torch.allclose(quirky.keys([short, long])[0], quirky.keys([short])[0], atol=1e-2)
    assert torch.allclose(own.keys([short, long])[0], own.keys([short])[0], atol=1e-4)
    padding = []
    module = own.model.get_submodule(KEYS["t5-gated"])
    handle = module.register_forward_hook(lambda m, args, output: padding.append(output[0, -1].clone()))
    with own.disabled():
        logits_of(own, ids_of(own, [short, long]))
    handle.remove()
    assert torch.allclose(quirky.keys([short, long])[0], padding[0], atol=1e-4)
    assert torch.allclose(quirky.keys([short, long])[1], own.keys([long])[0], atol=1e-4)
    quirky.edit([Edit(long, "east", id="long"), Edit(QUESTIONS["a"], "Jorge", id="a")])
    logits_of(quirky, ids_of(quirky, [short]))
    (alone,) = quirky.last_routes
    logits_of(quirky, ids_of(quirky, [short, long]))
    assert abs(quirky.last_routes[0].distance - alone.distance) > 1e-2
    quirky.detach()
    own.detach()


def test_the_released_codes_key_sees_the_answer_of_a_causal_model(make_paper):
    editor = make_paper("gpt2", reference_quirks=True)
    prompt = editor.backbone.encode(QUESTIONS["b"])
    whole = [*prompt.ids, *editor.backbone.encode_target("Lima", prompt)]
    by_hand = key_by_hand(editor, whole)
    assert torch.allclose(editor.keys([QUESTIONS["b"]], ["Lima"])[0], by_hand, atol=1e-4)
    assert torch.allclose(editor.keys([QUESTIONS["b"]])[0], key_by_hand(editor, prompt.ids), atol=1e-4)
    editor.edit(Edit(QUESTIONS["b"], "Lima", id="b"))
    assert torch.allclose(editor.store.records([1])[1].keys["keys"][0], by_hand, atol=1e-4)
    logits_of(editor, [whole])
    assert editor.last_routes[0].edit == "b" and editor.last_routes[0].distance == pytest.approx(0, abs=1e-3)
    logits_of(editor, [prompt.ids])
    assert editor.last_routes[0].edit is None
    editor.detach()


@pytest.mark.parametrize(("quirks", "counts"), [(True, (1, 0)), (False, (2, 1))])
def test_the_released_codes_labels_are_sums_of_tokens(make_paper, quirks, counts):
    editor = make_paper("gpt2", steps=1, radius=1000.0, reference_quirks=quirks, edits_per_block=1)
    one, other = Edit(QUESTIONS["a"], "one two", id="a"), Edit(QUESTIONS["b"], "two one", id="b")
    ids = [
        sorted(editor.backbone.encode_target(edit.target, editor.backbone.encode(edit.prompt))) for edit in (one, other)
    ]
    assert ids[0] == ids[1]
    editor.edit([one, other])
    found = editor.index.counts
    assert (found["clusters"], found["conflicts"]) == counts
    editor.detach()


# -- refusals


def test_what_paper_mode_cannot_do_is_refused(make_paper):
    editor = make_paper("bert", CASES[:1], steps=1)
    revision = editor.store.revision
    with pytest.raises(EditError, match="edit 'q': paper mode has no quiet prompts: leave them out"):
        editor.edit([CASES[1], Edit(OTHERS[0], "tax", id="q", quiet=["Please hum"])])
    for prompts in (None, ["one", "two"]):
        with pytest.raises(EditError, match="paper mode takes keys as they are: there is nothing to calibrate"):
            editor.calibrate(prompts)
    assert editor.store.revision == revision and editor.neighbours("a") == (None, None, [])
    editor.detach()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0}, "radius must be positive and finite, not 0"),
        ({"radius": -1.0}, "radius must be positive and finite, not -1.0"),
        ({"radius": float("inf")}, "radius must be positive and finite, not inf"),
        ({"radius": float("nan")}, "radius must be positive and finite, not nan"),
        ({"radius": "wide"}, "radius must be positive and finite, not 'wide'"),
        ({"rank": 0}, "rank must be a positive integer, not 0"),
        ({"rank": "two"}, "rank must be a positive integer, not 'two'"),
        ({"edits_per_block": 0}, "edits_per_block must be a positive integer, not 0"),
        ({"lr_step": 0}, "lr_step must be a positive integer, not 0"),
        ({"lr_decay": 1.5}, "lr_decay must be above 0 and at most 1, not 1.5"),
        ({"expand": "mean"}, "expand must be 'paper' or 'reference', not 'mean'"),
        ({"reach": "answer"}, "reach must be 'all' in paper mode, not 'answer'"),
        (
            {"preset": "zsre"},
            "no preset 'zsre'; there are: zsre-t5-small, zsre-t5-large, scotus-bert, hallucination-gpt2-xl",
        ),
        ({"radii": 1}, "unknown setting 'radii'"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings, message):
    with pytest.raises(ModelError) as error:
        MeloConfig.paper(**settings)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_paper_settings_mean_nothing_in_the_default_mode():
    for settings in ({"reference_quirks": True}, {"edits_per_block": 2}):
        with pytest.raises(ModelError, match=f"{next(iter(settings))} must be .* outside paper mode"):
            MeloConfig(**settings)
    config = MeloConfig.paper(radius=2.0)
    assert (config.steps, config.reach, config.lr_step, config.lr_decay, config.lr) == (50, "all", 20, 0.5, 0.01)
    assert MeloConfig.from_dict(config.to_dict()) == config


def test_a_store_of_one_mode_is_not_opened_in_the_other(make_paper, make_source_editor, make_source, tmp_path):
    paths = {"paper": tmp_path / "paper.melo", "default": tmp_path / "default.melo"}
    make_paper("bert", CASES[:1], store=paths["paper"], steps=1).detach()
    make_source_editor("bert", store=paths["default"]).detach()
    for made, config in (("paper", MeloConfig()), ("default", MeloConfig.paper(radius=1.0))):
        model, tokenizer = make_source("bert")
        with pytest.raises(StoreError) as error:
            Editor(model, tokenizer, config, store=Store.open(paths[made]))
        assert str(error.value) == (
            f"{paths[made]} was made in {made} mode and cannot be opened in {config.mode} mode: "
            "open it without a config, or make another store"
        )
        assert not model._forward_hooks
        with Editor(model, tokenizer, store=Store.open(paths[made])) as editor:
            assert editor.config.mode == made


def test_detach_and_generation(make_paper):
    editor = make_paper("t5-gated", FACTS)
    rows = ids_of(editor, [OTHERS[0], QUESTIONS["a"], QUESTIONS["c"], OTHERS[2]])

    def say(rows, **settings):
        with torch.no_grad():
            made = editor.model.generate(**padded(rows, "right"), max_new_tokens=6, do_sample=False, **settings)
        return [row[1 : row.index(END) if END in row else None] for row in made.tolist()]

    for settings in ({}, {"num_beams": 3}, {"use_cache": False}):
        together = say(rows, **settings)
        assert [route.edit for route in editor.last_routes] == [None, "a", "c", None]
        assert together == [say([row], **settings)[0] for row in rows]
    assert [editor.tokenizer.decode(row).strip() for row in say(rows)[1:3]] == ["Jorge", "eight"]
    model = editor.detach()
    assert "generate" not in vars(model) and not any(module._forward_hooks for module in model.modules())
