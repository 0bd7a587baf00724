"""The paper's settings (arXiv 2312.11795, Table 1 and Tables A1 to A4, as far as they are known).

The tables themselves are not at hand. Partial rank, initial radius, edits per block, number of blocks, learning rates
and module names are those of the configuration files that the authors released (ECNU-ICALK/MELO, ``melo/config``). The
schedule is the released README's, where it and the released code differ: its code halves the rate every 20 iterations
in all three tasks, its README every 30 for SCOTUS and hallucination.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A published setting.

    Attributes:
        model: the model it was published for, by its hub name.
        settings: values of ``MeloConfig``.
    """

    model: str
    settings: Mapping[str, Any]


def _t5(key_block: int, blocks: tuple[int, ...], radius: float) -> dict[str, Any]:
    # Encoder blocks have their feed-forward in layer.1, decoder blocks in layer.2. Gated models have no wi.
    feed_forward = [f"{stack}.block.{i}.layer.{at}.DenseReluDense" for stack, at in _T5 for i in blocks]
    return {
        "key_layer": f"encoder.block.{key_block}.layer.1.DenseReluDense.wo",
        "modules": tuple(f"{name}.{linear}" for name in feed_forward for linear in ("wi?", "wo")),
        "radius": radius,
        "edits_per_block": 100,
        "declared_blocks": 20,
        "rank": 2,
        "lr": 1e-2,
        "lr_step": 20,
    }


_T5 = (("encoder", 1), ("decoder", 2))

PRESETS: Mapping[str, Preset] = {
    "zsre-t5-small": Preset("google/t5-small-ssm-nq", _t5(4, (5, 6), 75.0)),
    # Its radius is not in the released files; its plots show 1, 6 and 20.
    "zsre-t5-large": Preset("google/t5-large-ssm-nq", _t5(12, (22, 23), 6.0)),
    "scotus-bert": Preset(
        "tomh/scotus-bert",
        {
            "key_layer": "bert.encoder.layer.4.output.dense",
            "modules": tuple(f"bert.encoder.layer.{i}.output.dense" for i in (9, 10, 11)),
            "radius": 0.1,
            "edits_per_block": 50,
            "declared_blocks": 100,
            "rank": 4,
            "lr": 1e-2,
            "lr_step": 30,
        },
    ),
    "hallucination-gpt2-xl": Preset(
        "gpt2-xl, fine-tuned as GRACE's authors did (tomh/gpt2xl-grace)",
        {
            "key_layer": "transformer.h.35.mlp.c_fc",
            "modules": ("transformer.h.36.mlp.c_fc", "transformer.h.37.mlp.c_fc"),
            "radius": 0.5,
            "edits_per_block": 4,
            "declared_blocks": 350,
            "rank": 2,
            "lr": 1e-3,
            "lr_step": 30,
        },
    ),
}
