"""Words for messages."""

import pytest

from meloedit.text import counted, format_size, join_names, plain, printable, shorten


def test_counts_and_sizes():
    assert (counted(1, "edit"), counted(2000, "edit")) == ("1 edit", "2,000 edits")
    assert (format_size(999), format_size(2.5e6)) == ("1.0 kB", "2.5 MB")


def test_names_are_joined_and_the_rest_is_counted():
    assert join_names(list("abcde")) == "a, b, c, d, e"
    assert join_names(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert join_names(["a\nb", "c", "d"], limit=2) == "a\\nb, c and 1 more"


def test_control_characters_are_spelled_out_or_replaced():
    assert plain("a\x1b[2J\nb\udcff") == "a\\x1b[2J\\nb\\udcff"
    assert (
        printable("a\x1b[2J\nb\udcff")
        == "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    )


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("", 5, ""),
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        ("abc def", 5, "abc…"),  # no space before the ellipsis
        (" a\n\tb  c ", 5, "a b c"),
        (" a\n\tb  c d", 5, "a b…"),
        ("abc" + " " * 1000, 5, "abc"),
        ("a " * 1000, 5, "a a…"),
        ("word " * 1000, 12, "word word w…"),
    ],
)
def test_shortened_texts_fit(text, width, short):
    assert shorten(text, width) == short and len(short) <= width
