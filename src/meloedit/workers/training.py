"""A worker's job for edits: load the base model once, and train parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError, ModelError
from ..store.tensors import pack, unpack
from ..training.parts import TrainedPart
from .crew import Lost, Refused

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..training.parts import BlockTrainer, Part
    from ..training.trainer import HoldProgress, Trained
    from .crew import Crew, Do, Tell

OpenEngine = Callable[[Any, Any, Mapping[str, Any]], "Engine"]
"""Makes an engine without a store on a model and its tokenizer, given the settings as a store has them."""


@dataclass(frozen=True)
class TrainingJob:
    """Train parts of edits on a base model.

    Attributes:
        model: what it is loaded by.
        options: how it is loaded.
        device: where it is moved to; empty: it stays where it was loaded.
        fingerprint: its fingerprint.
        config: the settings, as a store has them.
        threads: threads of a worker.
        open_engine: makes an engine without a store on a model and its tokenizer, given the settings.
        generation: the model's generation settings: penalties on repetition are trained with.
    """

    model: str
    options: Mapping[str, Any]
    device: str
    fingerprint: str
    config: Mapping[str, Any]
    threads: int
    open_engine: OpenEngine
    generation: Any = None

    @classmethod
    def of(cls, engine: Engine, model: str, threads: int, open_engine: OpenEngine) -> TrainingJob:
        """Make the job of training for an engine, on the model that it has, which ``model`` names."""
        base: Any = engine.backbone.model
        options: dict[str, Any] = {"dtype": base.dtype}
        if attention := getattr(base.config, "_attn_implementation", None):
            options["attn_implementation"] = attention
        quantised = getattr(base.config, "quantization_config", None)
        if type(quantised).__name__ == "BitsAndBytesConfig":
            options["quantization_config"] = quantised
        spread = getattr(base, "hf_device_map", None)
        if spread:
            options["device_map"] = dict(spread)
        device = "" if spread or base.device.type == "cpu" else base.device.type
        config = {**engine.store.config, "judge": "none"} if engine.config.mode != "paper" else engine.store.config
        fingerprint, generation = engine.store.fact("fingerprint"), getattr(base, "generation_config", None)
        return cls(model, options, device, fingerprint, config, threads, open_engine, generation)

    def open(self) -> Do:
        """Load the model, and return what trains a part.

        Raises:
            ModelError: if it cannot be loaded, or is another one.
        """
        import torch

        from ..backbones.loading import load_model

        torch.set_num_threads(self.threads)
        loaded, tokenizer = load_model(self.model, **self.options)
        model: Any = loaded
        if self.generation is not None:
            model.generation_config = self.generation
        engine = self.open_engine(model.to(self.device) if self.device else model, tokenizer, self.config)
        if (found := engine.backbone.fingerprint()) != self.fingerprint:
            raise ModelError(
                f"a worker loaded another model by the name {self.model!r} (fingerprint {found}, not "
                f"{self.fingerprint}): say what the base model is loaded by (model=... of the executor, --model)"
            )
        return Training(engine.mode.trainer).do


class Training:
    """Trains parts in a worker.

    Args:
        trainer: trains a part.
    """

    def __init__(self, trainer: BlockTrainer) -> None:
        self._trainer = trainer

    def do(self, part: Part, tell: Tell) -> dict[str, Any]:
        """Train a part, and return what ``to_values`` makes of it."""
        began, last = time.perf_counter(), -1

        def progress(holding: int) -> None:
            nonlocal last
            if holding != last:
                tell(last := holding)

        trained = self._trainer.train(part, progress)
        return to_values(trained, time.perf_counter() - began)


def to_values(trained: Sequence[Trained], seconds: float) -> dict[str, Any]:
    """Return results as plain values, with each block once, as bytes."""
    from ..hooks.blocks import block_to_tensors

    blocks = list({id(result.block): result.block for result in trained}.values())
    number = {id(block): i for i, block in enumerate(blocks)}
    facts = ("holds", "steps", "rank", "loss", "losses", "confidence")
    results = [{"block": number[id(r.block)], **{name: getattr(r, name) for name in facts}} for r in trained]
    return {"blocks": [pack(block_to_tensors(block)) for block in blocks], "results": results, "seconds": seconds}


def from_values(values: Mapping[str, Any], modules: Sequence[str]) -> TrainedPart:
    """Return what ``to_values`` was given; edits that share a block share it again."""
    from ..hooks.blocks import block_from_tensors
    from ..training.trainer import Trained

    tensors = [unpack(blob, "a worker", "a block", finite=False) for blob in values["blocks"]]
    blocks = [block_from_tensors(one, modules) for one in tensors]
    trained = [Trained(**{**result, "block": blocks[result["block"]]}) for result in values["results"]]
    return TrainedPart(trained, values["seconds"])


class CrewTrainer:
    """Trains parts with a crew; implements ``PartTrainer``.

    Args:
        crew: does the job.
        modules: the edited modules.
    """

    def __init__(self, crew: Crew, modules: Sequence[str]) -> None:
        self._crew, self._modules = crew, modules

    def train(self, parts: Sequence[Part], progress: HoldProgress | None = None) -> Generator[TrainedPart, None, None]:
        """Yield what became of each part, in order; one whose workers died is a failure, and the others go on.

        Raises:
            MeloEditError: if no worker can be started, or what training a part raises.
        """
        holding: dict[int, int] = {}
        tell: Callable[[int, int], None] | None = None
        if progress:

            def tell(number: int, edits: int) -> None:
                holding[number] = edits
                progress(sum(holding.values()))

        with closing(self._crew.run(parts, tell)) as outcomes:
            for number, outcome in enumerate(outcomes):
                holding.pop(number, None)
                if isinstance(outcome, Refused):
                    raise outcome.error
                yield (
                    TrainedPart([], 0.0, f"the workers that trained it were lost, the last one: {outcome.reason}")
                    if isinstance(outcome, Lost)
                    else from_values(outcome.result, self._modules)
                )


def loaded_by(engine: Engine, named: str | None, source: str | None) -> str:
    """Return what workers load an engine's model by.

    Args:
        engine: the model and its store.
        named: what the caller says; it comes first.
        source: what the model was loaded by, as far as is known.

    Raises:
        MeloEditError: if it has no name.
    """
    base: Any = engine.backbone.model
    name = named or source or getattr(base.config, "_name_or_path", "") or ""
    if not name:
        raise MeloEditError(
            "workers load the base model by its name, and this one was given loaded: say what it is loaded by, as in "
            "executor=Spawn(model=...)"
        )
    return name
