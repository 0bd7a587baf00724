"""Retrieval (RAG): the edits nearest to a prompt are written before it, and the unchanged model reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...edit import prompt_text
from ...errors import MeloEditError
from .retrieval import Retrieval, RetrievalSettings, filled

if TYPE_CHECKING:
    from ...edit import Edit


@dataclass(frozen=True)
class RagSettings(RetrievalSettings):
    """Settings of retrieval.

    Attributes:
        top: how many edits are written before a prompt.
        fact: template of an edit, with ``{prompt}`` and ``{target}``.
        form: template of the whole prompt, with ``{facts}`` and ``{prompt}``.
    """

    top: int = 1
    fact: str = "{prompt} {target}"
    form: str = "{facts}\n{prompt}"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, parts in (("fact", ("{prompt}", "{target}")), ("form", ("{facts}", "{prompt}"))):
            if not all(part in getattr(self, name) for part in parts):
                raise MeloEditError(f"{name} must contain {' and '.join(parts)}, not {getattr(self, name)!r}")


class Rag(Retrieval):
    """Writes retrieved edits before the prompt as plain facts."""

    name = "rag"
    Settings = RagSettings

    @property
    def top(self) -> int:
        """How many edits are written before a prompt."""
        return int(self.settings.top)

    def fact(self, edit: Edit) -> str:
        """Return an edit in its template."""
        return filled(self.settings.fact, prompt=prompt_text(edit.prompt).strip(), target=edit.target.strip())

    def texts(self, prompt: str, names: Sequence[str]) -> Iterator[str]:
        """Yield the prompt behind as many of the facts as there is room for, the nearest one last."""
        for count in range(len(names), 0, -1):
            facts = "\n".join(self._facts[name] for name in reversed(names[:count]))
            yield filled(self.settings.form, prompt=prompt, facts=facts)
