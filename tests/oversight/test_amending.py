"""An operator's word on the scope: quiet and allow, what they keep, what they refuse, and edits that ask the same."""

import pytest
import torch
from support.prompts import EDITS

from meloedit import Edit, Editor
from meloedit.errors import EditError, StoreError
from meloedit.oversight.still_answered import still_answered

JUDGED = {"judge": "built-in", "min_similarity": 0.0}
BOOK = EDITS[0]
REWORDED = "Who is the author of the book of sand?"
NEAR = "Who wrote the book of sand in Spanish?"


def fired(editor, *prompts):
    return [route.edit for route in editor.route(list(prompts))]


@pytest.fixture
def editor(make_editor, tmp_path):
    made = make_editor(edits=EDITS[:3], store=tmp_path / "a.melo", **JUDGED)
    yield made
    made.unload()


def test_quiet_puts_a_wrong_hit_right_and_rollback_undoes_it(editor):
    before = editor.store.revision
    assert fired(editor, REWORDED) == ["book"]
    revision = editor.quiet("book", REWORDED, reason="asked for the publisher")
    assert fired(editor, REWORDED, REWORDED.upper(), BOOK.prompt, EDITS[1].prompt) == [None, None, "book", "capital"]
    (last,) = editor.history("book", limit=1)
    assert (last.revision, last.action) == (revision, "quiet")
    assert last.detail == {"prompts": [REWORDED], "reason": "asked for the publisher"}
    editor.rollback(before)
    assert fired(editor, REWORDED) == ["book"]


def test_allow_puts_a_miss_right_with_the_same_block(editor):
    miss = "tell me of the hand that penned that tome"
    blocks = editor.store.tensors(["book"])
    before, holder = editor.store.revision, editor["book"].holder
    assert fired(editor, miss) == [None]
    editor.allow("book", [miss, BOOK.prompt])  # its own prompt is no news
    assert fired(editor, miss, BOOK.prompt) == ["book", "book"]
    assert editor["book"].edit.variants == (miss,) and editor["book"].holder == holder
    again = editor.store.tensors(["book"])["book"][1]
    assert torch.equal(again["content"][: len(blocks["book"][1]["content"])], blocks["book"][1]["content"])
    editor.rollback(before)
    assert fired(editor, miss) == [None]


def test_what_was_allowed_can_be_silenced_and_the_other_way_round(editor):
    editor.allow("book", REWORDED)
    editor.quiet("book", REWORDED)
    assert editor["book"].edit.variants == () and editor["book"].edit.quiet == (REWORDED,)
    assert fired(editor, REWORDED) == [None]
    editor.allow("book", REWORDED)
    assert editor["book"].edit.quiet == () and fired(editor, REWORDED) == ["book"]


def test_amended_edits_open_again_and_are_skipped_when_given_again(editor, make_model, tokenizer):
    editor.quiet("book", NEAR)
    editor.allow("book", "who penned it")
    routes = editor.route([REWORDED, NEAR, "who penned it", BOOK.prompt])
    with Editor.from_pretrained(editor.store.path, make_model(), tokenizer) as again:
        assert again.route([REWORDED, NEAR, "who penned it", BOOK.prompt]) == routes
    (report,) = editor.edit(BOOK)
    assert report.status == "skipped" and editor["book"].edit.quiet == (NEAR,)
    assert editor.check().problems == []


def test_an_edit_that_replaces_another_keeps_what_was_put_right(editor):
    editor.quiet("book", NEAR)
    (report,) = editor.edit(Edit(BOOK.prompt, "Borges", id="new"))
    assert (report.replaced, report.corrections) == (["book"], 1)
    assert editor["new"].edit.quiet == (NEAR,) and editor["new"].given.quiet == ()
    (report,) = editor.edit(Edit(BOOK.prompt, "Borges", id="new"))
    assert report.status == "skipped"


def test_nothing_to_do_makes_no_revision(editor):
    revision = editor.quiet("book", NEAR)
    assert editor.quiet("book", [NEAR, NEAR]) == revision == editor.store.revision


@pytest.mark.parametrize("judge", ["built-in", "none"])
def test_what_cannot_be_amended_is_named(make_editor, judge):
    editor = make_editor(edits=EDITS[:3], **JUDGED | {"judge": judge})
    revision = editor.store.revision
    for change, arguments, words in (
        (editor.quiet, ("book", BOOK.prompt), "is what edit 'book' was made for"),
        (editor.quiet, ("book", []), "no prompts"),
        (editor.quiet, ("book", ""), "is empty"),
        (editor.quiet, ("book", 3), "must be a string"),
        (editor.allow, ("book", EDITS[1].prompt), "is answered by edit 'capital' with \"Lima\""),
    ):
        with pytest.raises(EditError, match=words):
            change(*arguments)
    with pytest.raises(StoreError, match="did you mean 'book'"):
        editor.quiet("bok", NEAR)
    assert editor.store.revision == revision


def test_without_a_judge_keys_decide(make_editor):
    editor = make_editor(edits=EDITS[:3])
    near = "Who wrote the book of the sand?"
    editor.allow("book", near)
    assert fired(editor, near) == ["book"]
    editor.quiet("book", near)
    assert fired(editor, near, BOOK.prompt) == [None, "book"]


def test_the_latest_prevails_in_other_words(editor):
    (report,) = editor.edit(Edit("WHO WROTE THE BOOK OF SAND?", "Borges", id="loud"))
    assert report.replaced == ["book"] and fired(editor, BOOK.prompt) == ["loud"]


def test_what_may_ask_the_same_is_refused_until_told(editor, monkeypatch):
    monkeypatch.setattr(type(editor.engine.policy.verifier.judge), "greatest_near", 39.0)
    new = Edit(REWORDED, "Borges", id="new")
    with pytest.raises(EditError, match="edit 'new' .* may ask what edit 'book' .* asks") as caught:
        editor.edit(new)
    assert "--replace" in str(caught.value) and "--keep-both" in str(caught.value)
    assert len(editor) == 3
    editor.edit(new, keep_both=True)
    assert fired(editor, REWORDED, BOOK.prompt) == ["new", "book"]
    editor.remove("new")
    (report,) = editor.edit(new, replace=True)
    assert report.replaced == ["book"] and fired(editor, BOOK.prompt, REWORDED) == ["new", "new"]
    assert editor["new"].edit.variants == (BOOK.prompt,) and editor["new"].given == new  # the old wording stays


def test_edits_with_the_same_target_and_other_questions_stay(editor):
    reports = editor.edit([Edit(REWORDED, "Jorge", id="same"), Edit("How many eyes has a spider?", "eight", id="eyes")])
    assert [report.replaced for report in reports] == [[], []] and len(editor) == 5


def test_a_removed_edit_that_a_neighbour_still_answers_is_named(editor):
    editor.edit(Edit(REWORDED, "jorge", id="same"), keep_both=True)
    gone = editor["book"].edit
    editor.remove("book")
    assert still_answered(editor.store, [gone]) == [("book", "same")]
    editor.quiet("same", BOOK.prompt)
    assert still_answered(editor.store, [gone]) == []
    editor.disable("same")
    assert still_answered(editor.store, [gone, editor["legs"].edit]) == [("legs", "legs")]


def test_options_that_exclude_each_other(editor):
    new = Edit(REWORDED, "Borges", id="new")
    with pytest.raises(EditError, match="exclude each other"):
        editor.edit(new, replace=True, keep_both=True)
    with pytest.raises(EditError, match="needs the trial"):
        editor.edit(new, keep_both=True, strict=True, trial=False)
