"""Names of prompts: which words are some, what share each has, and which tokens ask."""

import math
from unicodedata import normalize

import pytest
import torch

from meloedit.keys.grammar import make_prompts
from meloedit.keys.keys import MAX_WORDS
from meloedit.keys.names import (
    COMMON,
    WORD_CODES,
    WordCounts,
    asked_shares,
    find_words,
    fold,
    hash_word,
    word_columns,
    words_of,
)
from meloedit.keys.pooling import Pooling
from meloedit.types import Asked

WORDS = WordCounts.fit(make_prompts(2000))


def columns(*texts):
    return word_columns([Asked(text) for text in texts], WORDS)


def names(text):
    return [word.text for word in find_words(text, WORDS) if word.is_name]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Who is the mother of Azimshan Darrieux?", ["azimshan", "darrieux"]),
        ("Darrieux's mother is called", ["darrieux"]),  # unheard of, so the capital is its own
        ("Who wrote Der Zauberberg? The book is long. Is Mann the man", ["zauberberg", "mann"]),
        ("In which city was the USS Sand Lance (SS-381) built", ["uss", "sand", "lance", "ss", "381"]),
        ("Is the autoclave of Blacula known", ["blacula"]),  # other rare words are no names beside it
        ("who is the mother of azimshan darrieux", []),
        ("who wrote the book", []),
        ("How do I cancel what I'VE ordered, if They let Me?", []),  # function words are no names, whatever their case
        ("WHO IS THE MOTHER OF AZIMSHAN DARRIEUX", []),  # in capitals throughout these say nothing
        ("IS 4471 THE NUMBER", ["4471"]),
        ("", []),
    ],
)
def test_names_are_what_has_a_capital_of_its_own(text, found):
    assert names(text) == found


def test_what_begins_a_sentence_needs_more_than_its_capital():
    words = WordCounts.fit([*make_prompts(98), "is Ottawa large", "where is Ottawa"] * 20)
    assert [word.text for word in find_words("Ottawa is", words) if word.is_name] == []
    assert [word.text for word in find_words("is Ottawa", words) if word.is_name] == ["ottawa"]


def test_shares_add_up_and_name_what_there_is():
    texts = ["Who is the mother of Azimshan Darrieux?", "who wrote the book", "?!", "the " * 3, "Zu Zu zu"]
    codes, shares = columns(*texts)
    assert shares.sum(1).tolist() == pytest.approx([1.0] * 5)
    assert ((shares > 0) <= (codes > 0)).all() and codes.max() <= WORD_CODES
    of = {int(code): share for code, share in zip(codes[0].tolist(), shares[0].tolist(), strict=True)}
    assert of[1 + hash_word("azimshan") % WORD_CODES] == pytest.approx(0.5)
    assert of[1 + hash_word("mother") % WORD_CODES] == 0  # a word that prompts may mention, and no name
    assert (shares[1] > 0).sum() > 1  # without names, all words but common ones are what a prompt must mention
    assert (codes[2] > 0).sum() == (codes[4] > 0).sum() == 1
    assert codes.dtype == torch.int32 and codes.shape == shares.shape == (5, MAX_WORDS)


def test_accents_may_be_left_out():
    codes, _ = columns("Who is the mayor of S\u00e3o Tom\u00e9", "who is the mayor of sao tome")
    assert set(codes[0, :2].tolist()) <= set(codes[1].tolist())
    assert [word.text for word in find_words("S\u00e3o", WORDS)] == ["sao"]


def test_a_key_holds_the_names_of_a_long_prompt_first():
    text = " ".join(f"word{chr(97 + i)}" for i in range(26)) + " and Azimshan Darrieux"
    codes, shares = columns(text)
    assert {1 + hash_word(word) % WORD_CODES for word in ("azimshan", "darrieux")} == set(codes[0, :2].tolist())
    assert shares[0, :2].sum() == pytest.approx(1)


class Tokens:
    """A tokenizer whose pieces are written as three kinds of tokenizers write them."""

    def __init__(self, pieces, special=()):
        self.pieces, self.all_special_ids = pieces, special

    def convert_ids_to_tokens(self, token):
        return self.pieces[token]

    def decode(self, ids):
        piece = self.pieces[ids[0]]
        return piece.replace("\u0120", " ") if "\u0120" in piece else piece.lstrip("\u2581")


@pytest.mark.parametrize(
    "pieces",
    [
        ["<s>", "The", "\u0120mother", "\u0120of", "\u0120Az", "im", "shan", "\u0120D", "arri", "eux", "?"],
        ["<s>", "\u2581The", "\u2581mother", "\u2581of", "\u2581Az", "im", "shan", "\u2581D", "arri", "eux", "?"],
    ],
)
def test_tokens_of_names_do_not_ask(pieces):
    pooling = Pooling(None, WORDS, Tokens(pieces))
    weights = pooling(range(len(pieces)), (1, len(pieces)))
    assert weights.tolist() == [[1] * 10, [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]]
    lower = [
        piece[:1] + piece[1:].lower() for piece in pieces
    ]  # without a capital, words that nobody uses stand for names
    assert torch.equal(Pooling(None, WORDS, Tokens(lower))(range(len(lower)), (1, len(lower))), weights)
    assert pooling(range(len(pieces)), (4, 6)).tolist() == [[1, 1], [1, 1]]  # names alone: all of them ask
    assert Pooling(None, None, Tokens(pieces))(range(len(pieces)), (1, 4)).tolist() == [[1, 1, 1]]


def test_a_character_of_several_tokens_is_read_as_one():
    pieces = {1: "\u0120is", 2: "\u0120\ufffd", 3: "\ufffd", 4: "dz", 5: "?"}

    class Bytes(Tokens):
        def decode(self, ids):
            return {(1,): " is", (2,): " \ufffd", (3,): "\ufffd", (2, 3): " \u0141", (4,): "dz", (5,): "?"}[tuple(ids)]

    assert Pooling(None, WORDS, Bytes(pieces))([1, 2, 3, 4, 5], (0, 5))[1].tolist() == [1, 0, 0, 0, 1]


def test_accents_may_stand_for_themselves_and_scripts_without_blanks_have_words():
    composed, apart = (columns(normalize(form, "Who owns Caf\u00e9 M\u00fcller")) for form in ("NFC", "NFD"))
    assert all(map(torch.equal, composed, apart))
    chinese = [
        set(word.text for word in find_words(text, WORDS))
        for text in ("谁是法国总统", "请问谁是法国总统", "谁是德国总理")
    ]
    assert chinese[0] < chinese[1] and len(chinese[0]) == 6 and len(chinese[0] & chinese[2]) == 4
    assert [word.text for word in find_words("दिल्ली", WORDS)] == [fold("दिल्ली")]


def test_words_of_one_code_count_once_and_an_unknown_text_names_nothing(monkeypatch):
    monkeypatch.setattr("meloedit.keys.names.hash_word", lambda word: 7)
    codes, shares = columns("Who is Azimshan Darrieux", "", "?!")
    assert codes[:, 0].tolist() == [8, 0, 8] and codes[:, 1:].sum() == 0
    assert shares[:, 0].tolist() == pytest.approx([1, 0, 1])


def test_special_tokens_are_no_words():
    pieces = ["<S>", "\u0120Name", "\u0120the", "\u0120book"]
    tokenizer = Tokens(pieces, special=[0])
    assert Pooling(None, WORDS, tokenizer)(range(4), (1, 4))[1].tolist() == [1, 1, 1]


def test_words_weigh_by_how_rare_they_are():
    words = WordCounts.fit(["who wrote the book", "who sings the song", "who leads the town"] * 30)
    assert words.idf("who") < COMMON < words.idf("zwibel")  # in every prompt: log(91 / 90.5)
    assert words.idf("book") == pytest.approx(math.log(91 / 30.5)) and words.count("book") == 30
    assert COMMON > 0 and words_of("Der Fluß, the FLUSS!") == {"der", "fluss", "the"}


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("Saturdays", "Saturday"),
        ("\u0141\u00f3d\u017a", "Lodz"),
        ("K\u00f8benhavn", "Kobenhavn"),
        ("STRASSE", "Stra\u00dfe"),
    ],
)
def test_words_are_compared_without_plurals_and_letters_that_keyboards_lack(written, same):
    assert fold(written.casefold()) == fold(same.casefold())


def test_short_words_and_those_that_end_in_ss_or_us_keep_their_s():
    assert [fold(word) for word in ("bus", "gas", "glass", "lotus", "cars")] == ["bus", "gas", "glass", "lotus", "car"]


def test_a_turn_that_names_nothing_takes_the_words_before_it():
    before = ("Do you have the Halden V40?", "Yes, we do.")
    named = asked_shares(Asked("Is the Orvane Tab 9 better?", before), WORDS)
    assert "halden" not in named and named["orvane"] > 0
    assert asked_shares(Asked("And its warranty?", before), WORDS)["halden"] > 0
    assert sum(asked_shares(Asked("And its warranty?", before), WORDS).values()) == pytest.approx(1)
    assert asked_shares(Asked("And its warranty?"), WORDS).keys() == {"warranty"}
