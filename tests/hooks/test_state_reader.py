"""The states that a forward pass pools are those from which keys are computed."""

import pytest
import torch
from support.prompts import LED_PROMPTS

from meloedit.hooks.state_reader import pooled_states
from meloedit.keys.pooling import span_weights


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_forward_pass_pools_as_keys_are_taken(open_scope, family):
    editor = open_scope(family)
    row = editor.backbone.encode(LED_PROMPTS[0])
    pooling = editor.engine.pooling
    span = slice(row.span.start, row.span.stop)
    states = []
    layer = editor.model.get_submodule(editor.engine.router.locations.key_layer)
    handle = layer.register_forward_hook(
        lambda module, args, out: states.append(out[0] if isinstance(out, tuple) else out)
    )
    with editor.base_model(), torch.no_grad():
        editor.model(torch.tensor([row.ids]))
    handle.remove()
    own = span_weights(row.ids, (span.start, span.stop), pooling)
    assert own[0].min() < own[0].max() and own[1].tolist().count(0.0) not in (0, len(own[1]))
    pooled = pooled_states(editor.engine.router, [row], pooling=pooling)
    said, asked = ((states[0][0, span] * one[:, None]).sum(0) / one.sum() for one in own)
    assert torch.allclose(pooled[0], torch.cat([said, asked]), atol=1e-5)
