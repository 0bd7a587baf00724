"""Tiny random models and a tokenizer made on the spot; nothing is downloaded."""

import itertools

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from meloedit import Editor, MeloConfig
from meloedit.grammar import make_prompts

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful model.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "<s>{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] }}</s>{% endif %}{% endfor %}"
)
FAMILIES = ("llama", "qwen3", "gpt2")
SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]


def _bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*make_prompts(500), "system user assistant You are a helpful model."], trainer)
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer():
    """Make a tokenizer: ``template`` is ``chatml``, ``inst`` or None; ``bos`` puts <s> before raw text."""
    plain, with_bos = _bpe().to_str(), _bpe()
    with_bos.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])

    def make(template="chatml", bos=False):
        core = with_bos if bos else Tokenizer.from_str(plain)
        end = "</s>" if template == "inst" else "<|im_end|>"
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=end, pad_token=end)
        tokenizer.chat_template = {"chatml": CHATML, "inst": INST, None: None}[template]
        tokenizer.padding_side = "left"
        return tokenizer

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer):
    return make_tokenizer()


def build(family, vocabulary, eos, **changes):
    """Return a model of seeded random weights, large enough that what it says depends on what it is asked."""
    size = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4}
    ends = {"bos_token_id": 2, "eos_token_id": eos, "pad_token_id": eos}
    gated = size | ends | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 256}
    gated |= {"initializer_range": 0.2, "tie_word_embeddings": False}
    window = {"head_dim": 8, "sliding_window": 12}
    gpt = {"vocab_size": vocabulary, "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 256} | ends
    kinds = {
        "llama": (LlamaForCausalLM, LlamaConfig, gated),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config, gated | {"head_dim": 8}),
        "gpt2": (GPT2LMHeadModel, GPT2Config, gpt | {"initializer_range": 0.2, "tie_word_embeddings": False}),
        "mistral": (MistralForCausalLM, MistralConfig, gated | window),
        "gemma2": (Gemma2ForCausalLM, Gemma2Config, gated | window),
        "neox": (GPTNeoXForCausalLM, GPTNeoXConfig, gated | {"num_key_value_heads": 4}),
    }
    model_class, config_class, settings = kinds[family]
    torch.manual_seed(0)
    model = model_class(config_class(**settings | changes)).eval()
    model.generation_config.max_length = None
    return model


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """Make a fresh model of a family; keyword arguments change its config."""

    def make(family="llama", **changes):
        return build(family, len(tokenizer), tokenizer.eos_token_id, **changes)

    return make


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    """Calibrations are kept between the tests of a session, but never in the user's cache folder."""
    folder = tmp_path_factory.getbasetemp() / "meloedit-cache"
    monkeypatch.setenv("MELOEDIT_CACHE", str(folder))
    return folder


SETTINGS = {"calibration_prompts": 200, "false_activation": 0.02, "lr": 0.03, "steps": 80, "max_rank": 8}
