"""Metrics of what follows from an edit, worked by hand."""

import pytest
from test_scores import ids, row

from meloedit.evaluation.metrics.portability import contains
from meloedit.evaluation.metrics.scores import figures


def follows(item, right, contained=None, before=None, contained_before=None, kind=None, **more):
    return row("portability", item, right=right, kind=kind, **more) | {
        "contained": right if contained is None else contained,
        "before": before,
        "contained_before": contained_before,
    }


def test_portability_by_question_by_edit_and_by_kind():
    rows = [
        follows(0, True, kind="2 hops", before=False, contained_before=True),
        follows(0, False, contained=True, kind="2 hops", before=True, contained_before=True),
        follows(0, False, kind="2 hops", before=False, contained_before=False),
        follows(1, False, kind="3 hops"),
    ]
    found = figures(rows, "question", "retention", routes=False, ids=ids)
    values = {name: (figure.value, figure.n) for name, figure in found.items()}
    assert values["portability"] == (0.25, 4) and values["portability_any"] == (0.5, 2)
    assert values["portability_contained"] == (0.5, 4)
    assert values["portability_before"] == (pytest.approx(1 / 3), 3)
    assert values["portability_contained_before"] == (pytest.approx(2 / 3), 3)
    assert values["portability@2_hops"] == (pytest.approx(1 / 3), 3) and values["portability@3_hops"] == (0.0, 1)
    assert values["portability_contained@2_hops"] == (pytest.approx(2 / 3), 3)
    assert "portability_before@3_hops" not in values  # that file does not say it
    low, high = found["portability"].low, found["portability"].high
    assert low == 0.0 and high == pytest.approx(1 / 3)  # the interval draws edits: both, twice one, twice the other


def test_teacher_forced_has_a_share_of_tokens_and_no_answers():
    rows = [row("portability", 0, agreed=0.5), row("portability", 1, agreed=1.0)]
    found = figures(rows, "question", "teacher-forced", routes=False, ids=ids)
    assert found["portability"].value == 0.75
    assert [name for name in found if name.startswith("portability_")] == []


def test_rows_of_earlier_versions_are_read():
    found = figures([row("portability", 0, right=True)], "question", "retention", routes=False, ids=ids)
    assert found["portability"].value == found["portability_any"].value == 1
    assert "portability_contained" not in found


@pytest.mark.parametrize(
    ("text", "answers", "wanted"),
    [
        ("It is in Peru, I think.", ("Peru",), True),
        ("it is in PERU", ("Peru",), True),
        ("A Peruvian town", ("Peru",), False),  # whole words
        ("They told us so", ("United States of America", "US"), False),
        ("In the US it is", ("United States of America", "US"), True),
        ("That is my house", ("Malaysia", "my"), False),  # a code among the aliases
        ("No: no, never", ("no",), True),  # the answer itself may be short
        ("a (b) c", ("(b)",), True),
        ("", ("Peru",), False),
        ("anything", ("",), False),
    ],
)
def test_what_contains_an_answer(text, answers, wanted):
    assert contains(text, answers) is wanted
