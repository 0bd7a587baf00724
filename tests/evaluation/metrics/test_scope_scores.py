"""Metrics of which prompts reach an edit, by kind and language, worked by hand."""

import pytest
from test_scores import ids, row

from meloedit.evaluation.metrics.scope_scores import languages
from meloedit.evaluation.metrics.scores import figures


def test_reaches_and_fires_by_kind_and_language():
    rows = [
        row("rephrases", 0, kind="close", lang="en", routed="right", right=True),
        row("rephrases", 0, kind="close", lang="en", routed="wrong", right=False),  # another edit: not reached
        row("rephrases", 1, kind="close", lang="de", routed="none", right=False),
        row("rephrases", 2, kind="terse", lang="fr", routed="right", right=True),
        row("chats", 0, kind="pronoun", lang="en", routed="right", right=False),
        row("near", 0, kind="same subject hard", lang="en", routed="right", right=False),  # fires: its own or another
        row("near", 0, kind="same subject hard", lang="en", routed="none", right=True),
        row("near", 1, kind="same subject easy", lang="de", routed="wrong", right=False),
        row("near", 1, kind="same relation", lang="de", routed="none", right=True),
        row("far", 0, kind="unrelated", routed="wrong", right=True),
        row("edits", 0, lang="en", routed="right", right=True),
        row("edits", 1, lang="de", routed="right", right=False),
    ]
    found = figures(rows, "question", "retention", routes=True, ids=ids)
    values = {name: (round(figure.value, 4), figure.n) for name, figure in found.items()}
    assert values["reaches_close"] == (0.3333, 3) and values["reaches_close@en"] == (0.5, 2)
    assert values["reaches_close@other"] == values["reaches_close@de"] == (0.0, 1)
    assert values["reaches_terse@fr"] == (1.0, 1) and "reaches_terse@en" not in values
    assert values["reaches_pronoun"] == values["reaches_pronoun@en"] == (1.0, 1)
    assert values["fires_same_subject_hard"] == (0.5, 2) and values["fires_same_subject_easy"] == (1.0, 1)
    assert values["fires_same_subject"] == (0.6667, 3) and values["fires_same_subject@de"] == (1.0, 1)
    assert values["fires_same_relation"] == (0.0, 1) and values["activation_far"] == (1.0, 1)
    assert values["generality"] == (0.5, 4) and values["generality@close"] == (0.3333, 3)
    assert values["generality@pronoun"] == (0.0, 1)  # apart: chats are no part of generality
    assert values["generality@en"] == (0.5, 2) and values["generality@other"] == (0.5, 2)
    assert values["locality_near@same_subject"] == (0.3333, 3) and values["locality_near@same_relation"] == (1.0, 1)
    assert values["edit_success@en"] == (1.0, 1) and values["edit_success@de"] == (0.0, 1)


def test_intervals_draw_whole_edits():
    rows = [row("near", i // 4, kind="same relation", routed="right" if i < 8 else "none") for i in range(16)]
    found = figures(rows, "question", "retention", routes=True, ids=ids)["fires_same_relation"]
    assert found.value == 0.5 and found.low < 0.1 and found.high > 0.9  # four edits, not sixteen prompts


def test_a_method_that_does_not_route_has_answers_alone():
    rows = [row("rephrases", 0, kind="close", right=True), row("near", 0, kind="same relation", right=True)]
    found = figures(rows, "question", "retention", routes=False, ids=ids)
    assert not any(name.startswith(("reaches", "fires")) for name in found) and "generality@close" in found
    plain = figures([row("rephrases", 0, right=True, routed="right")], "question", "retention", routes=True, ids=ids)
    assert not any("@" in name or name.startswith("reaches") for name in plain)  # other tasks have no kinds


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ([], [""]),
        ([None], [""]),
        (["en", None], ["", "@en"]),
        (["zh", "de"], ["", "@other", "@de", "@zh"]),
        (["de", "en", "de"], ["", "@en", "@other", "@de"]),
    ],
)
def test_parts_of_languages(given, parts):
    found = languages(given)
    assert list(found) == parts and found[""](None)
    if "@other" in found:
        assert not found["@other"]("en") and not found["@other"](None) and found["@other"]("de")
