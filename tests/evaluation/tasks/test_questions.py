"""Questions and cloze prompts: what becomes of each row, in every format."""

import pytest
from task_rows import FLAT, FULL, KNOWEDIT, MEND, by_id, counts, fact, file_of

from meloedit.errors import EditError
from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.questions import read_zsre
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.task import FarPrompt, Question


def test_canonical_rows(tmp_path):
    row = fact(
        id="a",
        target_true="Bo",
        subject="Ada",
        rephrases=["Which one?"],
        near=["When?"],
        far=["Why?"],
        attribute=["What?"],
        portability=[{"prompt": "Whose child?", "answers": ["Cy", "C."]}, {"prompt": "Her age?", "answer": "9"}],
    )
    task = load_task("zsre", [file_of(tmp_path, row, fact("What?", "It"))])
    first, bare = by_id(task)["a"], by_id(task)["zsre-1"]
    assert (first.edit.prompt, first.edit.target, first.subject) == ("Who?", "Ann", "Ada")
    assert (first.edit.variants, first.edit.quiet) == ((), ())  # what is asked later is never trained on
    assert (first.rephrases, first.near) == (("Which one?",), ("When?",))
    assert first.portability == (Question("Whose child?", ("Cy", "C.")), Question("Her age?", ("9",)))
    assert (bare.rephrases, bare.near, bare.portability, bare.group) == ((), (), (), None)
    assert task.far == (FarPrompt("Why?", "own"),)
    assert (task.name, task.kind, task.only_wrong) == ("zsre", "question", False)


@pytest.mark.parametrize(("name", "near"), [("rephrase", "rephrases"), ("neer", "near"), ("targets", "target")])
def test_a_misspelled_field_is_named_with_the_nearest(tmp_path, name, near):
    path = file_of(tmp_path, fact(metadata={"a": 1}, variants=["Which?"]), fact("What?", **{name: ["x"]}))
    with pytest.raises(EditError, match=f"line 2: unknown field '{name}' \\(did you mean '{near}'"):
        load_task("zsre", [path])


def test_mend_rows_go_to_their_target(tmp_path):
    other = MEND | {"src": "Who?", "subject": "Bo", "rephrase": "Which?", "loc": "nq question: Who won "}
    task = load_task("zsre", [file_of(tmp_path, MEND, other)])
    item = by_id(task)["zsre-0"]
    assert (item.edit.prompt, item.edit.target) == ("Where was Ada born?", "Oslo")
    assert (item.rephrases, item.near) == (("Ada's place of birth?",), ())
    assert item.portability == (Question("Her country?", ("Norway",)),)
    assert task.far == (FarPrompt("who won", "own"),)  # without its lead-in, and once


@pytest.mark.parametrize("row", [MEND, KNOWEDIT, fact(target_true="Rome")])
def test_the_papers_protocol_edits_zsre_toward_the_truth(tmp_path, row):
    task = load_task("zsre", [file_of(tmp_path, row)], protocol="paper")
    assert task.only_wrong and task.items[0].edit.target == "Rome"
    assert task.items[0].portability == ()  # they follow from the other target
    without = {name: value for name, value in MEND.items() if name != "alt"}
    assert load_task("zsre", [file_of(tmp_path, without)], protocol="paper").items[0].edit.target == "Rome"


def test_knowedit_rows(tmp_path):
    task = load_task("zsre", [file_of(tmp_path, KNOWEDIT)])
    (item,) = task.items
    assert (item.edit.target, item.near) == ("Oslo", ("Ada wrote",))
    assert item.rephrases == ("Ada's place of birth?", "Ada comes from where?")
    assert item.portability == (
        Question("Her country?", ("Norway", "Norge")),
        Question("Where was A. born?", ("Oslo",)),
    )
    assert counts(task) == {"repeated_rephrases": 1}
    task = load_task("zsre", [file_of(tmp_path, {name: KNOWEDIT[name] for name in list(KNOWEDIT)[:4]})])
    assert (task.items[0].rephrases, task.items[0].near, task.items[0].portability) == ((), (), ())


def test_counterfact_rows_flat_and_full(tmp_path):
    flat, full = file_of(tmp_path, FLAT, name="flat.jsonl"), file_of(tmp_path, FULL, name="full.jsonl")
    task = load_task("counterfact", [flat, full])
    first, second = by_id(task)["cf-7"], by_id(task)["cf-8"]
    assert (first.edit.prompt, first.edit.target) == ("Ada speaks", "Thai")
    assert (first.rephrases, first.near) == (("The words of Ada are",), ("Bo speaks",))
    assert (second.edit.prompt, second.edit.target, second.subject) == ("Cy {x} speaks", "Thai", "Cy {x}")
    assert second.rephrases == ("Rain. Cy said it in", "Cy talks in")
    assert second.near == ("Bo speaks", "Di speaks")  # and no attribute prompts
    assert second.portability == (Question("Cy's alphabet?", ("Thai script",)),)
    assert load_task("counterfact", [file_of(tmp_path, fact())]).items[0].edit.id == "cf-0"


def test_the_reader_keeps_the_files_order_and_takes_the_true_answer_under_paper(tmp_path):
    """Benchmarks read questions so: neither cleaned nor shuffled."""
    bare = {"src": "Who made it?", "rephrase": "Its maker?", "answers": ["Ann", "Anna"], "alt": "Bob"}
    files = [open_data_file(file_of(tmp_path, MEND, bare, bare), "zsre")]
    drafts = read_zsre(files, paper=True).drafts
    asked = [(draft.item.edit.prompt, draft.item.edit.target, draft.item.rephrases) for draft in drafts]
    assert asked == [
        ("Where was Ada born?", "Rome", ("Ada's place of birth?",)),
        *[("Who made it?", "Ann", ("Its maker?",))] * 2,
    ]
    assert [draft.item.edit.target for draft in read_zsre(files, paper=False).drafts] == ["Oslo", "Bob", "Bob"]
