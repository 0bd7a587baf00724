"""Runs the released code of MEND and SERAC as it is, as ``authors`` does that of other methods.

What it takes for granted is provided around it: ``higher``, whose patched model is here the model itself with the new
weights put in; and for SERAC an encoder and a counterfactual model that are handed in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .authors import checkout, module_of

IGNORED = -100
"""The label of tokens that no loss counts."""


class _Patched:
    """A model that takes new weights as ``higher`` gives them."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.handles = model, [0]

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.model.named_parameters())

    def update_params(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.model.parameters(), values, strict=True):
                weight.copy_(value)


@contextmanager
def _higher() -> Iterator[None]:
    """Provide the package that MEND's code patches models with."""
    higher, patch = ModuleType("higher"), ModuleType("higher.patch")
    patch._MonkeyPatchBase = _Patched  # type: ignore[attr-defined]
    patch.monkeypatch = lambda model, in_place: _Patched(model)  # type: ignore[attr-defined]
    higher.patch = patch  # type: ignore[attr-defined]
    sys.modules |= {"higher": higher, "higher.patch": patch}
    try:
        yield
    finally:
        del sys.modules["higher"], sys.modules["higher.patch"]


def _batch(rows: Sequence[Any]) -> dict[str, Tensor]:
    """Return rows (prompt, target) as the code takes them: padded on the right, with labels at the target."""
    pad = nn.utils.rnn.pad_sequence
    ids = [torch.tensor([*row.prompt, *row.target]) for row in rows]
    labels = [torch.tensor([*[IGNORED] * len(row.prompt), *row.target]) for row in rows]
    mask = [torch.ones_like(one) for one in ids]
    return {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad(mask, batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
    }


def mend(path: Path, model: Any, setup: Any) -> dict[str, float]:
    """Run MEND's released code on a model: what it learns from is seen first, then edits are made one after the other.

    Args:
        path: the checkout.
        model: the model, which is edited.
        setup: ``modules`` (names), ``weights`` (of the networks, by shape, and ``lengths``), ``seen`` (batches of rows
            that statistics are taken of), ``edits`` (batches of rows), ``outer`` and ``held`` (rows for the loss after
            the first of them), ``rank``.

    Returns:
        The two parts of the loss of learning, after the first edits.
    """
    with checkout(path), _higher():
        code, losses = module_of("algs.mend"), module_of("losses")
        options = dict.fromkeys(("one_sided", "x_only", "delta_only"), False)
        options |= dict.fromkeys(("shared", "combine", "norm"), True)
        network = SimpleNamespace(mlp_class="IDMLP", n_hidden=1, init="id", act="relu", rank=setup.rank, **options)
        names = [f"{name}.weight" for name in setup.modules]
        config = SimpleNamespace(edit_lr=1e-4, model=SimpleNamespace(inner_params=names, name="gpt2"), mend=network)
        editor = code.MEND(model, config, lambda: None)
        with torch.no_grad():
            for shape, values in setup.weights.items():
                own = editor.mend[str(shape)].mlp.layers
                for layer, of_layer in zip(own, values, strict=True):
                    given = (layer.u, layer.v, layer.bias, layer.mode_scale.weight, layer.mode_shift.weight)
                    for weight, value in zip(given, of_layer, strict=True):
                        weight.copy_(value)
            editor.edit_lrs.copy_(setup.lengths)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        editor.train()
        model.eval()
        for rows in setup.seen:  # to learn is to edit again and again, each time from the model as it was
            editor.edit(_batch(rows))
            model.load_state_dict(before, strict=False)
        editor.eval()
        held = _batch(setup.held)
        with torch.no_grad():
            old = model(**held).logits
        editor.edit(_batch(setup.edits[0]))
        with torch.no_grad():
            outer = _batch(setup.outer)
            edited = editor.edit_loss_fn(model(**outer).logits, outer["labels"])["nll"].item()
            predicted = torch.roll(held["labels"] != IGNORED, -1, 1)  # the columns that predict the targets
            kept = losses.kl_loc_loss(old, model(**held).logits, mask=predicted.to(old.dtype)).item()
        for rows in setup.edits[1:]:
            editor.edit(_batch(rows))
        for handle in model.handles:
            handle.remove()
        return {"edit": edited, "loc": kept}


class _Classifier(nn.Module):
    """An encoder as SERAC's code takes one of sentence-transformers: ``pooler_output`` is the vector of a text."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, **inputs: Tensor) -> Any:
        return SimpleNamespace(pooler_output=self.encoder.pooled(inputs))


def serac(path: Path, model: Any, tokenizer: Any, setup: Any) -> dict[str, Any]:
    """Run SERAC's released classifier, decision and loss.

    Args:
        path: the checkout.
        model: the base model, which serves as the counterfactual one, too: neither decides anything here.
        tokenizer: its tokenizer.
        setup: ``encoder`` (with ``pooled``) and its tokenizer ``words``, ``scale``, ``edits`` (prompt, target),
            ``queries`` and ``others`` (texts: other wordings of the edits in their order, and prompts to leave alone).

    Returns:
        ``similarities`` (queries and others, by edits), ``fires``, ``nearest``, ``loss``.
    """
    with checkout(path):
        code, losses = module_of("algs.rep"), module_of("losses")
        options = dict.fromkeys(("cos", "cross_attend", "bound_embeds", "soft_weighting", "freeze_cntr"), False)
        rep = SimpleNamespace(cls_name="minilm", square=True, supervised=True, dist_heads=1, **options)
        config = SimpleNamespace(rep=rep, device="cpu", task="qa", model=SimpleNamespace(name="tiny"))
        scale = torch.tensor(setup.scale)
        editor = code.REP(model, config, None, _Classifier(setup.encoder), setup.words, model, tokenizer, scale=scale)
        prompts, targets = zip(*setup.edits, strict=True)
        ids = [tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"] for texts in (prompts, targets)]
        editor, _ = editor.edit({"input_ids": ids[0], "labels": ids[1]})
        asked = tokenizer([*setup.queries, *setup.others], padding=True, return_tensors="pt")
        with torch.no_grad():
            similar, nearest, logs = editor.run_classifier(**asked)
            count = len(setup.edits)
            pairs = torch.cat([logs[:count].diag(), logs[count:].diag()])
            labels = torch.tensor([1] * count + [0] * count)
            loss = losses.balanced_bce(pairs, labels).item()
        return {"similarities": logs.exp(), "fires": similar > 0.5, "nearest": nearest, "loss": loss}
