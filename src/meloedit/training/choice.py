"""Choice: the part of the vocabulary that most steps look at.

The output embedding is most of the work of a step: on a small model three quarters of it. But next to no token of the
vocabulary stands against the target's: so a step reads the logits of the likeliest ones alone. Which these are is seen
in a look at all, every few steps; and no edit leaves training without such a look at its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LIKELIEST = 64
"""Tokens that a position looks at, the likeliest ones; and its target's."""


def plain_head(model: PreTrainedModel) -> nn.Linear | None:
    """Return a model's output embedding; ``None`` if its logits cannot be computed for some tokens alone."""
    head = model.get_output_embeddings()
    plain = type(head) is nn.Linear and head.weight.is_floating_point() and not head.weight.is_meta
    hooked = plain and (head._forward_hooks or head._forward_pre_hooks or "forward" in head.__dict__)
    return head if plain and not hooked else None


@dataclass(frozen=True)
class Choice:
    """The tokens that the target positions of some rows look at.

    Attributes:
        weight: (S, d) the output embedding of the tokens that any position looks at.
        bias: (S,) its bias, if it has one.
        own: (M, S) true for the tokens that a position looks at. It does not see the others' tokens, or edits that
            train together would not learn as each does alone.
        targets: (M,) which of the tokens is the target.
        others: (M,) which of them serves as well; the target itself where none does.
        rest: (M, 1) the logarithm of what all other tokens weigh together, as it was when all were looked at.
    """

    weight: Tensor
    bias: Tensor | None
    own: Tensor
    targets: Tensor
    others: Tensor
    rest: Tensor

    @classmethod
    def of(cls, head: nn.Linear, logits: Tensor, targets: Tensor, others: Tensor | None = None) -> Choice | None:
        """Choose the tokens of M positions.

        Args:
            head: the output embedding.
            logits: (M, V) what it gives now.
            targets: (M,) the targets' tokens.
            others: (M,) the tokens that serve as well; ``None``: the same.

        Returns:
            ``None`` where that would leave out little.
        """
        size = logits.shape[1]
        if not len(logits) or size < 8 * LIKELIEST:
            return None
        others = targets if others is None else others
        near = torch.cat([logits.topk(LIKELIEST, 1, sorted=False).indices, targets[:, None], others[:, None]], 1)
        seen = torch.zeros(size, dtype=torch.bool, device=near.device)
        seen[near.flatten()] = True
        number = seen.cumsum(0) - 1  # of each token among those that are seen
        tokens = torch.nonzero(seen).flatten()
        if len(tokens) > size // 2:
            return None
        own = torch.zeros(len(near), len(tokens), dtype=torch.bool, device=near.device)
        own.scatter_(1, number[near], True)
        with torch.no_grad():
            bias = None if head.bias is None else head.bias[tokens]
            rest = logits.scatter(1, near, -torch.inf).logsumexp(1, keepdim=True)
            return cls(head.weight[tokens], bias, own, number[targets], number[others], rest)

    def read(self, states: Tensor) -> Tensor:
        """Return the logits (M, S + 1) of states (M, d), the last the rest's; -inf where a position does not look."""
        logits = nn.functional.linear(states, self.weight, self.bias)
        return torch.cat([logits.masked_fill(~self.own, -torch.inf), self.rest.to(logits)], 1)

    def select(self, which: Tensor) -> Choice:
        """Return the choice of the positions with these numbers, or flags."""
        which = which.to(self.own.device)
        own = self.own[which]
        used = own.any(0)  # the tokens of the other positions alone are left out
        number, bias = used.cumsum(0) - 1, None if self.bias is None else self.bias[used]
        targets, others = number[self.targets[which]], number[self.others[which]]
        return Choice(self.weight[used], bias, own[:, used], targets, others, self.rest[which])
