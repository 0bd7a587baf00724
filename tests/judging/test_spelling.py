"""Slips of the keyboard are read as the edit spells them; other names and real words are not."""

import pytest

from meloedit.judging.spelling import is_slip, respelled

KNOWN = {"united", "untied", "casual", "causal"}.__contains__


@pytest.mark.parametrize(
    ("word", "meant", "slip"),
    [
        ("velmroa", "velmora", True),
        ("velmra", "velmora", True),
        ("vellmora", "velmora", True),
        ("velmoraa", "velmora", True),
        ("elmora", "velmora", True),
        ("velmora", "velmora", False),
        ("velmara", "velmora", False),
        ("vemloar", "velmora", False),
        ("velmo", "velmora", False),
        ("", "a", True),
    ],
)
def test_one_slip_is_a_swap_or_a_letter_too_few_or_too_many(word, meant, slip):
    assert is_slip(word, meant) is slip


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("who is mayor of velmroa?", "who is mayor of Velmora?"),
        ("Vellmora mayor", "Velmora mayor"),
        ("mayor of Velmara", "mayor of Velmara"),  # another letter, another name
        ("the Cafe Lodz and the Orsted library", "the Cafe Lodz and the Orsted library"),  # as they stand there
        ("is Velmroa in Velmora?", "is Velmroa in Velmora?"),  # the name is there already
        ("mayro", "mayro"),  # too short to be sure
        ("", ""),
    ],
)
def test_misspelt_words_are_read_as_the_wording_has_them(text, read):
    assert respelled(text, "Who is the mayor of Velmora?", KNOWN) == read


def test_words_that_are_meant_stay():
    assert respelled("the untied nations", "the United Nations", KNOWN) == "the untied nations"
    assert respelled("is it Kestreel", "is it Kestrel", KNOWN, {"kestreel"}) == "is it Kestreel"  # another edit's name


@pytest.mark.parametrize(
    ("text", "wording", "read"),
    [
        ("slogan of cafe lodz", "What is the slogan of Café Łódź?", "slogan of Café Łódź"),
        ("Who runs the Orsted library?", "Who runs the Ørsted library?", "Who runs the Ørsted library?"),
        ("Sao Paulo or São Paulo", "Where is São Paulo?", "Sao Paulo or São Paulo"),  # it is there already
        ("the Lodge", "Where is Łódź?", "the Lodge"),
    ],
)
def test_accents_that_are_left_out_are_read_as_the_wording_has_them(text, wording, read):
    assert respelled(text, wording, KNOWN).casefold() == read.casefold()
