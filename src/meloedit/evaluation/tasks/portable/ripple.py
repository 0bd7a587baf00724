"""RippleEdits: ``recent.json``, ``random.json`` and ``popular.json`` of edenbiran/RippleEdits (arXiv 2307.12976).

A row states its edit as a sentence and the entities as numbers of Wikidata. The sentence is cut into prompt and target
where the target's label begins. The label stands among the answers of the row's own queries; where it does not, the
target follows the last words that close a prompt, in what the new and the original sentence share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os.path import commonprefix

from ....edit import prompt_key
from ....errors import EditError
from ..cleaning import distinct
from ..data_files import DataFile, edits_of
from ..drafts import Contents, Draft, make_edit
from ..records import Record
from ..task import Item, Question

NEAR = ("Relation_Specificity", "Relation_Specifity", "Forgetfulness")
"""The criteria whose answers an edit must not change; the second is how the README spells the first."""
FOLLOWS = ("Logical_Generalization", "Compositionality_I", "Compositionality_II", "Subject_Aliasing")
"""The criteria whose answers follow from an edit."""
CLOSINGS = (" is ", " are ", " follows ", " is followed by ")
"""What stands between a prompt's subject and its target: the ends of all templates of the data set's relations."""
UNCUT = "uncut"
"""What rows are counted as whose sentence shows no target."""


def read_ripple(files: Sequence[DataFile], paper: bool) -> Contents:
    """Read RippleEdits; near prompts and questions that follow have the name of their criterion as their kind.

    Each query counts by itself. Of a query with several right answers each one is right alone, with its aliases.
    Conditions (what the model must know for a test to count) are not read.

    Raises:
        EditError: naming file, line and field, if a row is unusable.
    """
    contents = Contents()
    for number, record in enumerate(record for file in edits_of(files) for record in file.rows):
        fact, queries = record.inner("edit"), {name: list(_queries(record, name)) for name in (*NEAR, *FOLLOWS)}
        known = [query for group in queries.values() for query, _ in group]
        cut = _cut(fact, [*known, *(query for name in queries for query in _conditions(record, name))])
        if cut is None:
            contents.left_out[UNCUT] = contents.left_out.get(UNCUT, 0) + 1
            continue
        prompt, target, true, subject = cut
        near = {query.text("prompt"): _kind(name) for name in NEAR for query, _ in queries[name]}
        item = Item(
            make_edit(fact.where, prompt, target, f"ripple-{number}", subject),
            near=tuple(near),
            portability=tuple(
                Question(query.text("prompt"), answers, kind=_kind(name))
                for name in FOLLOWS
                for query, answers in queries[name]
                if answers
            ),
            subject=subject,
            kinds={prompt_key(text): kind for text, kind in near.items()},
        )
        contents.drafts.append(Draft(item, record.where, true))
    return contents


def _kind(criterion: str) -> str:
    return criterion.replace("Specifity", "Specificity").replace("_", " ").lower()


def _queries(record: Record, criterion: str) -> Iterator[tuple[Record, tuple[str, ...]]]:
    """Yield the test queries of a criterion, each with its right answers and their aliases."""
    for test in _objects(record, criterion):
        test.get("test_queries")
        for query in _objects(test, "test_queries"):
            query.text("prompt")
            answers = [answer.leaves(name) for answer in _objects(query, "answers") for name in ("value", "aliases")]
            yield query, tuple(distinct(text for texts in answers for text in texts))


def _conditions(record: Record, criterion: str) -> Iterator[Record]:
    for test in _objects(record, criterion):
        yield from _objects(test, "condition_queries")


def _objects(record: Record, name: str) -> list[Record]:
    """Return the objects of a list, which may be missing; errors name their place in it."""
    values = record.values.get(name) or []
    if not isinstance(values, list):
        raise EditError(f"{record.where}: {name} must be a list of objects, not {values!r}")
    return [Record(f"{record.where}: {name}[{i}]", value) for i, value in enumerate(values)]


def _cut(fact: Record, queries: Sequence[Record]) -> tuple[str, str, tuple[str, ...], str | None] | None:
    """Return an edit's prompt, target, true answers and subject; ``None`` if its sentence shows no target."""
    sentence = _sentence(fact)
    original = _sentence(fact.inner("original_fact")) if "original_fact" in fact else None
    labels = _labels(fact, "target_id", queries)
    prompt = next((sentence[: -len(text)] for text in labels if sentence.endswith(f" {text}")), None)
    if prompt is None:
        shared = sentence if original is None else commonprefix([sentence, original])
        end = max((shared.rfind(words) + len(words) for words in CLOSINGS if words in shared), default=0)
        prompt = sentence[:end]
    target = sentence[len(prompt) :].strip()
    if not prompt.strip() or not target:
        return None
    true = original[len(prompt) :].strip() if original is not None and original.startswith(prompt) else ""
    subject = next((text for text in _labels(fact, "subject_id", queries) if text in prompt), None)
    return prompt.strip(), target, (true,) if true else (), subject


def _sentence(fact: Record) -> str:
    """Return a fact's sentence without the stop that every one ends in."""
    return fact.text("prompt").strip().removesuffix(".")


def _labels(fact: Record, name: str, queries: Sequence[Record]) -> list[str]:
    """Return the labels that answers of queries give to the entity in a field."""
    entity, labels = fact.get(name), []
    for query in queries:
        field = "second_hop_target_ids" if "second_hop_target_ids" in query else "target_ids"
        numbers, answers = query.values.get(field), _objects(query, "answers")
        if isinstance(numbers, list) and len(numbers) == len(answers):
            pairs = zip(numbers, answers, strict=True)
            labels += [text for number, answer in pairs if number == entity for text in answer.leaves("value")]
    return distinct(labels)
