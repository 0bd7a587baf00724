"""What the judge reads of a pair: tokens, turns, and long texts cut in their middle."""

import pytest

from meloedit.judging.pairs import BEFORE_TOKENS, KEPT_AT_START, TEXT_TOKENS, PairTokenizer
from meloedit.types import Asked


@pytest.fixture(scope="module")
def pairs(built_in):
    return PairTokenizer(built_in.tokenizer)


def words(built_in, pair):
    return [built_in.tokenizer.id_to_token(token) for token in pair.ids]


def test_a_pair_is_prompt_and_wording_with_the_turns_before_it(built_in, pairs):
    (pair,) = pairs.encode([Asked("And Sunday?", ("Is it open?", "Yes."))], [Asked("Open on Sunday?")])
    assert words(built_in, pair) == [
        *("[CLS]", "is", "it", "open", "?", "[unused1]", "yes", ".", "[unused1]", "and", "sunday", "?", "[SEP]"),
        *("open", "on", "sunday", "?", "[SEP]"),
    ]
    ids, types, mask = pairs.pad([pair, *pairs.encode([Asked("a")], [Asked("b")])])
    assert types[0].tolist() == [0] * 13 + [1] * 5
    assert ids[1].tolist()[5:] == [0] * 13 and mask[1].sum() == 5 and types[1].tolist() == [0, 0, 0, 1, 1] + [0] * 13


def test_a_long_text_is_read_without_its_middle_and_of_many_turns_the_last(built_in, pairs):
    text = " ".join(["start"] * KEPT_AT_START + ["middle"] * 200 + ["end"] * (TEXT_TOKENS - KEPT_AT_START))
    (pair,) = pairs.encode([Asked(text)], [Asked("b")])
    assert words(built_in, pair)[1 : 1 + TEXT_TOKENS] == ["start"] * 40 + ["end"] * 56
    assert pairs.is_cut(Asked(text)) and not pairs.is_cut(Asked("a"))
    (pair,) = pairs.encode([Asked("it", tuple(["one two three"] * 40))], [Asked("b")])
    assert pair.second == 1 + BEFORE_TOKENS + 1 + 1
    assert words(built_in, pair)[BEFORE_TOKENS - 3 : BEFORE_TOKENS + 2] == ["one", "two", "three", "[unused1]", "it"]


def test_characters_that_the_vocabulary_lacks_differ_by_their_hash(built_in, pairs):
    rare = ["\u9f98", "\u9f8d\u9f92", "\U0001f9a6"]
    tokens = [words(built_in, pair) for pair in pairs.encode(list(map(Asked, rare)), list(map(Asked, rare)))]
    assert not any("[UNK]" in row for row in tokens)
    assert all(row[1 : row.index("[SEP]")] == row[row.index("[SEP]") + 1 : -1] for row in tokens)
    assert tokens[0] != tokens[2]


@pytest.mark.parametrize("text", ["", "\ud800", "\x00\x1b[31m", "\u202e", "a" * 5000])
def test_odd_texts_are_read(pairs, text):
    assert pairs.encode([Asked(text, (text,))], [Asked(text)])[0].ids
