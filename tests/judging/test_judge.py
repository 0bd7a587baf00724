"""The judge: scores that depend on the two texts alone, thresholds from near pairs, and what ships."""

import pytest
import torch

from meloedit.errors import EditError
from meloedit.judging.judge import BUILT_IN, Judge
from meloedit.types import Asked

SAME = [
    ("How long is the warranty on the Aster 12?", "aster 12 warranty length"),
    ("Who is the mayor of Velmora?", "Velmora's mayor is"),
    ("How do I reset my password?", "I forgot my password and need a new one. What do I do?"),
]
OTHER = [
    ("How long is the warranty on the Aster 12?", "How long is the return period of the Aster 12?"),
    ("How long is the warranty on the Aster 12?", "How long is the warranty on the Aster 14?"),
    ("Who is the mayor of Velmora?", "Who was the first mayor of Velmora?"),
]


@pytest.fixture(scope="module")
def tiny(tiny_file):
    return Judge.open(tiny_file)


@pytest.fixture(scope="module")
def judge():
    return Judge.open()


def scores(judge, pairs):
    first, second = zip(*pairs, strict=True)
    return judge.scores(list(map(Asked, first)), list(map(Asked, second)))


def test_a_score_depends_on_its_pair_alone(tiny):
    pairs = [*SAME, *OTHER, ("a", "b"), ("word " * 300, "c")] * 9  # more than one batch
    together = scores(tiny, pairs)
    alone = torch.cat([scores(tiny, [pair]) for pair in pairs[:10]])
    assert together[:10] == pytest.approx(alone, abs=1e-5) and len(together) == len(pairs)
    assert scores(tiny, [("a", "b")]) != scores(tiny, [("b", "a")])
    assert tiny.scores([], []).tolist() == []


def test_scores_are_what_the_model_gives(tiny, tiny_model):
    tokens = tiny._pairs.encode([Asked("What is it?")], [Asked("It is what?")])
    ids, types, mask = tiny._pairs.pad(tokens)
    with torch.no_grad():
        expected = tiny_model[0](input_ids=ids, token_type_ids=types, attention_mask=mask).logits[0, 0]
    assert scores(tiny, [("What is it?", "It is what?")])[0] == pytest.approx(float(expected), abs=2e-3)  # int8


def test_a_callers_autocast_does_not_change_scores(tiny):
    plain = scores(tiny, SAME)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scores(tiny, SAME), plain)


def test_the_least_score_lets_a_stated_share_of_near_pairs_through(tiny):
    # of the scores -1, 0.5, 2, 3: place ceil(5 (1 - rate))
    assert tiny.least_score(0.5) == 2.0 and tiny.least_score(0.2) == 3.0 and tiny.least_score(0.9) == -1.0
    with pytest.raises(EditError, match=r"4 near pairs cannot calibrate a false_neighbour of 0.1: give at least 0.2"):
        tiny.least_score(0.1)


def test_the_judge_that_ships_is_small_and_knows_what_it_is(judge):
    assert BUILT_IN.stat().st_size < 25e6
    assert judge.card["near_pairs"] >= 1000 and judge.card["training"]
    assert judge.least_score(0.02) > judge.least_score(0.05) > judge.least_score(0.2)


def test_the_judge_that_ships_tells_like_questions_apart(judge):
    least = judge.least_score(0.1)
    assert (scores(judge, SAME) > least).all()
    assert (scores(judge, OTHER) < least).all()
