"""Logits of targets among rows of unlike length: those of the whole pass, read at the targets alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.families import FAMILIES
from support.prompts import FACTS, OTHERS, source_edits

from meloedit.backbones import open_backbone
from meloedit.backbones.batch import Example
from meloedit.backbones.contexts import reading_only, record_calls
from meloedit.errors import ModelError


def rows_of(backbone):
    texts = [*(edit.prompt for edit in FACTS), OTHERS[1]]
    targets = ([5, 6, 7], [8], [9, 10], [5])
    return [Example.of(backbone.encode(text), target) for text, target in zip(texts, targets, strict=True)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_gives_the_logits_of_the_whole_pass(family, tokenizer):
    model = family.build(len(tokenizer), tokenizer.eos_token_id)
    if model is None:
        pytest.skip(f"this transformers has no {family.model}")
    try:
        backbone = open_backbone(model.float().eval(), tokenizer)
    except ModelError:
        pytest.skip("refused")
    rows = rows_of(backbone)
    head = model.get_output_embeddings()
    with torch.no_grad(), record_calls([head]) as calls:
        narrow = backbone.narrow_logits(rows)
    assert [call.args[0].shape[:2] for call in calls] == [(1, 7)]
    with torch.no_grad():
        whole = backbone.target_logits(rows)
    assert [one.shape for one in narrow] == [one.shape for one in whole]
    scale = float(torch.cat(whole).abs().max())
    assert torch.allclose(torch.cat(narrow), torch.cat(whole), rtol=1e-4, atol=1e-5 * scale)
    assert not head._forward_pre_hooks


@pytest.mark.parametrize("family", ["t5", "bart", "bert"])
def test_models_with_an_encoder_give_what_they_gave(family, make_source):
    backbone = open_backbone(*make_source(family))
    rows = [
        Example.of(encoded := backbone.encode(edit.prompt), backbone.encode_target(edit.target, encoded))
        for edit in source_edits(family)
    ]
    with torch.no_grad():
        pairs = zip(backbone.narrow_logits(rows), backbone.target_logits(rows), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_a_model_that_does_not_call_its_output_embedding_is_read_as_a_whole(make_model, tokenizer, monkeypatch):
    model = make_model("llama")
    backbone = open_backbone(model, tokenizer)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: torch.nn.Linear(2, 2))
    rows = rows_of(backbone)
    with torch.no_grad():
        assert torch.allclose(torch.cat(backbone.narrow_logits(rows)), torch.cat(backbone.target_logits(rows)))


def test_another_thread_reads_all_places():
    head, states = torch.nn.Linear(3, 2), torch.randn(2, 4, 3)
    at = (torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2]))
    with reading_only(head, at) as narrowed, ThreadPoolExecutor(1) as pool:
        assert head(states).shape == (1, 3, 2)
        assert pool.submit(lambda: head(states)).result().shape == (2, 4, 2)
    assert narrowed == [head] and head(states).shape == (2, 4, 2)
