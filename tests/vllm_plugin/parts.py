"""Parts of the plugin and of a runner that the tests make without vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from meloedit.store import Store
from meloedit.vllm.edits.host import ServedLive, settings_of
from meloedit.vllm.edits.passes import Pass


def runner_of(blocks, size, prompts):
    """A runner whose requests have these blocks, one request a row."""
    table = SimpleNamespace(block_size=size, block_table=SimpleNamespace(np=np.array(blocks, dtype=np.int32)))
    batch = SimpleNamespace(block_table=SimpleNamespace(block_tables=[table]))
    return SimpleNamespace(
        input_batch=batch,
        kv_cache_config=SimpleNamespace(num_blocks=16),
        cache_config=SimpleNamespace(block_size=size),
        requests={name: SimpleNamespace(prompt_token_ids=ids) for name, ids in prompts.items()},
    )


def a_pass(names, past, counts, prompts):
    return Pass(names, np.cumsum([0, *counts]), np.array(past), np.array(prompts))


def live_of(host, path):
    return ServedLive(host, settings_of(Store.open(path), "Llama"), str(path))


@torch.no_grad()
def states_of(editor, ids):
    """The key layer's states of a prompt, as a pass of vLLM has them: one row a token."""
    found = []
    layer = editor.model.get_submodule(editor.engine.router.locations.key_layer)
    handle = layer.register_forward_hook(lambda module, args, out: found.append(out if out.dim() == 3 else out[0]))
    try:
        with editor.base_model():
            editor.model(input_ids=torch.tensor([ids]))
    finally:
        handle.remove()
    return found[0][0]
