"""What a run is to do: a task, a protocol, the methods, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import MeloEditError
from ...text import counted
from ..tasks.task import Task

PROTOCOLS = {
    "retention": "all edits first, then every prompt is answered by free generation, until the model stops by itself",
    "teacher-forced": "all edits first, then the share of target tokens that argmax gives after the right ones",
    "immediate": "as retention, but the prompts of each part of the edits are scored as soon as it is made",
    "paper": "all edits first, then F1, accuracy or perplexity, as in the paper's Table 2",
}


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        task: the task.
        protocol: one of ``PROTOCOLS``.
        model: what the model is called.
        methods: each method's settings that differ from its defaults.
        edits: how many edits; ``None``: all.
        seed: of the order of edits.
        limit: most far, upstream and accurate prompts (far ones: of each kind).
        every: score all sets also after so many edits each, for growth curves.
        prefixes: score edits and rephrasings behind the five prefixes too.
    """

    task: Task
    protocol: str
    model: str
    methods: Mapping[str, Mapping[str, Any]]
    edits: int | None = None
    seed: int = 0
    limit: int | None = 500
    every: int | None = None
    prefixes: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grouped = any(item.group is not None for item in self.task.items)
        for option, wanted in (("--every", self.every is not None), ("--prefixes", self.prefixes)):
            if wanted and grouped:
                raise MeloEditError(f"{option} does not fit task {self.task.name}: each case is edited by itself")
        count = self.edits or len(self.task.items)
        if self.every is not None and self.every >= count:
            with_ = counted(count, "edit")
            raise MeloEditError(f"--every {self.every}: with {with_} nothing would be scored before the end")

    def identity(self) -> dict[str, Any]:
        """Return what tells this run from others but for its methods, JSON-ready."""
        files = [[item["name"], item["role"], item["sha256"]] for item in self.task.files]
        values = {"protocol": self.protocol, "task": self.task.name, "model": self.model, "edits": self.edits}
        values |= {"seed": self.seed, "limit": self.limit, "every": self.every, "prefixes": self.prefixes}
        return values | {"data": files, **self.asked}
