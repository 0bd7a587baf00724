"""The judge's BERT on pairs of many lengths: the scores are those of transformers on padded ones."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from meloedit.judging.pairs import PairTokenizer
from meloedit.judging.reader import PairReader
from meloedit.types import Asked

PAIRS = [
    (Asked("When?"), Asked("Who?")),
    (Asked("Where?"), Asked("How?")),
    (Asked("And the Aster 12?", ("How long is the warranty of the Aster 10?",)), Asked("aster 12 warranty length")),
    (Asked("Who is the mayor of Velmora?"), Asked("Velmora's mayor is")),
    (Asked("word " * 200), Asked("other " * 100)),
]


@pytest.fixture(scope="module", params=["gelu", "relu"])
def model(request, built_in):
    torch.manual_seed(1)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, num_labels=1,
        hidden_act=request.param, initializer_range=0.4, vocab_size=built_in.tokenizer.get_vocab_size(),
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


@torch.no_grad()
def test_scores_are_those_of_padded_pairs(model, built_in):
    tokenizer = PairTokenizer(built_in.tokenizer)
    pairs = sorted(tokenizer.encode(*zip(*PAIRS, strict=True)), key=lambda pair: len(pair.ids))
    lengths = [len(pair.ids) for pair in pairs]
    assert len(set(lengths)) < len(lengths) and lengths[-1] > 4 * lengths[0]  # some alike, others not
    ids, types, mask = tokenizer.pad(pairs)
    want = model(ids, mask, types).logits[:, 0]
    read = PairReader(model, torch.device("cpu"))
    assert torch.allclose(read(pairs), want, atol=1e-4) and want.std() > 0.1
    assert torch.allclose(read(pairs[1:2]), want[1:2], atol=1e-4)
