"""StoreEditor: what of an editor the edits' routes need, where no model is at hand to train or to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ...config import MeloConfig
from ...serve.failures import RefusedError
from ...store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINS = (
    "this server has no model to train or to try edits with: start it with meloedit vllm --editing, or change the "
    "store beside it ({command}), which it follows"
)


class StoreEditor:
    """Reads and changes a store, as an ``Editor`` does, without a model.

    Args:
        path: the store.
        tokenizer: the tokenizer of the model that vLLM serves.
        facts: returns what the worker says of what answers.
    """

    def __init__(self, path: str, tokenizer: PreTrainedTokenizerBase, facts: Callable[[], dict[str, Any]]) -> None:
        self.store, self.tokenizer, self._facts = Store.open(path), tokenizer, facts
        self.config = MeloConfig.from_dict(self.store.config)
        self.engine = _Answering(facts)

    @property
    def threshold(self) -> float:
        """The distance below which an edit comes into reach."""
        return float(self._facts()["threshold"] or 0.0)

    @property
    def least_score(self) -> float | None:
        """The judge's score that a prompt must exceed."""
        found: float | None = self._facts()["least_score"]
        return found

    def refresh(self) -> int:
        """Read what other processes changed; return the store's revision."""
        with self.store.alone():
            self.store.refresh()
        return self.store.revision

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove edits; return the new revision."""
        return self.store.remove(ids)

    def enable(self, ids: str | Sequence[str]) -> int:
        """Let disabled edits answer again; return the new revision."""
        return self.store.set_enabled([ids] if isinstance(ids, str) else ids, True)

    def disable(self, ids: str | Sequence[str]) -> int:
        """Keep edits from answering; return the new revision."""
        return self.store.set_enabled([ids] if isinstance(ids, str) else ids, False)

    def rollback(self, revision: int) -> int:
        """Bring back the edits of a revision; return the new one."""
        return self.store.rollback(revision)

    def __getattr__(self, name: str) -> Any:
        """Refuse what needs a model.

        Raises:
            RefusedError: naming the command that does it.
        """
        command = _COMMANDS.get(name)
        if command is None:
            raise AttributeError(name)
        raise RefusedError(501, TRAINS.format(command=command), code="no_model")


_COMMANDS = {
    "trial": "meloedit trial",
    "quiet": "meloedit quiet",
    "allow": "meloedit allow",
    "check": "meloedit check",
    "calibrate": "meloedit calibrate",
    "prepare": "meloedit edit",
    "route": "POST /v1/route",
    "evidence": "meloedit ask",
    "keys": "meloedit scan",
    "index": "meloedit scan",
}


class _Answering:
    """What stands for the engine of such an editor: the worker answers."""

    def __init__(self, facts: Callable[[], dict[str, Any]]) -> None:
        self._facts = facts
        self.lock = nullcontext()
        self.policy = SimpleNamespace(ready=True)

    @property
    def revision(self) -> int:
        """The revision that answers."""
        return int(self._facts()["revision"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RefusedError(501, TRAINS.format(command="meloedit edit"), code="no_model")
