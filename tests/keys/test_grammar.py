import re
from collections import Counter

import pytest

from meloedit.keys import grammar
from meloedit.keys.grammar import MAX_PROMPTS, make_prompts


@pytest.fixture(scope="module")
def prompts():
    return make_prompts()


def bare(prompt):
    return re.sub(r"\W+", " ", prompt.lower()).strip()


def test_same_seed_same_prompts(prompts):
    assert make_prompts(4000, 0) == prompts
    assert make_prompts(100) == prompts[:100]
    assert len(set(make_prompts(4000, 1)) & set(prompts)) < 400


@pytest.mark.parametrize("count", [1, 4000, 10_000])
def test_count_is_honoured_and_prompts_differ_in_their_words(count):
    made = make_prompts(count, seed=3)
    assert len(made) == count == len({bare(prompt) for prompt in made})


def test_it_can_make_as_many_as_it_says():
    assert len(make_prompts(MAX_PROMPTS)) == MAX_PROMPTS


@pytest.mark.parametrize("count", [0, -1, MAX_PROMPTS + 1])
def test_an_impossible_count_is_refused(count):
    with pytest.raises(ValueError, match=f"between 1 and {MAX_PROMPTS} prompts, not {count}"):
        make_prompts(count)


def test_lengths(prompts):
    lengths = [len(prompt.split()) for prompt in prompts]
    assert min(lengths) >= 3 and max(lengths) <= 40
    assert sum(6 <= length <= 15 for length in lengths) > 0.6 * len(lengths)


def test_about_half_is_lower_case_without_a_question_mark(prompts):
    assert 0.35 < sum(prompt == prompt.lower() and prompt[-1] not in "?." for prompt in prompts) / len(prompts) < 0.55
    assert 0.2 < sum(prompt[0].isupper() and prompt.endswith("?") for prompt in prompts) / len(prompts) < 0.45


def test_text_is_clean(prompts):
    for prompt in prompts:
        assert not re.search(r"[{}#~|\n]|\s\s|a\(n\)|\?\?|\?\.|!\?|\b[Aa] [aeio]\w|\bthe the\b", prompt), prompt
        assert prompt == prompt.strip()


def all_wordings():
    data = grammar._grammar()
    return {w for r in data["relations"] for w in r["wordings"]} | {w for t in data["templates"].values() for w in t}


def test_no_wording_dominates(monkeypatch):
    fill, used, wordings = grammar._fill, Counter(), all_wordings()

    def spy(template, rng, subject=""):
        used.update([template] if template in wordings else [])
        return fill(template, rng, subject)

    monkeypatch.setattr(grammar, "_fill", spy)
    make_prompts(4000)
    assert max(used.values()) <= 16
    assert len(used) > 1500


def test_every_slot_has_a_list_and_every_list_a_slot():
    data = grammar._grammar()
    lists = data["lists"]
    lines = [line for items in lists.values() for line in items] + sorted(all_wordings())
    slots = {slot for line in lines for slot in re.findall(r"\{([a-z_]+\*?)\}", line)} - {"x"}
    slots |= {r["subject"] for r in data["relations"]}
    assert {slot for slot in slots if slot not in lists and slot + "*" not in lists} == set()
    assert {name for name in lists if name not in slots and name.rstrip("*") not in slots} == set()
