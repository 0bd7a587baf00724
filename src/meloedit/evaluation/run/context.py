"""The context of a run: what all its methods share. It depends on plan and folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...files import json_hash
from ...methods import method_class
from ...methods.none import Unedited
from ..learning import training_edits, unscored
from ..metrics.estimates import without_special
from ..metrics.scores import figures
from .observe import observe
from .previous import PreviousResult
from .selection import check_model, select

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ...edit import Edit
    from ...methods.base import Method
    from ...types import Progress, Prompt
    from ..metrics.estimates import Estimate
    from ..metrics.observation import Observation
    from .folder import RunFolder
    from .plan import RunPlan
    from .prompts import EvalPrompt, PromptSet

CHUNK = 128
"""Prompts that are scored before the observations are stored."""
LoadModel = Callable[[], "tuple[PreTrainedModel, PreTrainedTokenizerBase]"]
"""Loads a fresh model and its tokenizer."""


class RunContext:
    """What the methods of a run share: the unedited model, the selected task, and earlier results.

    Args:
        plan: the plan.
        folder: the run's folder.
        load: loads a fresh model and its tokenizer.
        progress: called with what is being done, how much is done, and how much there is.

    Attributes:
        base: the unedited model.
        fingerprint: the unedited model's.
        task: the plan's task, restricted to what the model can encode.
        max_tokens: most tokens of an answer.
        training: the edits that each method learns from that learns beforehand.
        previous: results of earlier commands in this folder.

    Raises:
        MeloEditError: if a method, its settings or the task do not fit the model, or too few edits are left.
    """

    def __init__(self, plan: RunPlan, folder: RunFolder, load: LoadModel, progress: Progress) -> None:
        self.plan, self.folder, self.load, self.progress = plan, folder, load, progress
        self.base = Unedited(*load())
        backbone = self.base.backbone
        self.fingerprint = backbone.fingerprint()
        learning: dict[str, tuple[str, list[Edit]]] = {}  # by method: its file of training edits, and these
        for name, settings in plan.methods.items():  # a wrong setting ends the run before any work
            method = method_class(name)(self.base.model, backbone.tokenizer, settings)
            try:
                method.check()
            finally:
                method.close()
            if method.learns:
                path = method.settings.train
                learning[name] = path, training_edits(name, path, plan.task.kind == "question")
        check_model(plan.task, backbone)
        self.task, self.max_tokens = select(plan, self.base, self.base_answers, progress)
        for name in plan.methods:
            method_class(name).check_edits([item.edit for item in self.task.items])
        self.training = {name: unscored(name, *given, self.task.items) for name, given in learning.items()}
        self.previous = PreviousResult.read(folder, self.fingerprint)

    def base_answers(self, prompts: Sequence[Prompt], max_tokens: int) -> list[str]:
        """Return the unedited model's answers, which are computed once for all methods and protocols."""
        name = f"base/{json_hash([self.fingerprint, list(prompts), max_tokens])}"
        return self.folder.base_answers(
            name, len(prompts), lambda: [answer.text for answer in self.base.answer(prompts, max_tokens)]
        )

    def scores(self, set_: PromptSet) -> bool:
        """Whether the plan's protocol scores a set of prompts."""
        return set_ != "attribute" and (self.plan.protocol != "paper" or set_ not in ("chats", "near", "portability"))

    def score(self, method: Method, point: str, sets: Mapping[PromptSet, Sequence[EvalPrompt]]) -> list[Observation]:
        """Observe a method on the sets that the protocol scores; stored observations are read.

        Args:
            method: the method.
            point: a name for the state of its editing.
            sets: the prompts by set.
        """
        protocol, kind = self.plan.protocol, self.task.kind
        rows: list[Observation] = []
        for name, prompts in sets.items():
            if not self.scores(name):
                continue
            generate = protocol != "teacher-forced" and (kind != "passage" or (name == "edits" and protocol != "paper"))
            likelihood = protocol == "teacher-forced" or kind == "passage"
            for start in range(0, len(prompts), CHUNK):
                part = prompts[start : start + CHUNK]

                def compute(
                    part: Sequence[EvalPrompt] = part, generate: bool = generate, likelihood: bool = likelihood
                ) -> list[Observation]:
                    return observe(
                        method, self.base, part, self._needed_answers(part), self.max_tokens, generate, likelihood
                    )

                rows += self.folder.part(f"{method.name}/{point}/{name}-{start:06d}", len(part), compute)
                self.progress(f"{method.name}: {name}", min(start + CHUNK, len(prompts)), len(prompts))
        return rows

    def _needed_answers(self, prompts: Sequence[EvalPrompt]) -> dict[int, str]:
        """Return the unedited model's answers to those prompts that are compared with them."""
        is_document = self.task.kind == "document"
        needed = [
            i for i, one in enumerate(prompts) if one.before or (one.unedited and (not one.answers or is_document))
        ]
        texts = self.base_answers([prompts[i].prompt for i in needed], self.max_tokens) if needed else []
        return dict(zip(needed, texts, strict=True))

    def figures(self, rows: Sequence[Observation], method: Method) -> dict[str, Estimate]:
        """Return a method's metrics."""
        return figures(rows, self.task.kind, self.plan.protocol, method.routes, self._token_ids)

    def _token_ids(self, text: str) -> list[int]:
        tokenizer: Any = self.base.backbone.tokenizer
        ids = tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
        return without_special(ids, tokenizer.all_special_ids)
