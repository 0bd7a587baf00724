"""SERAC's scope classifier: how near a prompt is to an edit, and the loss that teaches it (arXiv 2206.06520).

The similarity of a prompt x and an edit z is exp(-scale * |phi(x) - phi(z)|^2), with phi a text encoder; z is read as
"prompt [SEP] target [SEP]" (section 3 of the paper; ``embedding_logsim_matrix`` and ``build_cls_cache_inputs`` in the
released code, eric-mitchell/serac).
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_similarities(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Return the logarithm (Q, K) of the similarities of prompts (Q, d) and edits (K, d); it is at most 0."""
    return -scale * (queries[:, None] - keys[None]).square().sum(-1)


def balanced_loss(inside: Tensor, outside: Tensor) -> Tensor:
    """Return the mean cross-entropy of pairs in scope plus that of pairs out of it, in nats (``balanced_bce``).

    Args:
        inside: (n,) logarithms of the similarities of prompts and the edits that concern them.
        outside: (m,) those of prompts and edits that do not.
    """
    apart = 1 - outside.exp()
    apart = torch.where(apart == 0, apart + torch.finfo(apart.dtype).eps, apart)
    return -inside.mean() - apart.log().mean()
