"""The settings of the paper's experiments (arXiv 2312.11795), for ``PaperConfig.from_preset``.

The paper's tables are not available to us. The values come from the configuration files that the authors released
(ECNU-ICALK/MELO, ``melo/config``): partial rank, initial radius, edits per block, number of blocks, learning rates and
module names. The released code and its README disagree on the schedule: the code halves the learning rate every 20
iterations in all three tasks, the README every 30 for SCOTUS and hallucination. We follow the README.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """The settings of one published experiment.

    Attributes:
        model: the hub name of the model.
        settings: values of ``PaperConfig``.
    """

    model: str
    settings: Mapping[str, Any]


def _t5(key_block: int, blocks: tuple[int, ...], radius: float) -> dict[str, Any]:
    # The feed-forward is layer.1 of an encoder block and layer.2 of a decoder block. Gated models have no wi.
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
    # The released files lack this radius; the paper's plots show 1, 6 and 20.
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
