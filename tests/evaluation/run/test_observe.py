"""Observations: likelihoods and divergences against torch and scipy, and which answers are right."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import accuracy_score

from meloedit.evaluation.run.observe import compare_logits, is_right, note_answer
from meloedit.evaluation.run.prompts import EvalPrompt
from meloedit.methods.base import MethodAnswer
from meloedit.results import Route


def test_kl_is_scipys_and_a_models_own_logits_are_identical():
    generator = torch.Generator().manual_seed(0)
    base, edited = (torch.randn(3, 11, generator=generator) for _ in range(2))
    scores = compare_logits(edited, base, [1, 2, 3], unedited=True)
    plain, other = base.double().softmax(-1).numpy(), edited.double().softmax(-1).numpy()
    assert scores["kl"] == pytest.approx(np.mean([entropy(p, q) for p, q in zip(plain, other, strict=True)]))
    assert scores["identical"] is False
    same = compare_logits(base, base, [1, 2, 3], unedited=True)
    assert same["identical"] is True and same["kl"] == 0 and same["agreed"] == 1


def test_likelihood_and_agreement_are_torchs():
    generator = torch.Generator().manual_seed(1)
    logits, target = torch.randn(5, 7, generator=generator), [0, 6, 2, 2, 5]
    scores = compare_logits(logits, torch.zeros_like(logits), target, unedited=False)
    loss = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(target), reduction="sum")
    assert scores["nll"] == pytest.approx(float(loss))
    assert scores["agreed"] == pytest.approx(accuracy_score(target, logits.argmax(-1)))
    assert scores["tokens"] == 5 and "kl" not in scores


def test_an_answer_cut_to_a_line_is_held_to_the_first_line_of_the_unedited_models():
    cutting = SimpleNamespace(finish=lambda text, route: text.split("\n")[0] if route else text)
    fired = Route("a", 0.1, 0.5, "a", "fired")
    for route, right in ((fired, True), (None, False)):
        row = {"base": "Lima\nand more"}
        note_answer(row, EvalPrompt("far", 0, 0, "?"), MethodAnswer("Lima", route), cutting)
        assert row["right"] is right and row["base"] == "Lima\nand more"


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
    assert is_right(said, answers) is right
