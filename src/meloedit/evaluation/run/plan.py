"""The plan of a run: a task, a protocol, the methods, and how much of the task is used."""

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
    "single": "each edit alone: it is made, its prompts are answered as under retention, and the model is reset",
    "paper": "all edits first, then F1, accuracy or perplexity, as in the paper's Table 2",
}
"""When prompts are scored and how, by the name of the protocol; the texts stand in the notes of a result."""


@dataclass(frozen=True)
class RunPlan:
    """What a run does.

    Attributes:
        task: the task.
        protocol: one of ``PROTOCOLS``, or ``routing``.
        model: the model's name.
        methods: for each method its settings that differ from the defaults.
        edits: how many edits; ``None``: all.
        seed: seed of the order of edits.
        limit: most far, upstream and accurate prompts (far ones: of each kind); ``None``: all.
        every: score all sets also after every so many edits, for growth curves.
        prefixes: score edits and rephrasings behind the five prefixes too.
        extra_identity: further values that tell this run from others, such as the files of distractors.

    Raises:
        MeloEditError: if an option does not fit the task or the number of edits.
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
    extra_identity: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, given in (("--every", self.every is not None), ("--prefixes", self.prefixes)):
            if given and self.grouped:
                what = (
                    f"task {self.task.name}: each case" if self.protocol != "single" else "protocol single: each edit"
                )
                raise MeloEditError(f"{option} does not fit {what} is edited by itself")
        count = self.edits or len(self.task.items)
        if self.every is not None and self.every >= count:
            edits = counted(count, "edit")
            raise MeloEditError(f"--every {self.every}: with {edits} nothing would be scored before the end")

    @property
    def grouped(self) -> bool:
        """Whether the task's items are edited in groups, apart from each other."""
        return any(item.group is not None for item in self.task.items)

    def configuration(self) -> dict[str, Any]:
        """Return the values that tell this run from others, without its methods, JSON-ready."""
        files = [[item["name"], item["role"], item["sha256"]] for item in self.task.files]
        values = {"protocol": self.protocol, "task": self.task.name, "model": self.model, "edits": self.edits}
        values |= {"seed": self.seed, "limit": self.limit, "every": self.every, "prefixes": self.prefixes}
        return values | {"data": files, **self.extra_identity}
