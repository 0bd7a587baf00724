"""Tiny models of seeded random weights and a tokenizer trained on the spot: nothing is downloaded."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
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
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from meloedit.keys.grammar import make_prompts

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


def bpe():
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


def build(family, vocabulary, eos, **changes):
    """Return a model of seeded random weights, large enough that what it says depends on what it is asked."""
    size = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4}
    ends = {"bos_token_id": 2, "eos_token_id": eos, "pad_token_id": eos}
    gated = size | ends | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 256}
    gated |= {"initializer_range": 0.4, "tie_word_embeddings": False}
    window = {"head_dim": 8, "sliding_window": 12}
    gpt = {"vocab_size": vocabulary, "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 256} | ends
    kinds = {
        "llama": (LlamaForCausalLM, LlamaConfig, gated),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config, gated | {"head_dim": 8}),
        "gpt2": (GPT2LMHeadModel, GPT2Config, gpt | {"initializer_range": 0.4, "tie_word_embeddings": False}),
        "mistral": (MistralForCausalLM, MistralConfig, gated | window),
        "gemma2": (Gemma2ForCausalLM, Gemma2Config, gated | window),
        "neox": (GPTNeoXForCausalLM, GPTNeoXConfig, gated | {"num_key_value_heads": 4}),
    }
    model_class, config_class, settings = kinds[family]
    torch.manual_seed(0)
    model = model_class(config_class(**settings | changes)).eval()
    return model


SOURCES = ("t5", "t5-gated", "bert")
LABELS = ("civil rights", "crime", "economy", "labour", "tax")
END = 3  # the token that ends what an encoder-decoder says; 1 is padding and begins it


def build_source(family, vocabulary, **changes):
    """Return a tiny encoder-decoder or classifier of seeded random weights."""
    ends = {"vocab_size": vocabulary, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": END}
    t5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4}
    t5 |= ends | {"decoder_start_token_id": 1, "tie_word_embeddings": False}
    bart = {"d_model": 32, "encoder_layers": 4, "decoder_layers": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    bart |= ends | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64}
    bart |= {"init_std": 0.1, "decoder_start_token_id": END, "tie_word_embeddings": False}
    names = ends | {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    names |= {"initializer_range": 0.4, "max_position_embeddings": 64}
    bert = names | {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 48}
    small = names | {"dim": 32, "n_layers": 5, "n_heads": 4, "hidden_dim": 48}
    kinds = {
        "t5": (T5ForConditionalGeneration, T5Config, t5 | {"feed_forward_proj": "relu"}),
        "t5-gated": (T5ForConditionalGeneration, T5Config, t5 | {"feed_forward_proj": "gated-gelu"}),
        "bart": (BartForConditionalGeneration, BartConfig, bart),
        "bert": (BertForSequenceClassification, BertConfig, bert),
        "roberta": (RobertaForSequenceClassification, RobertaConfig, bert),
        "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, small),
    }
    model_class, config_class, settings = kinds[family]
    torch.manual_seed(0)
    return model_class(config_class(**settings | changes)).eval()


def build_encoder(vocabulary):
    """Return a tiny text encoder of seeded random weights."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    return BertModel(BertConfig(vocab_size=vocabulary, max_position_embeddings=256, pad_token_id=1, **size)).eval()
