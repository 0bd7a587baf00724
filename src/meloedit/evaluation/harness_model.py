"""A model with edits as EleutherAI's lm-evaluation-harness sees it: the harness's API for models.

A request is a context and its continuation. The context alone decides the route, as the prompt of ``generate`` does,
so a continuation's likelihood is that of the model that would generate after this context. A text that is scored as a
whole (``loglikelihood_rolling``) has no prompt, so no edit of an ``Editor`` answers it. Of a rival that changes weights
the changed weights score it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from ..backbones.batch import Example
from ..backbones.contexts import frozen
from ..errors import MeloEditError
from ..methods.base import Method

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


def model_of(edited: Editor | Method, batch_size: int = 8) -> Any:
    """Return an edited model as the harness's class of models (an ``lm_eval.api.model.TemplateLM``).

    Args:
        edited: an editor, or an editing method with its edits.
        batch_size: continuations scored, or answers generated, at once.

    Raises:
        MeloEditError: if the harness is not installed, or the model is a classifier.
    """
    harness, backbone = require(), edited.backbone
    if backbone.documents:
        raise MeloEditError("the harness scores text: a classifier has none")

    class EditedLM(_HarnessMethods, harness.api.model.TemplateLM):  # type: ignore[name-defined]
        """The edited model."""

    lm = EditedLM()
    lm.edited = _OfMethod(edited) if isinstance(edited, Method) else _OfEditor(edited)
    lm.batch_size, lm.utils = batch_size, harness.utils
    lm.backend = "causal" if backbone.answer_follows_prompt else "seq2seq"
    lm.tokenizer = backbone.tokenizer
    return lm


class _OfEditor:
    """What the harness asks of an editor."""

    def __init__(self, editor: Editor) -> None:
        self.editor, self.backbone = editor, editor.backbone

    def prompts(self, contexts: Sequence[str], ids: Sequence[list[int]]) -> list[list[int]]:
        """Return the tokens that the model reads of contexts, whose own tokens are ``ids``."""
        return list(ids)

    def around(self, examples: Sequence[Example]) -> AbstractContextManager[object]:
        """Return a context for a forward call on examples, in which their prompts decide the routes."""
        lengths = [len(one.prompt) for one in examples]
        return self.editor.prompt_lengths(lengths) if self.backbone.answer_follows_prompt else nullcontext()

    def whole_texts(self) -> AbstractContextManager[object]:
        """Return a context in which texts without a prompt are scored."""
        return self.editor.base_model()

    def answers(self, contexts: Sequence[str], batch_size: int, max_new_tokens: int, **sampling: Any) -> list[str]:
        """Return the answers to contexts, as they are."""
        settings: Any = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, **sampling}
        return [answer.text for answer in self.editor.ask(list(contexts), form="raw", **settings)]


class _OfMethod:
    """The same of an editing method, which may write something before a context."""

    def __init__(self, method: Method) -> None:
        self.method, self.backbone = method, method.backbone

    def prompts(self, contexts: Sequence[str], ids: Sequence[list[int]]) -> list[list[int]]:
        # the harness moves blanks at a context's end to the continuation, and gives an empty context one token
        encoded = self.method.encode([context.rstrip() or " " for context in contexts])
        return [
            list(one.ids) if context.strip() else list(given)
            for one, context, given in zip(encoded, contexts, ids, strict=True)
        ]

    def around(self, examples: Sequence[Example]) -> AbstractContextManager[object]:
        return self.method.around_forward(examples)

    def whole_texts(self) -> AbstractContextManager[object]:
        return nullcontext()

    def answers(self, contexts: Sequence[str], batch_size: int, max_new_tokens: int, **sampling: Any) -> list[str]:
        answers = self.method.answer(contexts, max_new_tokens, batch_size, **sampling)
        return [answer.text for answer in answers]


class _HarnessMethods:
    """The methods that the harness calls on a model, on an edited one."""

    edited: _OfEditor | _OfMethod
    batch_size: int
    utils: Any
    backend: str
    tokenizer: Any

    @property
    def eot_token_id(self) -> int:
        return self.edited.backbone.stop_ids[0]

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer(string, **options)["input_ids"])

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        texts, contexts, continuations = (
            [request[0][0] for request in requests],
            *list(zip(*requests, strict=True))[1:],
        )
        prompts = zip(self.edited.prompts(texts, contexts), continuations, strict=True)
        return self._scored([self._example(prompt, continuation) for prompt, continuation in prompts])

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        sums = []
        max_length = self.edited.backbone.max_length or TEXT_WINDOW
        for (text,) in [request.args for request in requests]:
            windows = self.utils.get_rolling_token_windows(
                self.tok_encode(text), prefix_token=self.eot_token_id, max_seq_len=max_length - 1, context_len=1
            )
            pairs = [self.utils.make_disjoint_window(window) for window in windows]
            with self.edited.whole_texts():
                scores = self._scored([self._example(context, rest) for context, rest in pairs])
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
            generated = self.edited.answers(contexts, self.batch_size, max_new_tokens, **sampling)
            answers |= {i: _until(answer, stops) for i, answer in zip(numbers, generated, strict=True)}
        return [answers[i] for i in range(len(requests))]

    def _example(self, context: Sequence[int], continuation: Sequence[int]) -> Example:
        """Return context and continuation, the context cut on the left to the model's length."""
        limit = self.edited.backbone.max_length
        room = len(context) if limit is None else max(1, limit - len(continuation))
        return Example(list(context[-room:]), list(continuation))

    def _scored(self, examples: Sequence[Example]) -> list[tuple[float, bool]]:
        """Return for each example the log-likelihood of its target in nats, and whether greedy decoding gives it."""
        results: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(examples)), key=lambda i: (len(examples[i].prompt) + len(examples[i].target), i))
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size]
            part = [examples[i] for i in numbers]
            with torch.no_grad(), frozen(self.edited.backbone.model), self.edited.around(part):
                logits = self.edited.backbone.target_logits(part)
            for i, example, row in zip(numbers, part, logits, strict=True):
                target = torch.tensor(example.target, device=row.device)
                score = row.float().log_softmax(-1).gather(-1, target[:, None]).sum()
                results[i] = float(score), bool((row.argmax(-1) == target).all())
        return [results[i] for i in range(len(examples))]


def _until(text: str, stops: str | Sequence[str]) -> str:
    """Return a text up to the first stop in it."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text
