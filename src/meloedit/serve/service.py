"""Service: an editor with its two threads, its statistics and its limits; what the endpoints work with."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import MeloEditError
from ..oversight.neighbourhoods import Neighbourhoods
from .changes import ChangeThread, Job
from .failures import RefusedError
from .mapping import KeyMemory
from .metrics import Metrics
from .running.thread import ModelThread
from .settings import ServeSettings
from .statistics import Statistics
from .tokens import Caller, Tokens

if TYPE_CHECKING:
    from ..editor import Editor

T = TypeVar("T")

logger = logging.getLogger("meloedit.serve")
audit = logging.getLogger("meloedit.serve.audit")

BASE = ":base"
"""What stands behind the model's name where the unedited model is asked."""
REMEMBERED = 10_000
"""Idempotency keys that are remembered."""


class Service:
    """What a server serves.

    **It puts the model into ``eval()`` mode and freezes its weights**: answers need no gradients.

    Args:
        editor: the edited model.
        settings: the limits.
        tokens: who may do what; without any, every caller may do everything.

    Raises:
        MeloEditError: if the model is none that answers in its own sequence (an encoder-decoder, a classifier).
    """

    def __init__(self, editor: Editor, settings: ServeSettings, tokens: Tokens) -> None:
        if not editor.engine.backbone.answer_follows_prompt:
            kind = type(editor.model).__name__
            raise MeloEditError(f"{kind} cannot be served: decoder-only language models alone are, for now")
        editor.model.eval().requires_grad_(False)
        self._begin(settings, tokens)
        self.editor = editor
        self.name = Path(str(editor.store.model["name"])).name or "model"
        self.model = ModelThread(editor, settings.max_batch, settings.max_waiting)
        self.statistics = Statistics(editor.store.path, settings.keep_prompts)
        for name, text, read in (
            ("waiting_answers", "Answers that wait.", lambda: self.model.waiting),
            ("running_answers", "Answers that are being made.", lambda: self.model.running),
            ("waiting_jobs", "Jobs that wait.", lambda: self.changes.waiting),
            ("edits", "Stored edits.", lambda: len(self.editor.store.edits())),
            ("revision", "The revision that answers.", lambda: self.revision),
        ):
            self.metrics.gauge(name, text, read)

    def _begin(self, settings: ServeSettings, tokens: Tokens) -> None:
        """Set what a service has before its editor is known."""
        self.settings, self.tokens = settings, tokens
        self.created = int(time.time())
        self.changes = ChangeThread(settings.max_jobs, self.follow)
        self.trouble: str | None = None
        self.map_keys, self.umap = KeyMemory(), Neighbourhoods()
        self.metrics = Metrics()
        self._by_key: OrderedDict[tuple[str, str], tuple[str, Job]] = OrderedDict()

    @property
    def revision(self) -> int:
        """The revision of the store whose edits answer."""
        return self.editor.engine.revision

    @property
    def ready(self) -> bool:
        """Whether answers and changes are taken, and the store is the one that answers."""
        return self.model.alive and self.changes.alive and self.trouble is None

    def follow(self) -> None:
        """Answer with what other processes changed in the store; called in the thread of changes.

        Where that cannot be, the server is not ready, and goes on answering with what it has.
        """
        try:
            self.editor.refresh()
            self.trouble = None
        except Exception as error:  # whatever it is, the thread of changes must live
            if self.trouble != str(error):
                known = isinstance(error, MeloEditError)
                logger.error(
                    "%s; until then the server goes on with the edits that it has",
                    error,
                    exc_info=None if known else error,
                )
            self.trouble = str(error)

    def start(self) -> None:
        """Start the threads."""
        self.model.start()
        self.changes.start()
        self.statistics.start()

    async def leave(self) -> None:
        """Close what the event loop has opened for this service."""

    def stop(self) -> None:
        """Stop the threads; the part of a job that runs is stored first."""
        self.changes.stop()
        self.model.stop()
        self.statistics.stop()

    # -- changes

    def signed(self, by: Caller, action: str, ids: Sequence[str], expected: int | None, work: Callable[[], T]) -> T:
        """Change the store under a caller's name, and write the audit line; called in the thread of changes.

        Raises:
            RefusedError: with 412, if the store is not at the revision that the caller expects.
        """
        store = self.editor.store
        with store.signed(by.name):
            check_revision(expected, store.revision)
            before = store.revision
            done = work()
        if store.revision != before:
            self.write_audit(by, action, ids, before)
        return done

    def write_audit(self, by: Caller, action: str, ids: Sequence[str], before: int) -> None:
        """Write who changed what, as one line of JSON to the log ``meloedit.serve.audit``."""
        line = {"time": round(time.time(), 3), "by": by.name, "action": action, "ids": list(ids)[:100]}
        line |= {"count": len(ids), "from": before, "to": self.editor.store.revision}
        audit.info("%s", json.dumps(line))

    def submit(self, job: Job, key: str | None, body: Any) -> tuple[Job, bool]:
        """Let a job wait for its turn, unless it came before under the same ``Idempotency-Key``.

        Returns:
            The job, and whether it is a new one.

        Raises:
            RefusedError: with 422, if the key came with another body.
        """
        if key is None:
            self.changes.submit(job)
            return job, True
        digest = hashlib.sha256(json.dumps([job.kind, body], sort_keys=True).encode()).hexdigest()
        known = self._by_key.get((job.by, key))
        if known is not None:
            if known[0] != digest:
                raise RefusedError(
                    422, "this Idempotency-Key came with another body: use a new one", code="idempotency"
                )
            return known[1], False
        self.changes.submit(job)
        self._by_key[job.by, key] = digest, job
        while len(self._by_key) > REMEMBERED:
            self._by_key.popitem(last=False)
        return job, True


def check_revision(expected: int | None, revision: int) -> None:
    """Refuse a change that was meant for another revision.

    Raises:
        RefusedError: with 412.
    """
    if expected is not None and expected != revision:
        raise RefusedError(
            412, f"the store is at revision {revision}, not at {expected}: read it again", "If-Match", "revision"
        )
