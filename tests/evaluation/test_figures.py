"""The metrics of `meloedit eval` against scikit-learn, scipy and figures worked by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import accuracy_score

from meloedit.evaluation.metrics.estimates import pooled
from meloedit.evaluation.metrics.scores import by_edit, figures
from meloedit.evaluation.run.costs import editing_speed
from meloedit.evaluation.run.observe import _answer, answered, compared
from meloedit.evaluation.run.prompts import Ask
from meloedit.methods.base import MethodAnswer
from meloedit.results import Route

BLANK = {"k": 0, "prompt": "?", "wanted": "a", "answer": None, "base": None, "right": None, "route": None}
BLANK |= {"routed": None, "distance": None, "threshold": None, "kl": None, "identical": None, "agreed": None}
BLANK |= {"nll": None, "tokens": None, "kind": None}


def row(set_, item, **given):
    return BLANK | {"set": set_, "item": item} | given


def ids(text):
    return [ord(letter) for letter in text]


def test_kl_is_scipys_and_a_models_own_logits_are_identical():
    generator = torch.Generator().manual_seed(0)
    base, edited = (torch.randn(3, 11, generator=generator) for _ in range(2))
    told = compared(edited, base, [1, 2, 3], kept=True)
    plain, other = base.double().softmax(-1).numpy(), edited.double().softmax(-1).numpy()
    assert told["kl"] == pytest.approx(np.mean([entropy(p, q) for p, q in zip(plain, other, strict=True)]))
    assert told["identical"] is False
    same = compared(base, base, [1, 2, 3], kept=True)
    assert same["identical"] is True and same["kl"] == 0 and same["agreed"] == 1


def test_likelihood_and_agreement_are_torchs():
    generator = torch.Generator().manual_seed(1)
    logits, target = torch.randn(5, 7, generator=generator), [0, 6, 2, 2, 5]
    told = compared(logits, torch.zeros_like(logits), target, kept=False)
    loss = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(target), reduction="sum")
    assert told["nll"] == pytest.approx(float(loss))
    assert told["agreed"] == pytest.approx(accuracy_score(target, logits.argmax(-1)))
    assert told["tokens"] == 5 and "kl" not in told


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


def test_one_part_of_edits_has_a_speed_and_no_interval():
    one, two = ({"edits": 4, "seconds": seconds} for seconds in (60.0, 30.0))
    assert editing_speed([one]).to_dict() == {"value": 4.0, "ci": None, "n": 4}
    assert editing_speed([one, two]).to_dict()["ci"] == [4.0, 8.0]


def test_an_answer_cut_to_a_line_is_held_to_the_first_line_of_the_unedited_models():
    cutting = SimpleNamespace(finish=lambda text, route: text.split("\n")[0] if route else text)
    fired = Route("a", 0.1, 0.5, "a", "fired")
    for route, right in ((fired, True), (None, False)):
        made = {"base": "Lima\nand more"}
        _answer(made, Ask("far", 0, 0, "?"), MethodAnswer("Lima", route), cutting)
        assert made["right"] is right and made["base"] == "Lima\nand more"


@pytest.mark.parametrize(
    ("said", "answers", "right"),
    [
        ("Lima ", ("Lima",), True),
        ("lima", ("Lima",), False),
        ("Lima.", ("Lima",), False),
        ("PERU", ("Peru", "PE"), True),
    ],
)
def test_an_answer_is_the_target_word_for_word(said, answers, right):
    assert answered(said, answers) is right
