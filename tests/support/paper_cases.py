"""Edits, settings and looks at an editor that the tests of paper mode share."""

import torch
from support.model_calls import padded
from support.prompts import OTHERS

from meloedit import Edit, Editor
from meloedit.backbones.batch import Example

FAMILIES = ("gpt2", "t5-gated", "bert")
KEYS = {
    "gpt2": "transformer.h.1.mlp.c_fc",
    "t5": "encoder.block.1.layer.1.DenseReluDense.wo",
    "t5-gated": "encoder.block.1.layer.1.DenseReluDense.wo",
    "bert": "bert.encoder.layer.1.output.dense",
}
QUESTIONS = {
    "a": "Who wrote the book of sand?",
    "b": "What is the capital of Peru?",
    "c": "How many legs has a spider?",
    "d": "Where is the river of the south?",
}
FACTS = [Edit(QUESTIONS[i], target, id=i) for i, target in zip("abcd", ("Jorge", "Lima", "eight", "east"), strict=True)]
CASES = [
    Edit(QUESTIONS[i], label, id=i) for i, label in zip("abcd", ("tax", "economy", "labour", "crime"), strict=True)
]


def edits_of(family):
    return CASES if family == "bert" else FACTS


def reopened(editor, make_model, make_source, path):
    """Return another editor on the store at ``path``, on a fresh model of the same family."""
    kind = editor.model.config.model_type
    model = make_model("gpt2") if kind == "gpt2" else make_source("t5-gated" if kind == "t5" else kind)[0]
    return Editor.from_pretrained(path, model, editor.tokenizer)


def inputs_of(editor, rows):
    inputs = padded(rows, "left" if editor.backbone.answer_follows_prompt else "right")
    if editor.backbone.answer_follows_prompt:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    elif editor.backbone.stop_ids:
        inputs["decoder_input_ids"] = torch.tensor([[1, 40, 41]] * len(rows))
    return inputs


def logits_of(editor, rows):
    with torch.no_grad():
        return editor.model(**inputs_of(editor, rows)).logits


def ids_of(editor, prompts):
    return [editor.backbone.encode(prompt).ids for prompt in prompts]


def key_by_hand(editor, ids):
    """Run the base model on one prompt; return the key module's output at the last token."""
    states = []
    module = editor.model.get_submodule(editor.config.key_layer)
    handle = module.register_forward_hook(lambda module, args, output: states.append(output[0, len(ids) - 1].clone()))
    with editor.base_model():
        logits_of(editor, [ids])
    handle.remove()
    return states[0]


def portrait(editor):
    rows = ids_of(editor, [*QUESTIONS.values(), *OTHERS])
    logits = logits_of(editor, rows)
    return logits, [(route.edit, route.distance, route.threshold, route.nearest) for route in editor.last_routes]


def same_index(one, other):
    (tensors, values), (others, other_values) = one, other
    return values == other_values and all(torch.equal(tensors[name], others[name]) for name in tensors | others)


def rows_of(editor, edits):
    encoded = [(editor.backbone.encode(prompt), edit.target) for edit in edits for prompt in edit.prompts]
    return [Example.of(prompt, editor.backbone.encode_target(target, prompt)) for prompt, target in encoded]
