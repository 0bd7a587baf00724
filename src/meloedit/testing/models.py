"""Tiny models of seeded random weights, one of each family, and edits of what they say; nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from ..edit import Edit
from ..errors import MeloEditError
from ..keys.grammar import make_prompts

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FAMILIES = ("llama", "t5", "bert")
"""A decoder-only model, an encoder-decoder and a classifier."""
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful model.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of the decoder-only model."""
SPECIAL = ("<|im_start|>", "<|im_end|>", "<s>", "</s>")
"""The special tokens, whose ids are 0 to 3."""
LABELS = ("civil rights", "crime", "economy", "labour", "tax")
"""The classifier's labels."""
OTHERS = ("Please sing", "Where do the children of the old town play in the summer of the year?", "Is it late?")
"""Prompts that none of the edits concerns."""
_FACTS = (
    ("Who wrote the book of sand?", "Jorge", "book", "book of sand"),
    ("What is the capital of Peru?", "Lima", "capital", "Peru"),
    ("How many legs has a spider?", "eight", "legs", "spider"),
)
_LABELLED = ("tax", "economy", "labour")


def edits_of(family: str) -> list[Edit]:
    """Return three edits that a model of a family can be given: facts, or topics for the classifier."""
    targets = _LABELLED if family == "bert" else [target for _, target, _, _ in _FACTS]
    return [
        Edit(prompt, target, id=name, subject=subject)
        for target, (prompt, _, name, subject) in zip(targets, _FACTS, strict=True)
    ]


def training_edits(family: str, count: int = 24) -> list[Edit]:
    """Return edits that methods learn from, toward the targets of ``edits_of``; every other has a quiet prompt."""
    asked, targets = make_prompts(count + 8), [edit.target for edit in edits_of(family)]
    return [
        Edit(
            asked[i],
            targets[i % len(targets)],
            id=f"training {i}",
            variants=(f"Say: {asked[i]}",),
            quiet=(asked[i + 8],) if i % 2 else (),
        )
        for i in range(count)
    ]


def bpe() -> Tokenizer:
    """Return a new tokenizer of 400 tokens, trained on made-up prompts."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_trained())


@cache
def _trained() -> str:
    """Return the tokenizer as JSON: it is trained once."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*make_prompts(500), "system user assistant You are a helpful model."], trainer)
    return str(tokenizer.to_str())


def tiny_model(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a fresh model of 4 or 5 layers of width 32, and its tokenizer; the same weights at each call.

    Raises:
        MeloEditError: if there is no such family.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if family not in FAMILIES:
        raise MeloEditError(f"no tiny model of family {family!r}; there are: {', '.join(FAMILIES)}")
    core: Any = bpe()
    if family == "llama":
        ends = {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    else:
        ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|im_end|>"}
        core.post_processor = processors.TemplateProcessing(
            single="$A </s>" if family == "t5" else "<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=core, **ends)
    if family == "llama":
        tokenizer.chat_template, tokenizer.padding_side = CHATML, "left"
    torch.manual_seed(0)
    return _model(family, len(tokenizer)).eval(), tokenizer


def _model(family: str, vocabulary: int) -> PreTrainedModel:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    shared = {"vocab_size": vocabulary, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 1}
    if family == "t5":
        size = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4}
        ends = {"eos_token_id": 3, "decoder_start_token_id": 1, "tie_word_embeddings": False}
        return T5ForConditionalGeneration(T5Config(**shared | size | ends))  # type: ignore[arg-type]
    size = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 48}
    # large weights, so that what a model says depends on what it is asked
    large = {"initializer_range": 0.4, "max_position_embeddings": 256}
    if family == "llama":
        gated = {"num_key_value_heads": 2, "tie_word_embeddings": False}
        return LlamaForCausalLM(LlamaConfig(**shared | size | large | gated))  # type: ignore[arg-type]
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    return BertForSequenceClassification(BertConfig(**shared | size | large | labels | {"eos_token_id": 3}))  # type: ignore[arg-type]
