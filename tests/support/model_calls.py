"""Calls on an edited model by token ids: padded batches, forward passes, generated answers."""

import torch
from support.tiny_models import END


def padded(rows, side="left", extra=0, pad=1):
    """Pad rows of token ids into a batch: ids and mask."""
    width = max(map(len, rows)) + extra
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


def generate(editor, rows, **kwargs):
    """Generate for rows of token ids in one left-padded batch; return the new tokens of each, padding cut off."""
    inputs = padded(rows)
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1} | kwargs
    with torch.no_grad():
        made = editor.model.generate(**inputs, **settings)
    return [until_end(row) for row in made[:, inputs["input_ids"].shape[1] :].tolist()]


def until_end(row, end=1):
    return row[: row.index(end) + 1] if end in row else row


def source_inputs(editor, rows, side="right", extra=0):
    """Return what a plain forward call on rows of token ids is given; a decoder sees the same few tokens in each."""
    inputs = padded(rows, side, extra)
    return inputs | ({"decoder_input_ids": torch.tensor([[1, 40, 41]] * len(rows))} if editor.backbone.stop_ids else {})


def source_answers(editor, rows, side="right", extra=0, **kwargs):
    """Return what is said to rows of token ids in one batch: new tokens up to the end token, or the label."""
    inputs = padded(rows, side, extra)
    with torch.no_grad():
        if not editor.backbone.stop_ids:
            return editor.model(**inputs).logits.argmax(1, keepdim=True).tolist()
        made = editor.model.generate(**inputs, **{"max_new_tokens": 8, "do_sample": False} | kwargs)
    return [until_end(row[1:], END) for row in made.tolist()]


def body(model):
    """Describe all that an editor must leave as it is: attributes, hooks, weights, gradients, modes."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return (
        [(name, sorted(vars(m)), [len(getattr(m, hook)) for hook in hooks]) for name, m in model.named_modules()],
        {name: weight.clone().view(torch.int32).sum().item() for name, weight in model.state_dict().items()},
        {name: weight.requires_grad for name, weight in model.named_parameters()},
        [module.training for module in model.modules()],
    )
