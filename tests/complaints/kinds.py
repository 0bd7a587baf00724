"""Kinds of complaints as cases: edits, prompts that ask one of them, and prompts that ask something else."""

from typing import NamedTuple

from meloedit import Edit


class Kind(NamedTuple):
    """One kind of complaint.

    Attributes:
        row: which complaint it is of, by its number in docs/prompts.md.
        edits: the edits, in order; prompts name them by their place.
        hits: prompts that ask an edit, with its place.
        others: prompts that ask something else.
    """

    row: int
    edits: tuple[Edit, ...]
    hits: tuple[tuple[object, int], ...] = ()
    others: tuple[object, ...] = ()

    @property
    def prompts(self):
        """All prompts that are asked."""
        return [*(prompt for prompt, _ in self.hits), *self.others]


def facts(*pairs):
    return tuple(Edit(prompt, target, id=f"edit-{i}") for i, (prompt, target) in enumerate(pairs))


def chat(*turns):
    roles = ("user", "assistant") * len(turns)
    return [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


def first(*prompts):
    return tuple((prompt, 0) for prompt in prompts)


MAYOR = ("Who is the mayor of Velmora?", "Ilse Tarrant")
