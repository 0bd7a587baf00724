"""A tiny random model of every family that the docs speak of: the class, and what its config differs in."""

from dataclasses import dataclass, field

import torch
import transformers

SIZE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
GPT = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 256} | {"tie_word_embeddings": False}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
MROPE = ROPE | {"mrope_section": [1, 1, 2]}
MINIMAX = {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 8}
MIXED = ["linear_attention", "full_attention"] * 2
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}
VISION |= {"image_size": 16, "patch_size": 8}
VISION_QWEN = {"depth": 4, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32}


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: what people call it.
        model: its class in transformers.
        config: what the config of the tiny model differs in from ``SIZE``; of a model that sees, its parts' configs.
    """

    name: str
    model: str
    config: dict = field(default_factory=dict)

    def build(self, vocabulary, eos):
        """Return a tiny model of seeded random weights; ``None`` if the installed transformers has no such family."""
        model_class = getattr(transformers, self.model, None)
        if model_class is None:
            return None
        ends = {"vocab_size": vocabulary, "bos_token_id": 2, "eos_token_id": eos, "pad_token_id": eos}
        parts = {name: part for name, part in self.config.items() if name in ("text_config", "vision_config")}
        own = {name: value for name, value in self.config.items() if name not in parts}
        if parts:
            config = model_class.config_class(
                text_config=SIZE | ends | parts["text_config"],
                vision_config=parts["vision_config"],
                tie_word_embeddings=False,
                **own,
            )
            config.eos_token_id = eos
        else:
            config = model_class.config_class(**SIZE | ends | own)
        torch.manual_seed(0)
        return model_class(config).eval()


def family(name, model, **config):
    return Family(name, model, config)


FAMILIES = [
    family("Llama", "LlamaForCausalLM"),
    family("Mistral", "MistralForCausalLM", sliding_window=12, head_dim=8),
    family("Qwen2", "Qwen2ForCausalLM"),
    family("Qwen3", "Qwen3ForCausalLM", head_dim=8),
    family("Qwen3.5", "Qwen3_5ForCausalLM", head_dim=8, layer_types=MIXED, **LINEAR),
    family(
        "Qwen3-Next",
        "Qwen3NextForCausalLM",
        head_dim=8,
        layer_types=MIXED,
        num_experts=4,
        **LINEAR,
        **EXPERTS,
        shared_expert_intermediate_size=24,
    ),
    family(
        "Qwen3.5 MoE",
        "Qwen3_5MoeForCausalLM",
        head_dim=8,
        layer_types=MIXED,
        num_experts=4,
        **LINEAR,
        **EXPERTS,
        shared_expert_intermediate_size=24,
    ),
    family("Qwen2-MoE", "Qwen2MoeForCausalLM", num_experts=4, **EXPERTS, shared_expert_intermediate_size=24),
    family("Qwen3-MoE", "Qwen3MoeForCausalLM", head_dim=8, num_experts=4, **EXPERTS),
    family("Mixtral", "MixtralForCausalLM", num_local_experts=4, num_experts_per_tok=2),
    family("OLMoE", "OlmoeForCausalLM", num_experts=4, num_experts_per_tok=2),
    family(
        "GPT-OSS",
        "GptOssForCausalLM",
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=12,
        rope_parameters=ROPE,
    ),
    family(
        "DeepSeek V3",
        "DeepseekV3ForCausalLM",
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
        num_key_value_heads=4,
        first_k_dense_replace=1,
        **EXPERTS,
    ),
    family("GLM-4", "Glm4ForCausalLM", head_dim=8),
    family("GLM-4 MoE", "Glm4MoeForCausalLM", head_dim=8, n_routed_experts=4, **EXPERTS),
    family("Llama 4", "Llama4ForCausalLM", head_dim=8, num_local_experts=4, intermediate_size_mlp=48),
    family("MiniMax, full attention first", "MiniMaxForCausalLM", layer_types=MIXED[::-1], **MINIMAX),
    family("MiniMax, linear attention first", "MiniMaxForCausalLM", layer_types=MIXED, **MINIMAX),
    family(
        "MiniMax M2",
        "MiniMaxM2ForCausalLM",
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters=ROPE,
    ),
    family("Gemma 2", "Gemma2ForCausalLM", head_dim=8, sliding_window=12),
    family("Gemma 3 (text)", "Gemma3ForCausalLM", head_dim=8, sliding_window=12),
    family(
        "Gemma 4 (text)",
        "Gemma4ForCausalLM",
        head_dim=8,
        sliding_window=12,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=400,
    ),
    family("Phi-3, Phi-4", "Phi3ForCausalLM"),
    family("Phi-3.5-MoE", "PhimoeForCausalLM", num_local_experts=4, num_experts_per_tok=2),
    family("SmolLM3", "SmolLM3ForCausalLM"),
    family("OLMo 2", "Olmo2ForCausalLM"),
    family("OLMo 3", "Olmo3ForCausalLM", sliding_window=12),
    family("Cohere 2", "Cohere2ForCausalLM", sliding_window=12, logit_scale=1.0),
    family("Granite", "GraniteForCausalLM"),
    family("Granite MoE", "GraniteMoeForCausalLM", num_local_experts=4),
    family(
        "Granite MoE with a shared expert",
        "GraniteMoeSharedForCausalLM",
        num_local_experts=4,
        shared_intermediate_size=24,
    ),
    family(
        "Granite 4 (hybrid)",
        "GraniteMoeHybridForCausalLM",
        num_local_experts=4,
        shared_intermediate_size=24,
        layer_types=MIXED,
        **MAMBA2,
    ),
    family("Falcon", "FalconForCausalLM"),
    family("Falcon-H1", "FalconH1ForCausalLM", mamba_d_ssm=64, **MAMBA2),
    family("Bamba", "BambaForCausalLM", attn_layer_indices=[1, 3], **MAMBA2),
    family(
        "Jamba",
        "JambaForCausalLM",
        num_experts=4,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        use_mamba_kernels=False,
    ),
    family(
        "Nemotron-H",
        "NemotronHForCausalLM",
        layers_block_type=["mamba", "mlp", "attention", "mlp", "mamba", "moe"],
        head_dim=8,
        ssm_state_size=8,
        mamba_num_heads=4,
        mamba_head_dim=16,
        n_groups=1,
        chunk_size=8,
        n_routed_experts=4,
        moe_intermediate_size=24,
        moe_shared_expert_intermediate_size=24,
        num_hidden_layers=6,
        use_mamba_kernels=False,
    ),
    family("LFM2", "Lfm2ForCausalLM", layer_types=["conv", "full_attention"] * 2, block_multiple_of=8),
    family(
        "LFM2 MoE",
        "Lfm2MoeForCausalLM",
        layer_types=["conv", "full_attention"] * 2,
        num_experts=4,
        num_dense_layers=1,
        **EXPERTS,
    ),
    family("Mamba", "MambaForCausalLM"),
    family("GPT-2", "GPT2LMHeadModel", **GPT),
    family("GPT-J", "GPTJForCausalLM", **GPT, rotary_dim=8),
    family("GPT-NeoX", "GPTNeoXForCausalLM"),
    family("OPT", "OPTForCausalLM", ffn_dim=48, word_embed_proj_dim=32, init_std=0.3),
    family("Bloom", "BloomForCausalLM", n_layer=4, n_head=4),
    family("MPT", "MptForCausalLM", d_model=32, n_heads=4, n_layers=4, max_seq_len=256),
    family(
        "Llava",
        "LlavaForConditionalGeneration",
        text_config={"model_type": "llama"},
        vision_config={"model_type": "clip_vision_model"} | VISION,
        image_token_index=3,
    ),
    family(
        "Qwen2.5-VL",
        "Qwen2_5_VLForConditionalGeneration",
        text_config={"rope_parameters": MROPE},
        vision_config=VISION_QWEN,
        image_token_id=3,
        video_token_id=1,
    ),
    family(
        "Qwen3-VL",
        "Qwen3VLForConditionalGeneration",
        text_config={"head_dim": 8, "rope_parameters": MROPE},
        vision_config=VISION_QWEN | {"deepstack_visual_indexes": [1]},
        image_token_id=3,
        video_token_id=1,
    ),
    family(
        "InternVL",
        "InternVLForConditionalGeneration",
        text_config={"model_type": "qwen2"},
        vision_config=VISION | {"image_size": [16, 16], "patch_size": [8, 8]},
        image_token_id=3,
    ),
    family(
        "Gemma 3",
        "Gemma3ForConditionalGeneration",
        text_config={"head_dim": 8, "sliding_window": 12},
        vision_config=VISION,
        image_token_index=3,
        mm_tokens_per_image=4,
    ),
    family(
        "SmolVLM",
        "SmolVLMForConditionalGeneration",
        text_config={"model_type": "llama"},
        vision_config=VISION,
        image_token_id=3,
    ),
]
