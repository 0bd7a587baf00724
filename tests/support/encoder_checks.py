"""What several tests of encoder-decoders and classifiers look at: logits, routes, answers."""

import pytest
import torch
from support.model_calls import source_answers, source_inputs
from support.prompts import source_prompts

from meloedit.keys.grammar import make_prompts

BOTH = [
    f"{stack}.block.{i}.layer.{at}.DenseReluDense.wo" for i in (2, 3) for stack, at in (("encoder", 1), ("decoder", 2))
]


def logits_of(editor, rows, side="right", extra=0):
    with torch.no_grad():
        return editor.model(**source_inputs(editor, rows, side, extra)).logits


def alone(editor, rows):
    """The route of each prompt when it is asked alone."""
    routes = []
    for row in rows:
        logits_of(editor, [row])
        routes += editor.last_routes
    return routes


def assert_same(found, expected):
    assert [(route.edit, route.nearest, route.reason) for route in found] == [
        (route.edit, route.nearest, route.reason) for route in expected
    ]
    assert [route.distance for route in found] == pytest.approx([route.distance for route in expected], abs=1e-4)


def portrait(editor):
    """Logits and routes of many prompts in one batch, and what is said to them."""
    rows = [editor.backbone.encode(text).ids for text in make_prompts(12, seed=9)] + source_prompts(editor)[0]
    logits = logits_of(editor, rows)
    routes = [(route.edit, route.distance, route.nearest, route.reason) for route in editor.last_routes]
    return logits, routes, source_answers(editor, rows)


def assert_same_portrait(found, expected):
    assert torch.equal(found[0], expected[0])
    assert found[1:] == expected[1:]
