"""The second stage: which candidates the judge reads, which one answers, and what quiet prompts do."""

import math
from types import SimpleNamespace

import pytest
import torch

from meloedit import Edit
from meloedit.judging.wording import names_something, same_words, spoken
from meloedit.keys.keys import Keys
from meloedit.routing.choice import NOBODY, Found, by_judge, by_judge_of_words, is_short
from meloedit.routing.judged_scope import JudgedScope
from meloedit.routing.key_table import OwnedKeys
from meloedit.routing.scope import Scope
from meloedit.routing.verifier import SAME, Candidate, Verifier, Wordings, asked, probability
from meloedit.types import Asked

INF = math.inf


class ByTable:
    """A judge that knows its scores by heart, and counts what it is asked."""

    name = "by heart"

    def __init__(self, scores):
        self.table, self.read = scores, []

    def scores(self, prompts, wordings):
        pairs = [(prompt.text, wording.text) for prompt, wording in zip(prompts, wordings, strict=True)]
        self.read += pairs
        return torch.tensor([self.table.get(pair, -9.0) for pair in pairs])

    def knows(self, word):
        return word in ("casual", "causal")

    def least_score(self, rate):
        return {0.05: 1.0, 0.5: -2.0}[rate]


WORDINGS = {
    1: Wordings((Asked("one"), Asked("single")), (Asked("not one"),)),
    2: Wordings((Asked("two"),)),
    3: Wordings((Asked("three"),)),
}


def found(*records):
    return Found([Candidate(record, 0.1 * record) for record in records], NOBODY, NOBODY, False)


def choose(scores, prompts, records, least=0.0):
    verifier = Verifier(ByTable(scores), WORDINGS.__getitem__)
    return by_judge(verifier, list(map(Asked, prompts)), [found(*row) for row in records], least), verifier.judge


def test_the_best_score_answers_and_every_pair_is_read_once():
    table = {("q", "one"): -3.0, ("q", "single"): 2.0, ("q", "two"): 1.5, ("p", "two"): 4.0}
    choices, judge = choose(table, ["q", "p", "q"], [[1, 2], [2], [1]])
    assert [choice.record for choice in choices] == [1, 2, 1] and choices[0].best.score == 2.0
    assert [one.record for one in choices[0].judged] == [1, 2]
    assert len(judge.read) == len(set(judge.read)) == 5  # q: one, single, not one, two; p: two


def test_no_candidate_that_the_judge_refuses_answers():
    ((choice,), _) = choose({("q", "two"): 0.5}, ["q"], [[2, 3]], least=0.5)
    assert (choice.record, choice.reason, choice.best.record) == (-1, "judged other", 2)
    ((choice,), judge) = choose({}, ["q"], [[]])
    assert (choice.record, choice.reason, judge.read) == (-1, "outside scope", [])


def test_a_quiet_prompt_that_scores_higher_keeps_its_edit_from_answering():
    table = {("q", "one"): 2.0, ("q", "not one"): 3.3, ("q", "two"): 1.0}
    ((choice,), _) = choose(table, ["q"], [[1]])
    assert (choice.record, choice.reason) == (-1, "quiet")
    assert choose(table, ["q"], [[1, 2]])[0][0].record == 2  # others do not heed it
    assert choose(table | {("q", "not one"): 3.2}, ["q"], [[1]])[0][0].record == 1
    assert choose({}, ["not one"], [[1]])[0][0].reason == "quiet"  # its own words, unread


def test_an_edits_own_words_fire_unread_whatever_the_judge_says():
    ((choice,), judge) = choose({}, ["Two "], [[2]])
    assert (choice.record, choice.best.score, judge.read) == (2, SAME, [])


def test_what_the_choice_does_not_need_is_not_read_and_changes_no_choice():
    first, second = "Who wrote Emma?", "Who wrote Persuasion?"
    wordings = {
        1: Wordings((Asked(first), Asked("Emma is by whom?")), (Asked("Who filmed Emma?"),)),
        2: Wordings((Asked(second),)),
        3: Wordings((Asked("Emma is by whom?"),)),
    }
    prompts = ["who wrote emma", "Emma's author?", second, "Emma is by whom?", "Who filmed Emma?", "By whom is it?"]
    table = {("Emma's author?", first): 2.0, ("Emma's author?", second): 1.0, ("Who filmed Emma?", first): 5.0}
    table |= {(first, second): 39.0, ("who wrote emma", "Who filmed Emma?"): 39.0}  # as much as a judge could ever say
    reached = [[2, 1], [1, 2], [1, 2], [1, 2, 3], [1], []]
    pooled = SimpleNamespace(rows=range(6), asked=list(map(Asked, prompts)), count=6)
    asked_of = {}
    for brief in (False, True):
        verifier = Verifier(ByTable(table), wordings.__getitem__)
        chosen = by_judge_of_words(verifier, pooled, [found(*row) for row in reached], 0.0, brief)
        seen = [(one.record, one.reason, one.best.record, one.best.distance, one.best.score) for one in chosen]
        asked_of[brief] = seen, {prompt for prompt, _ in verifier.judge.read}
    assert asked_of[True][0] == asked_of[False][0]
    assert [record for record, *_ in asked_of[True][0]] == [1, 1, 2, 1, -1, -1]
    assert asked_of[False][1] == set(prompts[:5]) and asked_of[True][1] == {"Emma's author?", "Who filmed Emma?"}


def test_of_equal_scores_the_nearer_answers_and_of_those_the_newer():
    table = {("q", "two"): 1.0, ("q", "three"): 1.0}
    assert choose(table, ["q"], [[3, 2]])[0][0].record == 2
    same = Found([Candidate(2, 0.3), Candidate(3, 0.3)], NOBODY, NOBODY, False)
    verifier = Verifier(ByTable(table), WORDINGS.__getitem__)
    assert by_judge(verifier, [Asked("q")], [same], 0.0)[0].record == 3


def test_conversations_are_compared_turn_by_turn():
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    chat += [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Cancel it"}]
    assert asked(chat) == Asked("Cancel it", ("Hi", "Hello!")) and asked("x") == Asked("x")
    assert same_words(Asked("Cancel  it", ("hi", "Hello!")), asked(chat))
    assert same_words(Asked('"CANCEL it?!"', ("hi", "hello")), asked(chat)) and not same_words(Asked("C++"), Asked("C"))
    assert not same_words(Asked("Cancel it"), asked(chat)) and not same_words(
        Asked("Cancel it", ("hi", "no")), asked(chat)
    )
    edit = Edit(chat, "done", variants=["stop it"], quiet=["keep it"])
    assert Wordings.of(edit) == ((asked(chat), Asked("stop it")), (Asked("keep it"),))


def test_log_odds_become_probabilities():
    assert probability(0.0) == 0.5 and probability(math.log(3)) == pytest.approx(0.75)
    assert (probability(-INF), probability(INF), probability(-5000)) == (0, 1, 0)


class Candidates:
    """Stands for a scope: which records lie near which calibration prompts."""

    def __init__(self, pairs):
        self.pairs = pairs

    def candidates(self):
        return dict.fromkeys(self.pairs, 0.5)


def test_the_least_score_keeps_both_stated_rates():
    prompts = [Asked(f"p{i}") for i in range(9)]
    table = {(f"p{i}", "two"): float(i) for i in range(9)} | {("p8", "three"): 20.0}
    verifier = Verifier(ByTable(table), WORDINGS.__getitem__)
    scope = JudgedScope(verifier, prompts, 0.2, 0.05)
    assert scope.least == scope.of_neighbours == 1.0
    scope.follow(Candidates([(i, 2) for i in range(6)]))  # the others have no candidate
    assert scope.of_prompts == 4.0 == scope.least  # the eighth of nine: -inf three times, then 0 to 5
    read = len(verifier.judge.read)
    scope.follow(Candidates([(i, 2) for i in range(6)] + [(8, 2), (8, 3)]))
    assert verifier.judge.read[read:] == [("p8", "two"), ("p8", "three")]  # the new pairs alone
    assert scope.of_prompts == 5.0  # -inf twice, 0 to 5, 20
    scope.follow(Candidates([]))
    assert scope.least == 1.0
    assert JudgedScope(verifier, prompts[:1], 0.2, 0.05).of_prompts == INF  # too few for the rate


def test_scores_are_taken_up_from_the_store():
    verifier = Verifier(ByTable({("p0", "two"): 7.0}), WORDINGS.__getitem__)
    scope = JudgedScope(verifier, [Asked("p0")] * 9, 0.2, 0.05)
    scope.follow(Candidates([(0, 2)]))
    again = JudgedScope(verifier, [Asked("p0")] * 9, 0.2, 0.05)
    tensors = scope.to_tensors()
    again.restore(tensors["judged"], tensors["scores"])
    read = len(verifier.judge.read)
    again.follow(Candidates([(0, 2)]))
    assert len(verifier.judge.read) == read and again.of_prompts == scope.of_prompts


def test_a_prompt_in_an_edits_own_words_does_not_count_against_it():
    scope = JudgedScope(Verifier(ByTable({}), WORDINGS.__getitem__), [Asked("two")] + [Asked("p")] * 8, 0.2, 0.05)
    scope.follow(Candidates([(0, 2)]))
    assert scope.of_prompts == -INF


def test_the_candidates_of_a_prompt_are_its_nearest_keys_in_reach():
    keys = Keys.of_content(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]))
    scope = Scope(keys, 0.6, 0.7, torch.tensor([0, 0, 1]))
    scope.add(OwnedKeys(keys[[1]], torch.tensor([5]), torch.zeros(1, dtype=torch.bool)))
    assert scope.similarity == 0.7  # of the best, 1 and 0.6, the first that a rate of 0.6 lets pass is less
    assert scope.candidates() == {(0, 5): pytest.approx(0.0, abs=1e-3)}


def test_a_short_prompt_may_lie_further_from_an_edit_that_is_read_beside_it():
    keys = Keys.of_content(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], *[[0.0, 1.0]] * 5]))
    scope = Scope(keys, 0.6, 0.9, short=torch.tensor([False, True, False, *[True] * 5]))
    scope.add(OwnedKeys(keys[[0]], torch.tensor([5]), torch.zeros(1, dtype=torch.bool)))
    assert scope.calibrated == 0 and scope.similarity == 0.9 and scope.short_similarity == pytest.approx(0.54)
    assert scope.candidates().keys() == {(0, 5), (1, 5)}  # 0.6 is more than six tenths of 0.9
    plain = Scope(keys, 0.6, 0.9)
    plain.add(OwnedKeys(keys[[0]], torch.tensor([5]), torch.zeros(1, dtype=torch.bool)))
    assert plain.candidates().keys() == {(0, 5)}


@pytest.mark.parametrize(
    ("text", "before", "keys", "short"),
    [
        ("How do I block my card?", (), 1, True),
        ("How do I block my card?", ("My card is gone.",), 1, False),
        ("My card is gone. How do I block it?", (), 3, False),
        ("How do I block my card " + "again " * 20, (), 1, False),
        ("Wie sperre ich die Karte, die mir gestohlen wurde?", (), 1, False),
    ],
)
def test_a_short_prompt_is_one_sentence_without_turns_before_it(text, before, keys, short):
    assert is_short(Asked(text, before), keys) is short


def test_of_many_wordings_the_likest_are_read_and_its_own_words_always_fire():
    many = tuple(Asked(f"wording number {i}") for i in range(30))
    verifier = Verifier(ByTable({}), {1: Wordings(many)}.__getitem__)
    for i in (0, 29):
        (choice,) = by_judge(verifier, [Asked(f"Wording number {i}")], [found(1)], 0.0)
        assert choice.record == 1
    by_judge(verifier, [Asked("nothing like it")], [found(1)], 0.0)
    assert len(verifier.judge.read) == 5 + 5 + 6  # the one in its own words is not read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Could you tell me: where is Ohm? Thanks!", "where is ohm"),
        ("Hi there, WHERE is 'Ohm' please ?!", "where is ohm"),
        ("Tell me where Ohm is", "where ohm is"),
        ("C++ or C#", "c++ or c#"),
        ("Thanks!", "thanks"),
        ("hi", "hi"),
        ("", ""),
        ("¿Dónde está?", "dónde está"),
    ],
)
def test_words_as_they_are_spoken(text, words):
    assert " ".join(spoken(text)) == words


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("And what about the Aster 12?", True),
        ("is it 5 euros", True),
        ("Nice. And its warranty?", False),
        ("how long is it?", False),
        ("", False),
    ],
)
def test_whether_a_turn_names_something(text, named):
    assert names_something(text) is named


class ByTurns(ByTable):
    """A judge that scores a prompt behind turns by another table than one alone."""

    def scores(self, prompts, wordings):
        return torch.tensor([-9.0 if prompt.before else 4.0 for prompt in prompts])


def test_a_last_turn_that_names_something_is_read_alone_too():
    verifier = Verifier(ByTurns({}), WORDINGS.__getitem__)
    found = [[Candidate(2, 0.1)], [Candidate(2, 0.1)]]
    prompts = [Asked("And what is the Aster?", ("Hi", "Hello!")), Asked("And what is it?", ("Hi", "Hello!"))]
    (named,), (pronoun,) = verifier.score(prompts, found)
    assert named.score == 4.0 and pronoun.score < -9.0


def test_wordings_in_other_languages_take_a_point():
    german = {1: Wordings((Asked("Wer leitet die Firma?"),)), 2: Wordings((Asked("Who leads the firm?"),))}
    verifier = Verifier(ByTurns({}), german.__getitem__)
    ((first, second),) = verifier.score([Asked("q")], [[Candidate(1, 0.1), Candidate(2, 0.1)]])
    assert (first.record, first.score, second.record, second.score) == (2, 4.0, 1, 3.0)
