"""MQuAKE's cases: groups of edits, and the questions that follow from all of a group."""

from task_rows import by_id, case, counts, file_of, ids, rewrite

from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.task import Question


def test_mquake_asks_what_follows_of_the_first_edit_of_a_case(tmp_path):
    two = case(5, rewrite(), rewrite("{} is led by", "Norway", "Jonas", "Erna", "Who leads Norway?"))
    task = load_task("mquake", [file_of(tmp_path, two, case(6))])  # case 6 has an edit of case 5: they are apart
    assert sorted(ids(task)) == ["mq-5-0", "mq-5-1", "mq-6-0"] and task.cleaning["rows"] == 3
    items = by_id(task)
    assert (items["mq-5-0"].edit.prompt, items["mq-5-0"].edit.target) == ("Ada is a citizen of", "Norway")
    assert items["mq-5-1"].rephrases == ("Who leads Norway?",)
    assert [items[name].group for name in ("mq-5-0", "mq-5-1", "mq-6-0")] == [5, 5, 6]
    questions = ("Who rules there?", "Its head?", "Who?")
    assert items["mq-5-0"].portability == tuple(Question(question, ("Jonas", "J.")) for question in questions)
    assert items["mq-5-1"].portability == () and len(items["mq-6-0"].portability) == 3


def test_mquake_contradictions_are_those_of_one_case(tmp_path):
    rows = (case(1, rewrite(), rewrite(new="Peru")), case(2, rewrite(new="Peru")), case(3, rewrite(new="italy")))
    task = load_task("mquake", [file_of(tmp_path, *rows, case(4, rewrite(new="Italy"), rewrite("{} is from")))])
    assert sorted(ids(task)) == ["mq-1-0", "mq-2-0", "mq-4-1"]
    assert counts(task) == {"contradictory": 1, "no_op": 2}
    assert len(by_id(task)["mq-4-1"].portability) == 3  # the first that is left


def test_a_multi_hop_question_has_its_hops_and_the_answers_of_before(tmp_path):
    hops = [{"question": "Which country?", "answer": "Norway"}, {"question": "Who leads it?", "answer": "Jonas"}]
    temporal = {
        "answer": "Erna",
        "answer_alias": ["E."],
        "answer_extended": ["Erna S.", "erna"],
        "new_single_hops": hops,
    }
    task = load_task("mquake", [file_of(tmp_path, case(1) | temporal, case(2))])
    first, second = by_id(task)["mq-1-0"].portability[0], by_id(task)["mq-2-0"].portability[0]
    assert (first.kind, first.before) == ("2 hops", ("Erna", "E.", "Erna S."))
    assert (second.kind, second.before) == (None, ())


def test_a_case_that_the_number_of_edits_cuts_is_asked_nothing_that_follows(tmp_path):
    rewrites = [rewrite(), rewrite("{} is led by", "Norway", "Jonas", "Erna", "Who leads Norway?")]
    task = load_task("mquake", [file_of(tmp_path, case(1, *rewrites), case(2, *rewrites))])
    asked = [sum(len(item.portability) for item in task.take(count)) for count in (1, 2, 3, 4)]
    assert asked == [0, 3, 3, 6]
    assert sum(len(item.portability) for item in task.take(None)) == 6
