"""MQuAKE: the edits of a case are made together, and its multi-hop questions follow from all of them.

The files are those of princeton-nlp/MQuAKE (``MQuAKE-CF``, ``-CF-3k``, ``-CF-3k-v2`` and ``-T``); its README describes
the fields (arXiv 2305.14795).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....errors import EditError
from ..cleaning import distinct
from ..data_files import DataFile, edits_of
from ..drafts import Contents, Draft, make_edit
from ..questions import rewrite_of
from ..records import Record
from ..task import Item, Question


def read_mquake(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read MQuAKE's cases: the rewrites of a case are one group, its multi-hop questions follow from all of them.

    A multi-hop question has the number of its hops as its kind, where the row lists them, and the answer that held
    before the edits. The question of each rewrite is its rephrasing: it asks the edited fact, one hop.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    contents = Contents()
    for record in (record for file in edits_of(files) for record in file.rows):
        case, multi_hop = record.number("case_id"), _multi_hop(record)
        contents.portability.setdefault(case, multi_hop)
        contents.drafts.extend(_rewrites(record, case))
    return contents


def _rewrites(record: Record, case: int) -> Iterator[Draft]:
    rewrites = record.values["requested_rewrite"]
    if not isinstance(rewrites, list) or not rewrites:
        raise EditError(f"{record.where}: requested_rewrite must be a list of rewrites with at least one")
    for i, values in enumerate(rewrites):
        inner = Record(f"{record.where}: requested_rewrite[{i}]", values)
        prompt, target, true, subject = rewrite_of(inner)
        edit = make_edit(inner.where, prompt, target, f"mq-{case}-{i}", subject)
        yield Draft(Item(edit, (inner.text("question"),), group=case, subject=subject), inner.where, true)


def _multi_hop(record: Record) -> tuple[Question, ...]:
    answers = tuple(distinct((record.text("new_answer"), *record.leaves("new_answer_alias"))))
    before = tuple(
        distinct(text for name in ("answer", "answer_alias", "answer_extended") for text in record.leaves(name))
    )
    hops = record.values.get("new_single_hops")
    kind = f"{len(hops)} hops" if isinstance(hops, list) and hops else None
    return tuple(Question(text, answers, before=before, kind=kind) for text in record.nonempty_texts("questions"))
