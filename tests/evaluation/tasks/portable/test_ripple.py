"""RippleEdits: how a sentence becomes an edit, what each criterion becomes, and rows that are unusable."""

import json

import pytest
from portable_rows import CITIZEN, POPULAR, fact, query, ripple, test
from task_rows import file_of

from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import load_task, task_of
from meloedit.evaluation.tasks.task import Question


def only(tmp_path, row):
    (item,) = load_task("ripple", [file_of(tmp_path, row)]).items
    return item


def cut(tmp_path, row):
    item = only(tmp_path, row)
    return item.edit.prompt, item.edit.target


def test_every_criterion_finds_its_place(tmp_path):
    item = only(tmp_path, POPULAR)
    assert (item.edit.prompt, item.edit.target, item.subject) == (CITIZEN.strip(), "Syria", "Leo Vint")
    mother, other = (
        "The name of the mother of Leo Vint is",
        "The name of the country of Leo Vint, which is not Syria, is",
    )
    assert item.near == (mother, other)
    assert (item.kind_of(mother), item.kind_of(other)) == ("relation specificity", "forgetfulness")
    assert item.portability == (
        Question("The currency of Leo Vint's country is", ("pound", "lira"), kind="logical generalization"),
        Question("The capital of the country of Leo Vint is", ("Damascus", "Sham"), kind="compositionality i"),
        Question("The country of the spouse of Ann is", ("Syria",), kind="compositionality ii"),
        Question(CITIZEN.strip().replace("Vint", "V."), ("Syria", "SYR"), kind="subject aliasing"),
    )


def test_the_readmes_spelling_is_read_too(tmp_path):
    row = {name: value for name, value in POPULAR.items() if name != "Relation_Specificity"}
    item = only(tmp_path, row | {"Relation_Specifity": POPULAR["Relation_Specificity"]})
    assert item.kind_of(item.near[0]) == "relation specificity"


@pytest.mark.parametrize(
    ("new", "old", "prompt", "target"),
    [
        (CITIZEN + "United Kingdom.", CITIZEN + "United States of America.", CITIZEN.strip(), "United Kingdom"),
        (CITIZEN + "Chile.", CITIZEN + "China.", CITIZEN.strip(), "Chile"),  # they share letters
        ("The author of This is Us is Cy.", "The author of This is Us is Bo.", "The author of This is Us is", "Cy"),
        ("The names of the siblings of Al are Bo Jr..", "The names of the siblings of Al are Cy.",
         "The names of the siblings of Al are", "Bo Jr."),
        ("Cup V follows Cup II.", "Cup V follows Cup IV.", "Cup V follows", "Cup II"),
        ("Cup V is followed by Cup IX.", "Cup V is followed by Cup VI.", "Cup V is followed by", "Cup IX"),
        (CITIZEN + "Peru.", CITIZEN + ".", CITIZEN.strip(), "Peru"),  # nothing was known before
    ],
)  # fmt: skip
def test_without_a_label_the_original_sentence_shows_where_the_target_begins(tmp_path, new, old, prompt, target):
    row = ripple(fact(new, original_fact=fact(old, target="Q3")), Relation_Specificity=[])
    assert cut(tmp_path, row) == (prompt, target)


def test_a_label_decides_where_closing_words_stand_in_the_target(tmp_path):
    aliasing = [test(query("The director of Noir is", ["Life is Good"], targets=["Q2"]))]
    row = ripple(fact("The film of Ada is Life is Good."), "recent", Subject_Aliasing=aliasing)
    assert cut(tmp_path, row) == ("The film of Ada is", "Life is Good")


def test_a_recent_fact_has_no_original_one(tmp_path):
    item = only(tmp_path, ripple(fact("The place of death of Ada is Bern."), "recent"))
    assert (item.edit.prompt, item.edit.target) == ("The place of death of Ada is", "Bern")
    assert item.subject is None and item.edit.subject == ""


def test_what_shows_no_target_is_counted_and_an_edit_that_changes_nothing_goes(tmp_path):
    same = ripple(fact("The gender of Al is male.", original_fact=fact("The gender of Al is male.")))
    path = file_of(tmp_path, POPULAR, ripple(fact("Ada knows Bern.")), same)
    task = load_task("ripple", [path])
    assert len(task.items) == 1
    assert (task.cleaning["rows"], task.cleaning["uncut"], task.cleaning["no_op"]) == (3, 1, 1)
    assert ("uncut", 1) in task.left_out()
    with pytest.raises(EditError, match="1 edit .*left out: 1 uncut, 1 no op.*fewer than the 2 asked for"):
        task.take(2)


def test_the_files_are_lists(tmp_path):
    (tmp_path / "popular.json").write_text(json.dumps([POPULAR], indent=2))
    assert len(load_task("ripple", [str(tmp_path / "popular.json")]).items) == 1
    assert task_of(str(tmp_path / "popular.json")) == "ripple"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (POPULAR | {"edit": "x"}, "edit: expected an object, not str"),
        (POPULAR | {"edit": fact("")}, "edit: prompt must be a non-empty string"),
        (POPULAR | {"edit": {"prompt": "A is B."}}, "edit: no target_id"),
        (POPULAR | {"Forgetfulness": {"a": 1}}, "Forgetfulness must be a list of objects"),
        (POPULAR | {"Forgetfulness": [{}]}, r"Forgetfulness\[0\]: no test_queries"),
        (POPULAR | {"Forgetfulness": [test({"answers": []})]}, r"Forgetfulness\[0\]: test_queries\[0\]: no prompt"),
        (POPULAR | {"Forgetfulness": [test(query("x") | {"answers": ["y"]})]}, r"answers\[0\]: expected an object"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_row(tmp_path, row, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: .*{words}") as raised:
        load_task("ripple", [file_of(tmp_path, POPULAR, row)])
    assert "\n" not in str(raised.value)
