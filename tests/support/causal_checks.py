"""What several tests of causal models look at: routes one by one, logits, answers."""

import pytest
import torch
from support.model_calls import padded
from support.prompts import LED_PROMPTS, mixed_prompts

from meloedit.keys.grammar import make_prompts


def run(editor, **inputs):
    if "position_ids" not in inputs and inputs.get("attention_mask", torch.ones(1)).dim() == 2:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return editor.model(**inputs)


def alone(editor, rows):
    """The route of each prompt when it is asked alone."""
    routes = []
    for row in rows:
        run(editor, input_ids=torch.tensor([row]))
        routes += editor.last_routes
    return routes


def assert_same(found, expected):
    assert [route.edit for route in found] == [route.edit for route in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.distance == pytest.approx(other.distance, abs=1e-4)
        assert (one.reason, one.nearest) == (other.reason, other.nearest)


def ids_of(editor, edit):
    return editor.backbone.encode(edit.prompt).ids


def led_rows(editor, form="raw"):
    return [editor.backbone.encode(prompt, form).ids for prompt in LED_PROMPTS]


def portrait(editor, rows=None):
    """Logits and routes of many prompts, in one batch and decided by the index."""
    rows = rows or [form.ids for text in make_prompts(20, seed=9) for form in editor.backbone.forms(text)]
    rows = rows + mixed_prompts(editor)[0]
    batch = padded(rows)
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = editor.model(**batch).logits
    return logits, [(route.edit, route.distance, route.nearest, route.reason) for route in editor.last_routes]


def answers(editor, *edits):
    return [answer.text for answer in editor.ask([edit.prompt for edit in edits], max_new_tokens=8)]
