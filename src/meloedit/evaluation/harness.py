"""EleutherAI's lm-evaluation-harness on an edited model, through the harness's API for models.

A request is a context and its continuation. The context alone decides the route, as the prompt of ``generate`` does,
so a continuation's likelihood is that of the model that would generate after this context. A text that is scored as a
whole (``loglikelihood_rolling``) has no prompt, so no edit answers it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..backbones.batch import Example
from ..backbones.contexts import frozen
from ..errors import MeloEditError

if TYPE_CHECKING:
    from ..editor import Editor

MAX_NEW_TOKENS = 256
"""Most tokens of an answer if a task does not set a limit."""
TEXT_WINDOW = 2048
"""Tokens of a whole text that are scored at once if the model has no limit."""


def require() -> Any:
    """Import and return the harness.

    Raises:
        MeloEditError: naming the extra, if it is not installed.
    """
    try:
        import lm_eval
        import lm_eval.api.model
        import lm_eval.tasks
        import lm_eval.utils
    except ImportError:
        raise MeloEditError("the harness needs the extra 'harness': pip install 'meloedit[harness]'") from None
    return lm_eval


def model_of(editor: Editor, batch_size: int = 8) -> Any:
    """Return an edited model as the harness's class of models (an ``lm_eval.api.model.TemplateLM``).

    Args:
        editor: the edited model.
        batch_size: continuations scored, or answers generated, at once.

    Raises:
        MeloEditError: if the harness is not installed, or the model is a classifier.
    """
    harness, backbone = require(), editor.backbone
    if backbone.documents:
        raise MeloEditError("the harness scores text: a classifier has none")

    class EditedLM(_HarnessMethods, harness.api.model.TemplateLM):  # type: ignore[name-defined]
        """The edited model."""

    lm = EditedLM()
    lm.editor, lm.batch_size, lm.utils = editor, batch_size, harness.utils
    lm.backend = "causal" if backbone.answer_follows_prompt else "seq2seq"
    lm.tokenizer = editor.tokenizer
    return lm


class _HarnessMethods:
    """The methods that the harness calls on a model, on an editor's."""

    editor: Editor
    batch_size: int
    utils: Any
    backend: str
    tokenizer: Any

    @property
    def eot_token_id(self) -> int:
        return self.editor.backbone.stop_ids[0]

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer(string, **options)["input_ids"])

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        max_length = self.editor.backbone.max_length
        examples = [_example(context, continuation, max_length) for _, context, continuation in requests]
        return _log_likelihoods(self.editor, examples, self.batch_size)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        sums = []
        max_length = self.editor.backbone.max_length or TEXT_WINDOW
        for (text,) in [request.args for request in requests]:
            windows = self.utils.get_rolling_token_windows(
                self.tok_encode(text), prefix_token=self.eot_token_id, max_seq_len=max_length - 1, context_len=1
            )
            pairs = [self.utils.make_disjoint_window(window) for window in windows]
            with self.editor.base_model():
                examples = [_example(context, rest, max_length) for context, rest in pairs]
                scores = _log_likelihoods(self.editor, examples, self.batch_size)
                sums.append(sum(score for score, _ in scores))
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        answers: dict[int, str] = {}
        for text, numbers in groups.items():
            settings = json.loads(text)
            stops = settings.pop("until", [])
            max_new_tokens = settings.pop("max_gen_toks", settings.pop("max_new_tokens", MAX_NEW_TOKENS))
            sampling = settings if settings.get("do_sample") else {}  # greedy decoding has no temperature
            contexts = [requests[i].args[0] for i in numbers]
            sizes = {"batch_size": self.batch_size, "max_new_tokens": max_new_tokens}
            generated = self.editor.ask(contexts, form="raw", **sizes, **sampling)
            answers |= {i: _until(answer.text, stops) for i, answer in zip(numbers, generated, strict=True)}
        return [answers[i] for i in range(len(requests))]


def _until(text: str, stops: str | Sequence[str]) -> str:
    """Return a text up to the first stop in it."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text


def _example(context: Sequence[int], continuation: Sequence[int], max_length: int | None) -> Example:
    """Return context and continuation, the context cut on the left to the model's length."""
    room = len(context) if max_length is None else max(1, max_length - len(continuation))
    prompt = list(context[-room:])
    return Example(prompt, list(continuation))


def _log_likelihoods(editor: Editor, examples: Sequence[Example], size: int) -> list[tuple[float, bool]]:
    """Return for each example the log-likelihood of its target in nats, and whether greedy decoding gives it.

    Args:
        editor: the edited model.
        examples: prompts and targets as token ids.
        size: examples scored at once.
    """
    results: dict[int, tuple[float, bool]] = {}
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].prompt) + len(examples[i].target), i))
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        part = [examples[i] for i in numbers]
        follows = editor.backbone.answer_follows_prompt
        lengths = editor.prompt_lengths([len(one.prompt) for one in part]) if follows else nullcontext()
        with torch.no_grad(), frozen(editor.model), lengths:
            logits = editor.backbone.target_logits(part)
        for i, example, row in zip(numbers, part, logits, strict=True):
            target = torch.tensor(example.target, device=row.device)
            score = row.float().log_softmax(-1).gather(-1, target[:, None]).sum()
            results[i] = float(score), bool((row.argmax(-1) == target).all())
    return [results[i] for i in range(len(examples))]


def find_tasks(tasks: Sequence[str], include: Path | None = None) -> Any:
    """Return the harness's task manager, after checking that it has these tasks.

    Args:
        tasks: names of tasks.
        include: a folder with further tasks (``*.yaml``).

    Raises:
        MeloEditError: if there is no such task, or the harness is not installed.
    """
    managers = require().tasks.TaskManager
    if include:  # the harness has thousands of tasks of its own, and takes seconds to read them: not if these are here
        alone = managers(include_path=str(include), include_defaults=False)
        if set(tasks) <= set(alone.all_subtasks):
            return alone
    manager = managers(include_path=str(include) if include else None)
    known = set(manager.all_tasks)
    if missing := [name for name in tasks if name not in known]:
        similar = sorted(name for name in known if missing[0].split("_")[0] in name)[:5]
        advice = f"; like it: {', '.join(similar)}" if similar else ""
        raise MeloEditError(f"the harness has no task {missing[0]!r}{advice}")
    return manager


def run_harness(
    editor: Editor,
    tasks: Sequence[str],
    manager: Any,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 8,
) -> dict[str, dict[str, dict[str, float]]]:
    """Run tasks of the harness on the model with its edits and without.

    Args:
        editor: the edited model.
        tasks: names of tasks; their data must be local or on the hub.
        manager: the task manager that ``find_tasks`` returned.
        limit: documents of each task; ``None``: all.
        shots: examples before each question; ``None``: the task's number.
        batch_size: continuations scored at once.

    Returns:
        For ``edited`` and ``unedited`` the figures by task and metric.

    Raises:
        MeloEditError: if the harness fails, for example since a task's data are not available.
    """
    harness, lm = require(), model_of(editor, batch_size)
    results = {}
    for name in ("edited", "unedited"):
        with editor.base_model() if name == "unedited" else nullcontext():
            try:
                output = harness.simple_evaluate(
                    model=lm,
                    tasks=list(tasks),
                    num_fewshot=shots,
                    limit=limit,
                    task_manager=manager,
                    bootstrap_iters=0,
                    log_samples=False,
                )
            except (OSError, ValueError, KeyError, ConnectionError) as error:
                reason = " ".join(str(error).split())[:200]
                raise MeloEditError(f"the harness cannot run {', '.join(tasks)} ({reason})") from None
        results[name] = {task: _numbers(metrics) for task, metrics in output["results"].items()}
    return results


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """Return a task's figures by metric; the harness names them ``acc,none`` (metric and filter)."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "stderr" not in key
    }
