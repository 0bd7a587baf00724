"""Paper mode with the quirks of the released code."""

import pytest
import torch
from support.paper_cases import KEYS, QUESTIONS, ids_of, key_by_hand, logits_of

from meloedit import Edit


def test_the_released_codes_key_is_at_the_last_position(make_paper):
    quirky, own = make_paper("t5-gated", reference_quirks=True), make_paper("t5-gated")
    short, long = "Is it late?", QUESTIONS["d"]
    assert torch.allclose(quirky.keys([short]), own.keys([short]), atol=1e-5)  # alone it is the last token
    assert not torch.allclose(quirky.keys([short, long])[0], quirky.keys([short])[0], atol=1e-2)
    assert torch.allclose(own.keys([short, long])[0], own.keys([short])[0], atol=1e-4)
    padding = []
    module = own.model.get_submodule(KEYS["t5-gated"])
    handle = module.register_forward_hook(lambda m, args, output: padding.append(output[0, -1].clone()))
    with own.base_model():
        logits_of(own, ids_of(own, [short, long]))
    handle.remove()
    assert torch.allclose(quirky.keys([short, long])[0], padding[0], atol=1e-4)
    assert torch.allclose(quirky.keys([short, long])[1], own.keys([long])[0], atol=1e-4)
    quirky.edit([Edit(long, "east", id="long"), Edit(QUESTIONS["a"], "Jorge", id="a")])
    logits_of(quirky, ids_of(quirky, [short]))
    (alone,) = quirky.last_routes
    logits_of(quirky, ids_of(quirky, [short, long]))
    assert abs(quirky.last_routes[0].distance - alone.distance) > 1e-2
    quirky.unload()
    own.unload()


def test_the_released_codes_key_sees_the_answer_of_a_causal_model(make_paper):
    editor = make_paper("gpt2", reference_quirks=True)
    prompt = editor.backbone.encode(QUESTIONS["b"])
    whole = [*prompt.ids, *editor.backbone.encode_target("Lima", prompt)]
    by_hand = key_by_hand(editor, whole)
    assert torch.allclose(editor.engine.policy.keys([prompt], ["Lima"])[0], by_hand, atol=1e-4)
    assert torch.allclose(editor.keys([QUESTIONS["b"]])[0], key_by_hand(editor, prompt.ids), atol=1e-4)
    editor.edit(Edit(QUESTIONS["b"], "Lima", id="b"))
    assert torch.allclose(editor.store.records([1])[1].keys["keys"][0], by_hand, atol=1e-4)
    logits_of(editor, [whole])
    assert editor.last_routes[0].edit == "b" and editor.last_routes[0].distance == pytest.approx(0, abs=1e-3)
    logits_of(editor, [prompt.ids])
    assert editor.last_routes[0].edit is None
    editor.unload()


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
    editor.unload()
