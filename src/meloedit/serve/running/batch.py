"""RunningBatch: the answers that are being made at the moment. Rows join and leave between two steps.

Each row keeps the route that was decided when its prompt was read, however the edits change meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ...backbones.batch import Example
from ...hooks.blocks import RowBlocks
from ...hooks.prompt_batch import PromptBatch
from .caches import joined, padded_mask, selected
from .choosing import Chooser, Chosen, shipped_processors
from .text import AnswerText
from .ticket import Done, Failed, Piece, Started, Ticket

if TYPE_CHECKING:
    from ...editor import Editor


@dataclass
class Row:
    """One answer under way.

    Attributes:
        ticket: what is wanted.
        chooser: chooses its tokens.
        text: its text.
        said: the tokens of prompt and answer.
        token: the latest token, which the model has not read yet.
    """

    ticket: Ticket
    chooser: Chooser
    text: AnswerText
    said: list[int]
    token: int = -1

    @property
    def tokens(self) -> int:
        """How many tokens the answer has."""
        return len(self.said) - len(self.ticket.encoded.ids)


@dataclass
class Cohort:
    """Rows with the state that the model needs of them.

    Attributes:
        rows: the rows.
        cache: the keys and values of their tokens.
        mask: (R, T) 1 for real tokens; padding stands on the left.
        blocks: the blocks of the rows that have a route.
        spelled: by row, what is left of a target that the caller began in a way that no block was trained for: the
            column before it, and its tokens.
    """

    rows: list[Row]
    cache: DynamicCache
    mask: Tensor
    blocks: list[RowBlocks]
    spelled: dict[int, tuple[int, tuple[int, ...]]]


class RunningBatch:
    """The answers that are being made at the moment.

    Args:
        editor: the edited model.
        size: the most rows at once.
    """

    def __init__(self, editor: Editor, size: int) -> None:
        backbone = editor.engine.backbone
        self._editor, self._backbone, self._router = editor, backbone, editor.engine.router
        self._processors = shipped_processors(editor.model)
        self._joins = bool(getattr(backbone, "rows_can_join", False))  # other models answer one request at a time
        self.size = size if self._joins else 1
        self._cohort: Cohort | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._cohort.rows) if self._cohort else 0

    def drop_all(self, error: BaseException) -> None:
        """Give every answer up; ``error`` is what those who wait are told."""
        for row in self._cohort.rows if self._cohort else []:
            row.ticket.tell(Failed(error))
        self._cohort = None

    @torch.no_grad()
    def admit(self, tickets: Sequence[Ticket]) -> None:
        """Read the prompts of new answers, decide their routes, choose their first tokens."""
        for unedited in (False, True):
            if part := [ticket for ticket in tickets if ticket.unedited == unedited]:
                new = self._keep_unfinished(self._read(part, unedited))
                self._cohort = _merge(self._cohort, new) if self._cohort and new else new or self._cohort

    def _read(self, tickets: Sequence[Ticket], unedited: bool) -> Cohort:
        """Run the prompts; an edit that is made meanwhile waits until the routes are decided."""
        engine = self._editor.engine
        batch = self._backbone.pad([Example.of(ticket.encoded) for ticket in tickets])
        lengths = [len(ticket.encoded.ids) for ticket in tickets]
        with engine.lock, self._router.disabled() if unedited else self._router.prompt_lengths(lengths):
            revision = engine.revision
            cache = DynamicCache() if self._joins else None
            logits, cache = self._forward(batch.ids, batch.mask, cache)
            routes = [] if unedited else self._router.last_routes
        routes = routes or [engine.policy.no_route] * len(tickets)
        routed: PromptBatch | None = getattr(cache, self._router.batch_attribute, None)
        blocks, spelled = (routed.blocks, dict(routed.spelled)) if routed is not None else ([], {})
        rows = [self._row(ticket) for ticket in tickets]
        for row, route in zip(rows, routes, strict=True):
            row.ticket.tell(Started(route, revision, "unedited" if unedited else route.reason))
        self._choose(rows, logits)
        return Cohort(rows, cache, batch.mask, blocks, spelled)

    def _row(self, ticket: Ticket) -> Row:
        chooser = Chooser(ticket.sampling, self._processors, self._backbone.device)
        text = AnswerText(self._backbone.decode, ticket.sampling.stops)
        return Row(ticket, chooser, text, list(ticket.encoded.ids))

    @torch.no_grad()
    def step(self) -> None:
        """Say one token of every answer; those that are whole, or that nobody waits for any longer, leave."""
        if self._cohort is None or (cohort := self._keep_unfinished(self._cohort)) is None:
            self._cohort = None
            return
        self._cohort = cohort
        tokens = torch.tensor([[row.token] for row in cohort.rows], device=self._backbone.device)
        cohort.mask = torch.nn.functional.pad(cohort.mask, (0, 1), value=1)
        if cohort.blocks:
            self._attach(cohort)
        with nullcontext() if cohort.blocks else self._router.disabled():
            logits, cohort.cache = self._forward(tokens, cohort.mask, cohort.cache)
        self._choose(cohort.rows, logits)
        self._cohort = self._keep_unfinished(cohort)

    def _attach(self, cohort: Cohort) -> None:
        """Let the hooks find the rows' blocks: a batch whose routes were decided before."""
        count = len(cohort.rows)
        mask = torch.zeros(count, 0, dtype=torch.bool)
        batch = PromptBatch(self._router.reader, 1, mask, {}, [0] * count, "given", [True] * count, decided=True)
        batch.blocks, batch.spelled = cohort.blocks, cohort.spelled
        setattr(cohort.cache, self._router.batch_attribute, batch)

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache | None) -> tuple[Tensor, DynamicCache]:
        """Run new columns (R, T) after those of the cache; return the logits (R, V) of the last one, and the cache."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": True}
        if "position_ids" in self._backbone.forward_names:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._backbone.forward_names:
            inputs["logits_to_keep"] = 1
        output = self._editor.model(**inputs)
        return output.logits[:, -1], output.past_key_values

    def _choose(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Choose the next token of each row, and tell it."""
        likeliest = logits.argmax(-1).tolist()
        for i, row in enumerate(rows):
            chosen = Chosen(likeliest[i]) if row.chooser.plain else row.chooser.choose(logits[i], row.said)
            row.token = chosen.token
            if chosen.token in self._backbone.stop_ids:
                continue
            row.said.append(chosen.token)
            row.ticket.tell(Piece(row.text.push(chosen.token), chosen))

    def _keep_unfinished(self, cohort: Cohort) -> Cohort | None:
        """Return the cohort without the rows that are done; ``None`` if none is left."""
        kept = [i for i, row in enumerate(cohort.rows) if not self._finish(row)]
        if len(kept) == len(cohort.rows):
            return cohort
        if not kept:
            return None
        mask = cohort.mask[torch.tensor(kept, device=cohort.mask.device)]
        cut = int((mask.cumsum(1) == 0).sum(1).min())  # columns that are padding in every row that is left
        places = {row: place for place, row in enumerate(kept)}
        blocks = [moved for group in cohort.blocks if (moved := group.moved(places, -cut)) is not None]
        rows = [cohort.rows[i] for i in kept]
        spelled = _moved_spelled(cohort, places, -cut)
        return Cohort(rows, selected(cohort.cache, kept, cut), mask[:, cut:], blocks, spelled)

    def _finish(self, row: Row) -> bool:
        """Return whether a row is done, and tell it."""
        ticket = row.ticket
        if ticket.given_up:
            if not ticket.cancelled:
                ticket.tell(Failed(TimeoutError("the answer took longer than this server allows")))
            return True
        stopped = row.token in self._backbone.stop_ids or row.text.stopped
        if stopped or row.tokens >= ticket.sampling.max_tokens:
            rest = row.text.end()
            ticket.tell(Done("stop" if stopped or row.text.stopped else "length", rest, row.tokens))
            return True
        return False


def _merge(first: Cohort, second: Cohort) -> Cohort:
    """Return one cohort with the rows of both."""
    lengths = first.mask.shape[1], second.mask.shape[1]
    length = max(lengths)
    blocks = _moved(first, 0, length - lengths[0]) + _moved(second, len(first.rows), length - lengths[1])
    mask = torch.cat([padded_mask(first.mask, length), padded_mask(second.mask, length)])
    own = {row: row for row in range(len(first.rows))}
    new = {row: row + len(first.rows) for row in range(len(second.rows))}
    spelled = _moved_spelled(first, own, length - lengths[0]) | _moved_spelled(second, new, length - lengths[1])
    return Cohort([*first.rows, *second.rows], joined(first.cache, second.cache), mask, blocks, spelled)


def _moved(cohort: Cohort, offset: int, columns: int) -> list[RowBlocks]:
    places = {row: row + offset for row in range(len(cohort.rows))}
    return [moved for group in cohort.blocks if (moved := group.moved(places, columns)) is not None]


def _moved_spelled(cohort: Cohort, places: dict[int, int], columns: int) -> dict[int, tuple[int, tuple[int, ...]]]:
    return {places[row]: (last + columns, rest) for row, (last, rest) in cohort.spelled.items() if row in places}
