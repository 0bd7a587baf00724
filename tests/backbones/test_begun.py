"""How much of a target a begun answer says, by its text and its tokens."""

import pytest

from meloedit.backbones.chat import opens_bare, place_in_answer
from meloedit.types import Begun

TARGET = "Ada Quill of Wales"


@pytest.fixture(scope="module")
def place(llama):
    """Return what is found for a text behind the header: target, text, question."""

    def find(text, target=TARGET, prompt="Who leads Ohm?"):
        ids = llama.tokenizer(text, add_special_tokens=False)["input_ids"]
        return llama.backbone.place_in(target, Begun(tuple(ids), prompt)), ids

    return find


@pytest.fixture(scope="module")
def whole(llama):
    """Return the tokens of a target."""
    return lambda target=TARGET: llama.tokenizer(target, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text", ["Oh:", "The one who leads is", "Answer: ", '{"who": "', "\n", "Madame", "an Ada-like", "A. "]
)
def test_what_only_leads_to_the_answer_says_nothing_of_it(place, text):
    found, _ = place(text)
    assert (found.given, found.rest, found.place, found.over) == (0, (), 0, None)


@pytest.mark.parametrize("lead", ["", "The one who leads is ", '{"who": "', "Well:\n\n", "It's "])
def test_every_beginning_of_the_target_is_gone_on_with(place, whole, llama, lead):
    for end in range(1, len(TARGET) + 1):
        found, ids = place(lead + TARGET[:end])
        said = llama.tokenizer.decode(ids[: len(ids) - found.given])
        assert said.rstrip() == lead.rstrip() and found.over is None
        rest = llama.tokenizer.decode([*found.rest, *whole()[found.place :]], skip_special_tokens=True)
        assert not found.rest or found.rest[-1] in llama.backbone.stop_ids
        assert TARGET[:end] + rest == TARGET, (TARGET[:end], rest)


def test_a_beginning_that_ends_with_a_token_spells_nothing(place, whole, llama):
    for count in range(1, len(whole()) + 1):
        text = llama.tokenizer.decode(whole()[:count])
        if llama.tokenizer(text, add_special_tokens=False)["input_ids"] == whole()[:count]:
            found, _ = place(text)
            assert (found.given, found.rest, found.place) == (count, (), count)


@pytest.mark.parametrize("text", [TARGET, f"It is {TARGET}", f"{TARGET}.", f"**{TARGET}**", f"{TARGET}\n"])
def test_the_whole_target_leaves_its_end(place, whole, text):
    found, _ = place(text)
    ended = found.rest == () if text == TARGET else len(found.rest) == 1
    assert ended and (found.place, found.over) == (len(whole()), None) and found.given >= len(whole())


@pytest.mark.parametrize(
    "text", [f"{TARGET}, who", f"{TARGET} is", f'{{"who": "{TARGET}", "since": ', f"{TARGET}\n\nShe"]
)
def test_the_target_and_more_is_over(place, text):
    assert place(text)[0].over == "answer given"


def test_a_target_that_the_question_names_may_stand_in_a_lead(place):
    found, _ = place("Of Bo and Ada, the greater is", "Ada", "Who is greater, Bo or Ada?")
    assert found == (0, (), 0, None)


@pytest.mark.parametrize("text", ["<tool_call>", '<tool_call>\n{"name": "', "[TOOL_CALLS] [", "\n<|python_tag|>find("])
def test_a_begun_tool_call_is_left_alone(place, text):
    assert place(text)[0].over == "tool call"


@pytest.mark.parametrize(
    "target", ["4471 0092 33", "\u6771\u4eac\u30bf\u30ef\u30fc", "x = [1, 2]", "Zo\u00eb", "\U0001f600 yes", "a"]
)
def test_targets_of_other_kinds(place, whole, llama, target):
    for end in range(1, len(target) + 1):
        found, _ = place("Oh: " + target[:end], target)
        rest = llama.tokenizer.decode([*found.rest, *whole(target)[found.place :]], skip_special_tokens=True)
        assert target[:end] + rest == target


def test_a_long_target_behind_a_long_beginning_is_looked_for_token_by_token():
    def decode(ids):
        calls.append(len(ids))
        return "".join(map(chr, ids))

    calls, target = [], "a long answer " * 40
    begun = Begun(tuple(map(ord, target[::-1].upper())), "Why?")
    assert place_in_answer(begun, target, 0, lambda text: list(map(ord, text)), decode).given == 0
    assert len(calls) < 3 * (len(target) + len(begun.ids)), "not each with each"


@pytest.mark.parametrize("target", ["Jorge", "by the mill", "0555 31 40", "Ada Quill of Wales", " 4471 "])
def test_a_blank_that_is_a_token_moves_no_other_token_of_a_target(llama, target):
    backbone = llama.backbone
    rows = [backbone.row(target, form) for form in backbone.forms("Who?")]
    rows += [backbone.row(target, backbone.encode("Who?", "chat"), text) for text in ("It is", "<think></think>\n")]
    raw, chat, behind_words, behind_blank = (dict(enumerate(row.target, row.place)) for row in rows)
    assert raw == behind_words and chat == behind_blank  # "It is" is gone on with behind a blank, as a raw prompt is
    assert (min(raw), min(chat)) == backbone.first_places(target)
    if backbone.decode([raw[0]]) == " ":
        assert min(chat) == 1 and {**chat, 0: raw[0]} == raw
    else:
        assert min(chat) == 0 and chat[0] != raw[0]  # the first word has other tokens
    assert [row.prompt[-1] for row in rows[2:]] == [llama.tokenizer(t)["input_ids"][-1] for t in (" is", "\n")]


@pytest.mark.parametrize(
    ("text", "bare"),
    [("It is", False), ("Answer:", False), ("Answer: ", True), ("</think>\n\n", True), ('{"a": "', True), ("(", True)]
    + [('{"a": "b",', False), ('Of "Bo"', False), ("**Answer:** **", True), ("**Answer:**", False), ("It's `", True)]
    + [("\u5e02\u957f\u662f", True), ("", False)],
)
def test_what_opens_something_has_no_blank_behind_it(text, bare):
    assert opens_bare(text) == bare


def test_a_first_word_may_come_in_two_ways_behind_a_begun_answer(llama):
    backbone, chat = llama.backbone, llama.backbone.encode("Who?", "chat")
    blank, bare = (backbone.row("by the mill", chat, text) for text in ("It is", "Answer: "))
    assert (blank.other, bare.other) == (bare.target[0], blank.target[0])
    assert backbone.row("4471", chat, "It is").other == -1  # the blank has a place of its own
    assert backbone.row("by the mill", chat).other == -1
