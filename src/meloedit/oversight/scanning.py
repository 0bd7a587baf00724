"""Scanner: which prompts of a log would be answered by which edit. Only the layers up to the key layer run."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..edit import Edit, prompt_key
from ..errors import EditError
from ..files import json_hash
from .log import LogLine, count_lines, is_plain, log_lines, prompt_in
from .near_misses import NearMisses, is_near
from .scan_page import write_page
from .scan_record import Done, Finding, ScanRecord

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..results import Route
    from ..types import Form, Progress, Prompt

LINES_AT_ONCE = 1024
"""Lines of a chunk: so much work is lost at most when a scan is stopped."""
REMEMBERED = 50_000
"""Prompts whose routes are kept: logs repeat themselves."""
LISTED = 20
"""Prompts of each edit that a report lists, the nearest and the farthest ones; the record has all."""


@dataclass(frozen=True)
class EditHits:
    """The prompts that an edit would answer, or nearly.

    Attributes:
        id: the edit's id.
        prompt: its prompt, as text.
        target: what it answers.
        count: how many prompts.
        listed: some of them, the farthest from the edit first: these are the likeliest to be wrong hits.
    """

    id: str
    prompt: Any
    target: str
    count: int
    listed: list[Finding]


@dataclass(frozen=True)
class ScanReport:
    """The outcome of a scan.

    Attributes:
        log: the log.
        store: the store.
        revision: the store's revision.
        lines: lines of the log.
        prompts: how many of them hold a prompt.
        fired: prompts that an edit would answer.
        edits: the edits that would answer some, by how many.
        near: the edits that some prompts came near to without firing.
        least_score: the judge's probability that a prompt must exceed; ``None`` without a judge.
        record: the file that lists every hit.
    """

    log: str
    store: str
    revision: int
    lines: int
    prompts: int
    fired: int
    edits: list[EditHits]
    near: list[EditHits]
    least_score: float | None
    record: str

    def write_page(self, path: str | Path) -> None:
        """Write the report as one HTML file.

        Raises:
            MeloEditError: if it cannot be written.
        """
        write_page(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        values = asdict(self)
        for hits, dicts in ((self.edits, values["edits"]), (self.near, values["near"])):
            for one, as_dict in zip(hits, dicts, strict=True):
                as_dict["listed"] = [finding._asdict() for finding in one.listed]
        return values


class Scanner:
    """Scans logs.

    Args:
        engine: the model and its store.
        form: how the prompts are asked; ``None``: as chat where the model has a template.
        progress: told how many lines are done.
        notes: where near misses are noted, each prompt once; ``None``: nowhere.
    """

    def __init__(
        self,
        engine: Engine,
        form: Form | None = None,
        progress: Progress | None = None,
        notes: NearMisses | None = None,
    ) -> None:
        self._engine, self._progress, self._notes = engine, progress, notes
        templated = bool(getattr(engine.backbone.tokenizer, "chat_template", None))
        self._form: Form = form or ("chat" if templated else "raw")
        self._routes: OrderedDict[str, Route] = OrderedDict()

    def scan(self, log: Path, record: Path, edits: Sequence[Edit] = ()) -> ScanReport:
        """Scan a log; what an earlier scan of it has done is taken from the record.

        Args:
            log: the log, see ``log.prompt_in``.
            record: the file that is written as the scan goes, see ``ScanRecord``.
            edits: edits that are not made yet, to be scanned for beside the stored ones, by their keys alone.

        Raises:
            EditError: naming the line, if one is no prompt; the lines before it are done and stay so.
        """
        if str(log) == "-" or (os.path.exists(log) and not os.path.isfile(log)):
            raise EditError(f"{log} is no file: give a file, since a scan reads its log twice")
        lines = count_lines(log)
        store = self._engine.store
        head = {
            "log": log.name,
            "store": str(store.path.name),
            "revision": store.revision,
            "state": store.state_id,
            "form": self._form,
            "edits": json_hash([edit.to_dict() for edit in edits]) if edits else "",
        }
        written = ScanRecord(record, head)
        try:
            with self._engine.mode.unmade(edits) if edits else nullcontext():
                self._scan(log, written, lines)
            if not written.done.prompts:
                raise EditError(f"{log} holds no prompts: one per line is expected")
            return self._report(log, written, {edit.id: edit for edit in edits})
        finally:
            written.close()

    def _scan(self, log: Path, written: ScanRecord, total: int) -> None:
        digest, plain, start = hashlib.sha256(), is_plain(log), written.done
        chunk: list[tuple[LogLine, Prompt]] = []
        same = not start.lines  # whether the lines that an earlier scan did are those of the log
        for line in log_lines(log):
            if line.number > start.lines and not same:
                break
            try:
                prompt = prompt_in(line, plain) if line.number > start.lines else ""
            except EditError:
                self._close_chunk(chunk, digest.hexdigest(), written, total)  # what stands before it is done
                raise
            digest.update(line.text.rstrip("\r\n").encode())
            digest.update(b"\n")
            same |= line.number == start.lines and digest.hexdigest() == start.digest
            if line.number > start.lines:
                chunk.append((line, prompt))
            if len(chunk) == LINES_AT_ONCE:
                self._close_chunk(chunk, digest.hexdigest(), written, total)
                chunk = []
        if not same:
            raise EditError(
                f"{log} changed since {written.path} was begun, at line {start.lines} or before: remove the record, or "
                "give another name with --record"
            )
        self._close_chunk(chunk, digest.hexdigest(), written, total)

    def _close_chunk(
        self, chunk: Sequence[tuple[LogLine, Prompt]], digest: str, written: ScanRecord, total: int
    ) -> None:
        if not chunk:
            return
        done = Done(chunk[-1][0].number, written.done.prompts + len(chunk), digest)
        written.close_chunk(self._findings(chunk), done)
        if self._progress:
            self._progress("scanning", done.lines, max(done.lines, total))

    def _findings(self, chunk: Sequence[tuple[LogLine, Prompt]]) -> list[Finding]:
        """Return what fires, and what nearly does, of the lines of a chunk."""
        lines, prompts = [line for line, _ in chunk], [prompt for _, prompt in chunk]
        keys = [prompt_key(prompt) for prompt in prompts]
        new = {key: i for i, key in enumerate(keys) if key not in self._routes}
        encoded = []
        for i in new.values():
            try:
                encoded.append(self._engine.backbone.encode(prompts[i], self._form))
            except EditError as error:
                raise EditError(f"{lines[i].where}: {error}") from None
        routes = self._engine.route(encoded) if encoded else []
        self._routes |= zip(new, routes, strict=True)
        if self._notes is not None:
            self._notes.note((prompts[i], route) for i, route in zip(new.values(), routes, strict=True))
        found = [
            Finding(
                line.number, prompt, route.nearest, route.edit is not None, route.reason, route.distance, route.score
            )
            for line, prompt, key in zip(lines, prompts, keys, strict=True)
            if (route := self._routes[key]).nearest is not None and (route.edit is not None or is_near(route))
        ]
        while len(self._routes) > REMEMBERED:
            self._routes.popitem(last=False)
        return found

    def _report(self, log: Path, written: ScanRecord, unmade: dict[str, Edit]) -> ScanReport:
        counts: dict[tuple[bool, str], int] = {}
        listed: dict[tuple[bool, str], dict[str, Finding]] = {}
        for finding in written.findings():
            of = finding.fires, finding.edit
            counts[of] = counts.get(of, 0) + 1
            _keep(listed.setdefault(of, {}), finding, LISTED)
        hits = {of: self._hits(of, counts[of], listed[of], unmade) for of in counts}
        by_count = sorted(hits.items(), key=lambda item: -item[1].count)
        store = self._engine.store
        return ScanReport(
            log=str(log),
            store=str(store.path),
            revision=store.revision,
            lines=written.done.lines,
            prompts=written.done.prompts,
            fired=sum(count for (fires, _), count in counts.items() if fires),
            edits=[one for (fires, _), one in by_count if fires],
            near=[one for (fires, _), one in by_count if not fires],
            least_score=self._engine.policy.least_score,
            record=str(written.path),
        )

    def _hits(self, of: tuple[bool, str], count: int, listed: dict[str, Finding], unmade: dict[str, Edit]) -> EditHits:
        fires, edit_id = of
        edit = unmade[edit_id] if edit_id in unmade else self._engine.store.get(edit_id).edit
        order = sorted(listed.values(), key=lambda finding: finding.nearness, reverse=not fires)
        return EditHits(edit_id, edit.prompt, edit.target, count, order)


def _keep(listed: dict[str, Finding], finding: Finding, most: int) -> None:
    """Keep a finding among the ``most`` that lie nearest to the threshold, each prompt once."""
    listed.setdefault(prompt_key(finding.prompt), finding)
    if len(listed) > most:
        worst = heapq.nlargest if finding.fires else heapq.nsmallest
        ((key, _),) = worst(1, listed.items(), key=lambda item: item[1].nearness)
        del listed[key]
