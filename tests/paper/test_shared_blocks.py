"""Paper mode: a batch of edits shares one block, which the nearest cluster and its nearest key choose."""

import pytest
import torch
from support.paper_cases import FAMILIES, QUESTIONS, edits_of, ids_of, key_by_hand, logits_of
from support.prompts import HISTORY, OTHERS

from meloedit import Edit


@pytest.fixture(scope="module", params=FAMILIES)
def edited(request, make_paper):
    """An editor that knows four edits in two blocks; shared by tests that leave it as it is."""
    editor = make_paper(request.param, edits_of(request.param))
    yield editor
    editor.unload()


def test_a_batch_shares_one_block(edited):
    assert [(stored.record, stored.holder) for stored in edited.edits()] == [(1, 1), (2, 1), (3, 3), (4, 3)]
    assert edited.engine.router.bank.owners == {1, 3} and len(edited.engine.router.bank) == 2
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
    with edited.base_model():
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
    (slab,) = edited.engine.router.bank._slabs.values()
    assert slab.rank == 2
    for holder in (1, 3):
        _, t, reach = edited.engine.router.bank._at[holder]
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
    (slab,) = edited.engine.router.bank._slabs.values()
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
                t = edited.engine.router.bank._at[blocks[-1]][1]
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
    editor.unload()
