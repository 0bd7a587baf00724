"""Compare MEND and SERAC with their authors' released code: same networks, same rows, float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from meloedit import Edit
from meloedit.methods import method_class
from meloedit.methods.learned.losses import divergences, token_losses
from meloedit.methods.learned.scope import balanced_loss, log_similarities

from . import authors_learned

RANK = 12
Fact = tuple[str, str, str]


def mend(path: Path, model: Any, tokenizer: Any, facts: Sequence[Fact], difference: Callable[..., float]) -> Any:
    """Compare MEND: the network's statistics are of four batches, then two edits are made, one after the other."""
    ours, theirs = deepcopy(model), deepcopy(model)
    method: Any = method_class("mend")(ours, tokenizer, {"rank": RANK, "layers": 3})
    method.learner = method._make_learner()
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in method.learner.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=draws, dtype=weight.dtype)
        method.learner.lengths.copy_(-0.02 * torch.rand(len(method.modules), generator=draws, dtype=torch.float64))
    edits = [Edit(text.format(subject), target) for text, subject, target in facts]
    rows = [method.examples([edit]) for edit in edits]
    weights = {
        shape: [tuple(layer.parameters()) for layer in method.learner.transforms[f"{shape[0]}x{shape[1]}"].layers]
        for shape in method.by_shape
    }
    seen = [rows[0] + rows[1], rows[2], rows[3], rows[1] + rows[3]]
    outer = method.examples([Edit("Tell me: " + str(edits[0].prompt), edits[0].target)])
    setup = SimpleNamespace(
        modules=method.modules,
        weights=weights,
        lengths=method.learner.lengths.detach(),
        seen=seen,
        edits=[rows[0], rows[1] + rows[2]],
        outer=outer,
        held=rows[3],
        rank=RANK,
    )
    method.learner.train()
    for batch in seen:
        with torch.no_grad():
            method.factors(batch, [0] * len(batch))
    method.learner.eval()
    with torch.no_grad():
        before = method.backbone.target_logits(rows[3])
        method.edit(edits[:1])
        edited = token_losses(method.backbone.target_logits(outer), outer).mean().item()
        kept = divergences(before, method.backbone.target_logits(rows[3])).mean().item()
    method.edit(edits[1:3])  # two in one step, on the model that the first has changed
    losses = authors_learned.mend(path, theirs, setup)
    return {
        "difference": difference(model, ours, theirs),
        "difference of L_edit": abs(edited - losses["edit"]) / losses["edit"],
        "difference of L_loc": abs(kept - losses["loc"]) / losses["loc"],
        "settings": {"rank": RANK, "layers": 3},
    }


def serac(path: Path, model: Any, tokenizer: Any, facts: Sequence[Fact], folder: Path) -> Any:
    """Compare SERAC's classifier: similarities, decisions and loss, for an encoder of random weights."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    words = deepcopy(tokenizer)
    words.add_special_tokens({"sep_token": "</s>"})
    BertModel(BertConfig(vocab_size=len(words), initializer_range=0.3, **size)).save_pretrained(folder)
    words.save_pretrained(folder)
    method: Any = method_class("serac")(model, tokenizer, {"encoder": str(folder), "layers": 2})
    method.learner = method._make_learner()
    scope = method.scope
    scope.model.double()
    edits = [Edit(text.format(subject), target) for text, subject, target in facts]
    queries = ["Tell me: " + str(edit.prompt) for edit in edits]
    others = ["Is it late?", "Name a river.", "Please sing.", "Where do the children play in the summer?"]
    method.edit(edits)
    with torch.no_grad():
        logs = log_similarities(scope.embed([*queries, *others]), method._keys, 1.0)
        # With the authors' 1 all texts are in scope, for an encoder of random weights: here half of them are.
        scale = math.log(2) / -float(logs.max(1).values.quantile(0.5))
        method.settings = replace(method.settings, scale=scale)
        logs *= scale
        loss = balanced_loss(logs[: len(edits)].diagonal(), logs[len(edits) :].diagonal()).item()
    records = method._decide([*queries, *others])

    def pooled(inputs: Any) -> Tensor:
        states, mask = scope.model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    class _Encoder(torch.nn.Module):
        """The encoder, with the mean over tokens at unit length as the vector of a text."""

        def pooled(self, inputs: Any) -> Tensor:
            return pooled(inputs)

    setup = SimpleNamespace(
        encoder=_Encoder(),
        words=words,
        scale=scale,
        edits=[(str(edit.prompt), edit.target) for edit in edits],
        queries=queries,
        others=others,
    )
    theirs = authors_learned.serac(path, deepcopy(model), tokenizer, setup)
    fires = [record is not None for record in records]
    return {
        "difference": float((logs.exp() - theirs["similarities"]).norm() / theirs["similarities"].norm()),
        "difference of the loss": abs(loss - theirs["loss"]) / theirs["loss"],
        "same decisions": fires == theirs["fires"].tolist(),
        "same nearest edits": logs.argmax(1).tolist() == theirs["nearest"].tolist(),
        "fired": sum(fires),
        "prompts": len(fires),
        "settings": {"scale": scale},
    }
