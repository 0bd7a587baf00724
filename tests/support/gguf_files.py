"""Tiny Llama models as GGUF files, their weights quantised, so that nothing is downloaded."""

import json

import gguf
import numpy as np

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(model, tokenizer, path, kind="Q8_0"):
    """Write a Llama model and its byte-level BPE tokenizer as a GGUF file."""
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    wanted = gguf.GGMLQuantizationType[kind]
    for name, weight in model.state_dict().items():
        stem = name.removesuffix(".weight")
        if stem in OUTSIDE:
            short = OUTSIDE[stem]
        else:
            number, _, part = stem.removeprefix("model.layers.").partition(".")
            short = f"blk.{number}.{PARTS[part]}"
        values = weight.float().numpy()
        if (count := heads.get(short.rpartition(".")[2])) is not None:  # as llama.cpp pairs the rotated halves
            values = values.reshape(count, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        exact = values.ndim == 1 or values.shape[-1] % 32
        as_kind = gguf.GGMLQuantizationType.F32 if exact else wanted
        writer.add_tensor(
            f"{short}.weight", gguf.quants.quantize(np.ascontiguousarray(values), as_kind), raw_dtype=as_kind
        )
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def _add_tokenizer(writer, tokenizer):
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(core["vocab"], key=core["vocab"].get)
    special = set(tokenizer.all_special_tokens) | {one["content"] for one in _added(tokenizer)}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in core["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _added(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
