"""Models whose weights are quantised: edited, asked and stored as any other."""

import pytest
import torch
from support.prompts import BOOK, CAPITAL, OTHERS, SETTINGS
from torch.testing._internal.two_tensor import TwoTensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from meloedit import Editor, MeloConfig
from meloedit.backbones.layers import fingerprint
from meloedit.errors import StoreError
from meloedit.store import Store

KINDS = {"8-bit": {"load_in_8bit": True}, "4-bit": {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32}}


@pytest.fixture(scope="module")
def folder(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    make_model(hidden_size=64, intermediate_size=64).save_pretrained(path)
    return path


def load(folder, kind):
    settings = BitsAndBytesConfig(**KINDS[kind])
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, device_map="cpu").eval()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_few_bits_is_edited(kind, folder, make_model, tokenizer, tmp_path):
    model = load(folder, kind)
    ids = [tokenizer(text, return_tensors="pt")["input_ids"] for text in OTHERS]
    with torch.no_grad():
        base = [model(input_ids=one).logits for one in ids]
    editor = Editor(model, tokenizer, MeloConfig(**SETTINGS), store=tmp_path / "bits.melo")
    assert all(report.holds for report in editor.edit([BOOK, CAPITAL]))
    with torch.no_grad():
        assert all(torch.equal(model(input_ids=one).logits, before) for one, before in zip(ids, base, strict=True))
    asked = [BOOK.prompt, OTHERS[0], CAPITAL.prompt]
    answers = editor.ask(asked, max_new_tokens=8)
    assert [answer.route.edit for answer in answers] == ["book", None, "capital"]
    assert [answers[0].text, answers[2].text] == ["Jorge", "Lima"]
    editor.unload()
    again = Editor.from_pretrained(tmp_path / "bits.melo", load(folder, kind), tokenizer)
    assert [answer.text for answer in again.ask(asked, max_new_tokens=8)] == [answer.text for answer in answers]
    again.unload()
    whole = make_model(hidden_size=64, intermediate_size=64)
    with pytest.raises(StoreError, match="--rekey"):
        Editor(whole, tokenizer, store=Store.open(tmp_path / "bits.melo"))


def test_weights_made_of_several_tensors_have_a_fingerprint():
    """Quantisers keep such weights, with operators of their own, which cannot be sampled as one tensor."""

    def model(scale):
        module = torch.nn.Linear(4, 4, bias=False)
        module.weight = torch.nn.Parameter(TwoTensor(torch.arange(16.0).reshape(4, 4), scale * torch.ones(4, 4)))
        return module

    assert fingerprint(model(1.0)) == fingerprint(model(1.0)) != fingerprint(model(2.0))
