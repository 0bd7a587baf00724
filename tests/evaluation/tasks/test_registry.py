"""Loading a task: the order of edits, what is cut, ids, and what is no task."""

import random

import pytest
from task_rows import CASE, FLAT, FULL, KNOWEDIT, MEND, NQ, case, fact, file_of, ids, rewrite

from meloedit.errors import EditError
from meloedit.evaluation.tasks.registry import TASKS, load_task


def test_the_order_is_the_seeds_and_cases_stay_together(tmp_path):
    path = file_of(tmp_path, *(fact(f"Who is {i}?", f"Name {i}", id=str(i)) for i in range(20)))
    nq = file_of(tmp_path, *({"question": f"q{i}", "answer": ["x"]} for i in range(9)), name="nq.jsonl")
    expected = [str(i) for i in range(20)]
    random.Random(3).shuffle(expected)
    task = load_task("zsre", [path, nq], seed=3)
    assert ids(task) == expected and task == load_task("zsre", [path, nq], seed=3)
    other = load_task("zsre", [path, nq], seed=4)
    assert ids(other) != expected and other.far != task.far and set(other.far) == set(task.far)
    assert load_task("zsre", [nq, path], seed=3).far == task.far
    cases = (case(i, rewrite(), rewrite("{} is from"), rewrite("{} lives in")) for i in range(12))
    task = load_task("mquake", [file_of(tmp_path, *cases)], seed=1)
    groups = [item.group for item in task.items]
    assert groups == [group for group in groups[::3] for _ in range(3)] and groups[::3] != list(range(12))
    assert [item.edit.id[-1] for item in task.items] == list("012") * 12


def test_only_the_first_rephrasings_are_kept(tmp_path):
    path = file_of(tmp_path, fact(rephrases=["who?", "A?", "B?", "C?"]))
    assert load_task("zsre", [path], rephrases=2).items[0].rephrases == ("A?", "B?")
    assert load_task("zsre", [path], rephrases=9).items[0].rephrases == ("A?", "B?", "C?")
    with pytest.raises(EditError, match="rephrases must be at least 1, not 0"):
        load_task("zsre", [path], rephrases=0)


def test_two_edits_with_one_id(tmp_path):
    path = file_of(tmp_path, fact(id="a"), fact("What?", id="b"), fact("When?", id="a"))
    with pytest.raises(EditError, match=r"rows\.jsonl, line 3: the id 'a' is also that of .*rows\.jsonl, line 1; each"):
        load_task("zsre", [path])


def test_what_is_no_task(tmp_path):
    assert tuple(TASKS) == (
        *("zsre", "counterfact", "mquake", "knowedit", "ripple"),
        *("scotus", "hallucination", "helpdesk", "pairs"),
    )
    known = ", ".join(TASKS)
    with pytest.raises(EditError, match=rf"^no task 'zsr' \(known: {known}\)$"):
        load_task("zsr", [])
    nq = file_of(tmp_path, NQ, name="nq.jsonl")
    with pytest.raises(
        EditError, match=r"^task zsre: no edits among the files \(nq\.jsonl\): .* have prompt, target; or"
    ):
        load_task("zsre", [nq])
    with pytest.raises(
        EditError, match=r"no edits among the files \(none\): give one whose rows have case_id, text, is"
    ):
        load_task("scotus", [])
    with pytest.raises(EditError, match="cannot be read"):
        load_task("zsre", [str(tmp_path / "none.jsonl")])
    with pytest.raises(EditError, match="cannot be read"):
        load_task("zsre", [str(tmp_path)])


@pytest.mark.parametrize(
    ("task", "good", "bad", "words"),
    [
        ("zsre", fact(), {"prompt": "Who?"}, r"no target \(fields found: prompt\)"),
        ("zsre", fact(), fact(rephrases="one"), "rephrases must be a list of non-empty strings"),
        ("zsre", fact(), fact(id=1.5), "id must be a non-empty string, not 1.5"),
        ("zsre", fact(), fact(portability=[{"prompt": "Who?"}]), "portability: no answers"),
        ("zsre", fact(), fact(portability=["Who?"]), "portability: expected an object, not str"),
        ("zsre", fact(), fact("\ud800"), "prompt cannot be encoded"),
        ("zsre", MEND, MEND | {"alt": 3}, "alt must be a non-empty string"),
        ("zsre", MEND, MEND | {"answers": []}, "answers is an empty list"),
        ("zsre", MEND, MEND | {"loc": {"a": 1}}, "loc must be a string or a list of strings"),
        ("zsre", KNOWEDIT, KNOWEDIT | {"locality": []}, "locality: expected an object, not list"),
        (
            "zsre",
            KNOWEDIT,
            KNOWEDIT | {"portability": {"Reasoning": [{"ground_truth": "x"}]}},
            r"portability\.Reasoning: no prompt",
        ),
        ("counterfact", FLAT, FLAT | {"rephrase_prompt": [3]}, "rephrase_prompt must be a string or a list"),
        ("counterfact", FULL, FULL | {"requested_rewrite": {}}, "requested_rewrite: no prompt"),
        (
            "counterfact",
            FULL,
            FULL | {"requested_rewrite": FULL["requested_rewrite"] | {"prompt": "Cy speaks"}},
            "requested_rewrite: prompt must hold {} where the subject goes, not 'Cy speaks'",
        ),
        (
            "counterfact",
            FULL,
            FULL | {"requested_rewrite": FULL["requested_rewrite"] | {"target_new": {"id": 1}}},
            "requested_rewrite: target_new: no str",
        ),
        ("mquake", case(1), case(2) | {"requested_rewrite": []}, "requested_rewrite must be a list of rewrites"),
        ("mquake", case(1), case(2, rewrite(), {"subject": "Bo"}), r"requested_rewrite\[1\]: no prompt"),
        ("mquake", case(1), case("2"), "case_id must be a whole number"),
        ("mquake", case(1), case(2, questions=()), "questions is an empty list"),
        ("scotus", CASE, CASE | {"year": "1995"}, "year must be a whole number"),
    ],
)
def test_errors_of_later_rows_name_the_line_and_the_field(tmp_path, task, good, bad, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: {words}") as raised:
        load_task(task, [file_of(tmp_path, good, bad)])
    assert "\n" not in str(raised.value)
