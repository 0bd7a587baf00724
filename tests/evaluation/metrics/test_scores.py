"""The metrics of `meloedit eval` against scikit-learn and figures worked by hand."""

import math

import pytest
from sklearn.metrics import accuracy_score

from meloedit.evaluation.metrics.estimates import pooled
from meloedit.evaluation.metrics.scores import by_edit, figures

BLANK = {"k": 0, "prompt": "?", "wanted": "a", "answer": None, "base": None, "right": None, "route": None}
BLANK |= {"routed": None, "distance": None, "threshold": None, "kl": None, "identical": None, "agreed": None}
BLANK |= {"nll": None, "tokens": None, "kind": None}


def row(set_, item, **given):
    return BLANK | {"set": set_, "item": item} | given


def ids(text):
    return [ord(letter) for letter in text]


def test_accuracies_are_scikit_learns():
    said, gold = list("abcabcab"), list("abccbaab")
    pairs = enumerate(zip(said, gold, strict=True))
    rows = [row("upstream", i, wanted=g, answer=s, base=g, right=s == g) for i, (s, g) in pairs]
    found = figures(rows, "document", "retention", routes=False, ids=ids)
    assert found["accuracy_upstream"].value == pytest.approx(accuracy_score(gold, said))
    assert found["locality_far"].value == pytest.approx(accuracy_score(gold, said))
    assert found["accuracy_upstream"].n == 8


def test_perplexity_is_over_all_tokens_of_a_set():
    rows = [row("edits", 0, nll=2.0, tokens=2, right=True), row("edits", 1, nll=7.0, tokens=4, right=False)]
    found = figures(rows, "passage", "retention", routes=False, ids=ids)
    assert found["ppl_edits"].value == pytest.approx(math.exp(9 / 6))
    assert found["edit_success"].value == 0.5


def test_generality_is_over_all_rephrasings_and_its_interval_draws_edits():
    rows = [row("rephrases", 0, k=k, right=True) for k in range(8)] + [row("rephrases", 1, right=False)]
    found = by_edit(rows, lambda r: r["right"])
    assert found.value == pytest.approx(8 / 9) and found.n == 9
    assert (found.low, found.high) == (0.0, 1.0)  # either edit may be drawn twice
    assert found.value == pooled([8, 0], [8, 1]).value


def test_shares_have_wilsons_interval_and_divergences_a_bootstrap():
    rows = [row("far", i, right=True, identical=True, kl=0.0, answer="a", base="a") for i in range(10)]
    found = figures(rows, "question", "retention", routes=False, ids=ids)
    assert found["locality_far"].low == pytest.approx(0.7225, abs=1e-4)
    assert (found["kl_far"].low, found["kl_far"].high) == (0, 0)


def test_routing_counts_right_wrong_and_none():
    rows = [
        row("rephrases", i, routed=where, right=False) for i, where in enumerate(("right", "wrong", "none", "right"))
    ]
    rows += [row("near", i, routed=where, right=True) for i, where in enumerate(("none", "wrong"))]
    found = figures(rows, "question", "retention", routes=True, ids=ids)
    assert found["right_block_rephrases"].value == 0.5 and found["wrong_block_rephrases"].value == 0.25
    assert found["activation_near"].value == 0.5 and "activation_far" not in found


def test_f1_of_the_paper_protocol_by_hand():
    rows = [row("edits", 0, wanted="aab", answer="abc"), row("far", 0, wanted="xy", base="xy", answer="xz")]
    found = figures(rows, "question", "paper", routes=False, ids=ids)
    assert found["f1_edits"].value == pytest.approx(2 * 2 / 6)  # a and b are common
    assert found["f1_locality"].value == pytest.approx(0.5)
    assert "edit_success" not in found and "locality_near" not in found


def test_teacher_forcing_is_the_share_of_target_tokens():
    rows = [row("edits", 0, agreed=0.5), row("edits", 1, agreed=1.0)]
    found = figures(rows, "question", "teacher-forced", routes=False, ids=ids)
    assert found["edit_success"].value == 0.75


def test_forms_of_one_question_are_drawn_together():
    rows = [row("far", i, k=k, right=True, identical=True, kl=0.0) for i in range(10) for k in range(2)]
    same = figures(rows, "question", "retention", routes=False, ids=ids)["locality_far"]
    assert same.n == 20 and same.low == pytest.approx(0.7225, abs=1e-4)  # Wilson's of 10 questions, not of 20 rows
    rows[0] |= {"right": False}
    rows[1] |= {"right": False}
    found = figures(rows, "question", "retention", routes=False, ids=ids)["locality_far"]
    assert found.value == 0.9 and found.low == pytest.approx(0.7)  # of ten draws the one is three, nearly at most
