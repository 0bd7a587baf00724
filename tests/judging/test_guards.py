"""Guards speak where one side has the opposite, another number, or the other direction; not where both have both."""

import pytest

from meloedit.judging.guards import guard_of


@pytest.mark.parametrize(
    ("prompt", "wording", "guard"),
    [
        ("How do I disable roaming?", "How do I enable roaming?", "opposite"),
        ("how do i turn the alarm off", "How do I turn on the alarm?", "opposite"),
        ("Do I enable or disable roaming?", "How do I enable roaming?", None),
        ("Wie kann ich mich abmelden?", "Wie kann ich mich anmelden?", "opposite"),
        ("\u6700\u665a\u51e0\u70b9", "\u6700\u65e9\u51e0\u70b9", "opposite"),
        ("What is new in version 3?", "What is new in version 2?", "number"),
        ("What is new in version 2.0?", "What is new in version 2?", None),
        ("the 1505 train", "Where does the 15:05 train go?", None),
        ("Is 2 more than 3?", "Is it 2?", None),
        ("What is new?", "What is new in version 2?", None),
        ("How do I migrate from Postgres to MySQL?", "How do I migrate from MySQL to Postgres?", "direction"),
        ("Moving from MySQL to Postgres", "How do I migrate from MySQL to Postgres?", None),
        ("", "", None),
    ],
)
def test_a_guard_looks_at_both_sides(prompt, wording, guard):
    assert guard_of(prompt, wording) == guard
