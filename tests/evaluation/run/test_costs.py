"""The cost of edits: speed and its interval, and the time of answers."""

from types import SimpleNamespace

from meloedit.evaluation.run import costs
from meloedit.evaluation.run.costs import answer_time, editing_speed


def test_one_part_of_edits_has_a_speed_and_no_interval():
    one, two = ({"edits": 4, "seconds": seconds} for seconds in (60.0, 30.0))
    assert editing_speed([one]).to_dict() == {"value": 4.0, "ci": None, "n": 4}
    assert editing_speed([one, two]).to_dict()["ci"] == [4.0, 8.0]


def test_answers_of_one_length_are_timed_in_turns_and_the_first_ones_do_not_count(monkeypatch):
    clock, asked, told = [0.0], [], []

    class Model:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def answer(self, prompts, tokens, min_new_tokens):
            asked.append((self.name, *prompts, tokens, min_new_tokens))
            clock[0] += self.seconds[min(len(told), len(self.seconds) - 1)]

    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(costs, "TIMED_TOKENS", 16)
    edited, base = Model("edited", [99.0, 2.0, 3.0, 7.0]), Model("base", [1.0])
    found = answer_time(edited, base, ["a", "b", "c"], lambda *progress: told.append(progress))
    assert (found.value, found.low, found.high, found.n) == (3.0, 2.0, 7.0, 3)
    turns = [("base", "a"), ("edited", "a"), ("edited", "a"), ("base", "a"), ("base", "b"), ("edited", "b")]
    assert asked == [(*turn, 16, 16) for turn in [*turns, ("edited", "c"), ("base", "c")]]
