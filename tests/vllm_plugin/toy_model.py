"""A model that is built as vLLM's are, and settings of vLLM for it."""

from types import SimpleNamespace

import torch
from torch import nn

from meloedit.vllm.graphs.attach import GraphHooks
from meloedit.vllm.start import checks


class UnquantizedMethod:
    def apply(self, layer, x, bias=None):
        return nn.functional.linear(x, layer.weight, bias)


class Linear(nn.Module):
    """As vLLM's: its method computes, and it returns its output and a bias."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.input_size, self.output_size = inputs, outputs
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5, requires_grad=False)
        self.quant_method = UnquantizedMethod()

    def forward(self, x):
        return self.quant_method.apply(self, x), None


class Mlp(nn.Module):
    def __init__(self, size, inner):
        super().__init__()
        self.up_proj, self.down_proj = Linear(size, inner), Linear(inner, size)

    def forward(self, x):
        return self.down_proj(torch.tanh(self.up_proj(x)[0]))[0]


class Layer(nn.Module):
    """As vLLM's: it hands on two parts, which the next one adds."""

    def __init__(self, size, inner):
        super().__init__()
        self.mlp = Mlp(size, inner)

    def forward(self, hidden, residual):
        residual = hidden if residual is None else hidden + residual
        return self.mlp(residual), residual


class Inner(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config.hidden_size, config.intermediate_size) for _ in range(config.num_hidden_layers)
        )

    def forward(self, ids):
        hidden, residual = self.embed_tokens(ids), None
        for layer in self.layers:
            hidden, residual = layer(hidden, residual)
        return hidden + residual


class Base(nn.Module):
    """One of vLLM's model classes, as far as edits know it."""

    def __init__(self, *, vllm_config, prefix=""):
        super().__init__()
        torch.manual_seed(5)
        self.model = Inner(vllm_config.hf)

    def forward(self, ids):
        return self.model(ids)

    def compute_logits(self, hidden):
        return hidden @ self.model.embed_tokens.weight.t()


def vllm_config(hf, store=None, **compilation):
    found = {"mode": 3, "cudagraph_mode": "CUDAGraphMode.PIECEWISE", "splitting_ops": ["vllm::attention"]}
    return SimpleNamespace(
        hf=hf,
        additional_config={checks.STORE: str(store)} if store else {},
        compilation_config=SimpleNamespace(static_forward_context={}, **(found | compilation)),
        scheduler_config=SimpleNamespace(max_num_batched_tokens=64, max_num_seqs=8),
        model_config=SimpleNamespace(
            runner_type="generate", quantization=None, is_multimodal_model=False,
            get_hidden_size=lambda: hf.hidden_size,
        ),
        parallel_config=SimpleNamespace(tensor_parallel_size=1), cache_config=SimpleNamespace(),
    )  # fmt: skip


def probed(model, forward):
    """Hooks on a runner whose dummy passes run a function."""
    runner = SimpleNamespace(
        _dummy_run=lambda tokens: (forward(torch.arange(tokens)), None), get_model=lambda: model,
        _update_states=lambda scheduled: None, _model_forward=lambda ids: forward(ids),
    )  # fmt: skip
    return GraphHooks(runner, model.melo_seat), runner
