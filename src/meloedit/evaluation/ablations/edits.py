"""The ablations that make edits: by rank, by key layer (Figures 4 and 5), and the cost of an edit (Table 3)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...backbones.layers import linear_shape
from ..metrics.estimates import exact, f1
from .bench import KEYS_AT_ONCE, Bench

if TYPE_CHECKING:
    from torch import Tensor

    from ...edit import Edit
    from ...editor import Editor
    from ...paper.config import PaperConfig
    from ...results import Answer
    from ...types import Prompt

PER = 1000
"""Number of edits for which Table 3 states parameters."""


def rank(bench: Bench, ranks: Sequence[int]) -> dict[str, Any]:
    """Make the edits with blocks of each rank, and score them (Figure 4)."""
    bench.facts.require_rephrases()
    configs = [bench.configure(rank=value) for value in ranks]  # before any run, since a value may be invalid
    runs = [
        {"rank": value} | edited_and_scored(bench, config, f"rank {value}")
        for value, config in zip(ranks, configs, strict=True)
    ]
    return bench.data("rank", bench.configure(), runs=runs)


def key_layer(
    bench: Bench, layers: Sequence[str], negatives: tuple[Sequence[str], str] | None = None
) -> dict[str, Any]:
    """Make the edits with keys of each layer, and score them (Figure 5).

    Args:
        bench: model, facts and finished runs.
        layers: names of modules.
        negatives: questions that no edit should answer, and the SHA-256 of their file.
    """
    bench.facts.require_rephrases()
    configs = [bench.configure(key_layer=layer) for layer in layers]
    runs = [
        {"key_layer": layer} | edited_and_scored(bench, config, layer, negatives)
        for layer, config in zip(layers, configs, strict=True)
    ]
    return bench.data("key-layer", bench.configure(), negatives_sha256=negatives and negatives[1], runs=runs)


def edited_and_scored(
    bench: Bench, config: PaperConfig, name: str, negatives: tuple[Sequence[str], str] | None = None
) -> dict[str, Any]:
    """Make all edits, then score their prompts and an unseen rephrasing of each."""
    progress = bench.progress_of(name)

    def compute() -> dict[str, Any]:
        facts = bench.facts.items
        rephrased = [(prompt, fact.edit) for fact in facts if (prompt := fact.unseen) is not None]
        with bench.open_editor(config) as editor:
            reports = [r for part in editor.edit_in_parts(bench.facts.edits, progress=progress) for r in part]
            answers = editor.ask([fact.edit.prompt for fact in facts], progress=progress)
            unseen = editor.ask([prompt for prompt, _ in rephrased], progress=progress)
            result: dict[str, Any] = {"edits": len(facts), "held": sum(report.holds for report in reports)}
            result |= _score(bench, "edit", answers, bench.facts.edits)
            result |= {"rephrased": len(rephrased)}
            result |= _score(bench, "rephrase", unseen, [edit for _, edit in rephrased])
            index: Any = editor.index
            result |= {n: index.counts[n] for n in ("clusters", "conflicts")} | {"forgotten": len(index.forgotten)}
            if negatives:
                questions = list(negatives[0])
                result["negatives"] = len(questions)
                result["activation"] = _activation(editor, questions)
                result["activation_dressed"] = _activation(editor, [q[0].upper() + q[1:] + "?" for q in questions])
        return result

    return bench.runs.run("edits", {"config": config.to_dict(), "negatives": negatives and negatives[1]}, compute)


def _score(bench: Bench, name: str, answers: Sequence[Answer], edits: Sequence[Edit]) -> dict[str, float]:
    """Return the share of answers that are the target word for word, their mean F1, and the share routed to the edit.

    A prompt that reaches another edit of the same block may still get the right answer.
    """

    def ids(text: str) -> list[int]:
        return list(bench.tokenizer(text.strip(), add_special_tokens=False)["input_ids"])

    pairs, number = list(zip(answers, edits, strict=True)), len(edits)
    return {
        f"{name}_success": sum(exact(answer.text, edit.target) for answer, edit in pairs) / number,
        f"{name}_f1": sum(f1(ids(answer.text), ids(edit.target)) for answer, edit in pairs) / number,
        f"{name}_reached": sum(answer.route.edit == edit.id for answer, edit in pairs) / number,
    }


def _activation(editor: Editor, questions: Sequence[str]) -> float:
    """Return the share of questions that are routed to an edit; no answer is generated."""
    index: Any = editor.index
    fired = [
        index.search(_keys(editor, questions[i : i + KEYS_AT_ONCE])).block >= 0
        for i in range(0, len(questions), KEYS_AT_ONCE)
    ]
    return torch.cat(fired).double().mean().item()


def _keys(editor: Editor, prompts: Sequence[Prompt]) -> Tensor:
    """Return the keys (n, d) of prompts in paper mode."""
    keys = editor.keys(list(prompts))
    assert isinstance(keys, torch.Tensor)
    return keys


def parameters(sizes: Sequence[tuple[int, int]], rank: int, edits: int, edits_per_block: int) -> int:
    """Return how many parameters the blocks of ``edits`` edits have (Eq. 11).

    Args:
        sizes: input and output features of each edited module.
        rank: a block's (partial) rank.
        edits: how many edits.
        edits_per_block: how many of them share a block.
    """
    return math.ceil(edits / edits_per_block) * rank * sum(inputs + outputs for inputs, outputs in sizes)


def efficiency(bench: Bench) -> dict[str, Any]:
    """Measure the time and memory of the edits; compute parameters per 1,000 edits, with GRACE's (Table 3)."""
    config = bench.configure()
    device = str(next(bench.model.parameters()).device)
    machine = {"device": device, "threads": torch.get_num_threads()}

    def compute() -> dict[str, Any]:
        parts = []
        with bench.open_editor(config) as editor:
            began, done = time.perf_counter(), 0
            for reports in editor.edit_in_parts(bench.facts.edits, progress=bench.progress):
                now, done = time.perf_counter(), done + len(reports)
                parts.append({"edits": done, "seconds": now - began})
            index: Any = editor.index
            keys = sum(tensor.nbytes for tensor in index.state()[0].values())
            sites = editor.engine.router.bank.sites
            key_size = _keys(editor, [bench.facts.edits[0].prompt]).shape[1]
            layer = editor.config.key_layer
        sizes = [[site.inputs, site.outputs] for site in sites]
        block = sum(config.rank * (site.inputs + site.outputs) * _bytes(site) for site in sites)
        # GRACE wraps one layer: its keys are inputs of that layer, its values outputs.
        grace = linear_shape(bench.model.get_submodule(layer)) if layer else None
        layers = {"modules": sizes, "key_layer": layer, "key": key_size, "grace": grace or [key_size] * 2}
        return layers | {"parts": parts, "block_bytes": block * len(parts), "key_bytes": keys}

    measured = bench.runs.run("efficiency", {"config": config.to_dict(), "machine": machine}, compute)
    return bench.data("efficiency", config, machine=machine, **_rates(measured, config), **measured)


def _bytes(site: Any) -> int:
    return int(getattr(site, "dtype", torch.float32).itemsize)


def _rates(measured: dict[str, Any], config: PaperConfig) -> dict[str, Any]:
    """Return parameters per 1,000 edits, and time and memory per edit."""
    last, (key, value) = measured["parts"][-1], measured["grace"]
    edits, seconds = last["edits"], last["seconds"]
    blocks = parameters([(i, o) for i, o in measured["modules"]], config.rank, PER, config.edits_per_block)
    return {
        "parameters": {
            "per_edits": PER,
            "melo_blocks": blocks,
            "melo_blocks_and_keys": blocks + PER * measured["key"],
            "grace_values": PER * value,
            "grace_keys_and_values": PER * (key + value),
        },
        "measured": {
            "edits": edits,
            "blocks": len(measured["parts"]),
            "seconds_per_edit": seconds / edits,
            "edits_per_minute": 60 * edits / seconds,
            "block_bytes_per_edit": measured["block_bytes"] / edits,
            "key_bytes_per_edit": measured["key_bytes"] / edits,
        },
    }
