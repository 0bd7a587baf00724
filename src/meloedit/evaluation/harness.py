"""EleutherAI's lm-evaluation-harness on an edited model, through its own API for models.

A request is a context and its continuation. The context alone decides the route, as the prompt of ``generate`` does;
so a continuation's likelihood is that of the model which would have generated after this context. A text that is
scored as a whole (``loglikelihood_rolling``) has no prompt: no edit answers it.
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

LONGEST = 256
"""Tokens that an answer may have where a task does not say."""
TEXT = 2048
"""Tokens of a whole text that are scored at once where the model has no limit of its own."""


def require() -> Any:
    """Return the harness.

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
    """Return an edited model as the harness wants one (an ``lm_eval.api.model.TemplateLM``).

    Raises:
        MeloEditError: if the harness is not installed, or the model gives no text.
    """
    harness, backbone = require(), editor.backbone
    if backbone.documents:
        raise MeloEditError("the harness scores text: a classifier has none")

    class EditedLM(_Routed, harness.api.model.TemplateLM):  # type: ignore[name-defined]
        """The edited model."""

    lm = EditedLM()
    lm.editor, lm.batch_size, lm.utils = editor, batch_size, harness.utils
    lm.backend = "causal" if backbone.answer_follows_prompt else "seq2seq"
    lm.tokenizer = editor.tokenizer
    return lm


class _Routed:
    """What the harness asks of a model, answered by an editor's."""

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
        given = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer(string, **given)["input_ids"])

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        longest = self.editor.backbone.max_length
        rows = [_row(context, continuation, longest) for _, context, continuation in requests]
        return _scored(self.editor, rows, self.batch_size)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        sums = []
        longest = self.editor.backbone.max_length or TEXT
        for (text,) in [request.args for request in requests]:
            windows = self.utils.get_rolling_token_windows(
                self.tok_encode(text), prefix_token=self.eot_token_id, max_seq_len=longest - 1, context_len=1
            )
            pairs = [self.utils.make_disjoint_window(window) for window in windows]
            with self.editor.disabled():
                rows = [_row(context, rest, longest) for context, rest in pairs]
                sums.append(sum(score for score, _ in _scored(self.editor, rows, self.batch_size)))
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        answers: dict[int, str] = {}
        for text, numbers in groups.items():
            settings = json.loads(text)
            stops = settings.pop("until", [])
            longest = settings.pop("max_gen_toks", settings.pop("max_new_tokens", LONGEST))
            sampling = settings if settings.get("do_sample") else {}  # greedy decoding takes no temperature
            contexts = [requests[i].args[0] for i in numbers]
            sizes = {"batch_size": self.batch_size, "max_new_tokens": longest}
            said = self.editor.ask(contexts, form="raw", **sizes, **sampling)
            answers |= {i: _until(one.text, stops) for i, one in zip(numbers, said, strict=True)}
        return [answers[i] for i in range(len(requests))]


def _until(text: str, stops: str | Sequence[str]) -> str:
    """Return a text up to the first of some stops."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text


def _row(context: Sequence[int], continuation: Sequence[int], longest: int | None) -> Example:
    """Return context and continuation, the context cut on the left to what the model takes."""
    room = len(context) if longest is None else max(1, longest - len(continuation))
    kept = list(context[-room:])
    return Example(kept, list(continuation), (0, len(kept)))


def _scored(editor: Editor, rows: Sequence[Example], size: int) -> list[tuple[float, bool]]:
    """Return per row the log-likelihood of its target in nats, and whether greedy decoding would say it."""
    found: dict[int, tuple[float, bool]] = {}
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt) + len(rows[i].target), i))
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        part = [rows[i] for i in numbers]
        lengths = (
            editor.routing([len(r.prompt) for r in part]) if editor.backbone.answer_follows_prompt else nullcontext()
        )
        with torch.no_grad(), frozen(editor.model), lengths:
            logits = editor.backbone.target_logits(part)
        for i, row, told in zip(numbers, part, logits, strict=True):
            target = torch.tensor(row.target, device=told.device)
            score = told.float().log_softmax(-1).gather(-1, target[:, None]).sum()
            found[i] = float(score), bool((told.argmax(-1) == target).all())
    return [found[i] for i in range(len(rows))]


def find_tasks(tasks: Sequence[str], include: Path | None = None) -> Any:
    """Return the harness's manager, which knows these tasks.

    Args:
        tasks: names of tasks.
        include: a folder with tasks of your own (``*.yaml``).

    Raises:
        MeloEditError: if there is no such task, or the harness is not installed.
    """
    manager = require().tasks.TaskManager(include_path=str(include) if include else None)
    known = set(manager.all_tasks)
    if missing := [name for name in tasks if name not in known]:
        near = sorted(name for name in known if missing[0].split("_")[0] in name)[:5]
        like = f"; like it: {', '.join(near)}" if near else ""
        raise MeloEditError(f"the harness has no task {missing[0]!r}{like}")
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
        tasks: names of tasks; their data must be at hand, or the hub.
        manager: what ``find_tasks`` found them with.
        limit: documents of each task; ``None``: all.
        shots: examples before each question; ``None``: as the task says.
        batch_size: continuations scored at once.

    Returns:
        Figures by task, for ``edited`` and ``unedited``.

    Raises:
        MeloEditError: if a task's data cannot be had.
    """
    harness, lm = require(), model_of(editor, batch_size)
    results = {}
    for name in ("edited", "unedited"):
        with editor.disabled() if name == "unedited" else nullcontext():
            try:
                found = harness.simple_evaluate(
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
        results[name] = {task: _numbers(own) for task, own in found["results"].items()}
    return results


def _numbers(own: dict[str, Any]) -> dict[str, float]:
    """Return a task's figures; the harness writes them as ``acc,none`` (metric and filter)."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in own.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "stderr" not in key
    }
