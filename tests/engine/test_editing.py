"""Edits through their life: stored, skipped, replaced, disabled, removed, rolled back."""

import pytest
import torch
from support.causal_checks import answers, portrait
from support.prompts import BOOK, CAPITAL, EDITS, LEGS, RIVER

from meloedit import Edit, read_edits
from meloedit.errors import EditError, StoreError


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_removed_and_rolled_back_edits_leave_no_trace(make_editor, family):
    never, had = make_editor(family, [BOOK]), make_editor(family, [BOOK])
    revision = had.store.revision
    expected = portrait(never)
    had.edit([CAPITAL, LEGS, RIVER])
    assert answers(had, *EDITS) == [edit.target for edit in EDITS]
    with_all = portrait(had)
    assert not torch.equal(with_all[0], expected[0])
    had.remove(["capital", "legs", "river"])
    for change in (lambda: None, lambda: had.rollback(revision + 1), lambda: had.rollback(revision)):
        change()
        logits, routes = portrait(had)
        wanted = with_all if len(had.edits()) == 4 else expected
        assert torch.equal(logits, wanted[0]) and routes == wanted[1]
        assert had.index.threshold == pytest.approx(never.index.threshold, abs=1e-6) or len(had.edits()) == 4
    assert len(had.edits()) == 1
    had.remove("book")
    with had.base_model():
        base = portrait(had)[0]
    assert torch.equal(portrait(had)[0], base)
    for editor in (never, had):
        editor.unload()


def test_an_edit_made_twice_is_skipped(make_editor):
    editor = make_editor(edits=EDITS[:2])
    revision = editor.store.revision
    reports = editor.edit([BOOK, LEGS, BOOK])
    assert [report.status for report in reports] == ["skipped", "stored", "skipped"]
    assert [stored.edit.id for stored in editor.edits()] == ["book", "capital", "legs"]
    assert editor.store.revision == revision + 1
    editor.edit(EDITS[:3])
    assert editor.store.revision == revision + 1
    editor.unload()


def test_other_content_under_the_same_id_needs_replace(make_editor):
    editor = make_editor(edits=EDITS[:2])
    changed = Edit(BOOK.prompt, "Anna", id="book")
    with pytest.raises(EditError, match="'book' is in the store with other content: use replace"):
        editor.edit([LEGS, changed])
    assert len(editor.edits()) == 2
    (report,) = editor.edit(changed, replace=True)
    assert report.status == "stored"
    assert answers(editor, BOOK, CAPITAL) == ["Anna", "Lima"]
    assert [change.action for change in editor.history("book")] == ["edit", "edit"]
    editor.unload()


def test_a_new_target_for_a_prompt_takes_the_place_of_the_old_edit(make_editor):
    editor = make_editor(edits=EDITS[:2])
    before = editor.store.revision
    (report,) = editor.edit(Edit(BOOK.prompt, "Anna", id="newer"))
    assert report.replaced == ["book"]
    assert [stored.edit.id for stored in editor.edits()] == ["capital", "newer"]
    assert answers(editor, BOOK) == ["Anna"]
    editor.rollback(before)
    assert answers(editor, BOOK, CAPITAL) == ["Jorge", "Lima"]
    editor.unload()


def test_a_new_target_replaces_every_edit_of_its_prompt(make_editor):
    editor = make_editor()
    editor.edit([Edit("Is it late?", "no", id="1"), Edit(" Is it late? ", "no", id="2")])
    report = editor.edit(Edit("Is it late?", "very", id="3"))[0]
    assert sorted(report.replaced) == ["1", "2"]
    assert [stored.edit.id for stored in editor.edits()] == ["3"]
    assert editor.check().broken == []
    editor.unload()


def test_a_failed_replacement_keeps_the_old_edit(make_editor):
    editor = make_editor(edits=[BOOK], steps=20, max_rank=2)
    (report,) = editor.edit(Edit(BOOK.prompt, "a very long answer that twenty steps of rank two cannot teach it, no"))
    assert report.status == "failed" and report.replaced == []
    assert answers(editor, BOOK) == ["Jorge"]
    editor.unload()


def test_edits_of_one_call_must_agree(make_editor):
    editor = make_editor()
    variant = Edit("Else?", "Anna", variants=[BOOK.prompt])
    for other in (Edit(BOOK.prompt, "Anna"), variant, Edit("Else?", "no", id="book")):
        with pytest.raises(EditError, match="edit 3 contradicts edit 1"):
            editor.edit([BOOK, CAPITAL, other])
    assert editor.store.revision == 1  # nothing was calibrated or trained
    editor.unload()


def test_a_wording_in_the_store_with_another_answer_is_refused(make_editor):
    editor = make_editor(edits=[Edit(BOOK.prompt, "Jorge", id="book", variants=["By whom is it?"])])
    for clash in (Edit("By whom is it?", "Anna"), Edit("Else?", "Anna", variants=[BOOK.prompt])):
        with pytest.raises(EditError, match="and edit 'book' in the store share a wording"):
            editor.edit([LEGS, clash])
    (report,) = editor.edit(Edit(BOOK.prompt, "Anna", variants=["By whom is it?"]))  # the same prompt: it takes over
    assert report.replaced == ["book"]
    editor.unload()


def test_an_edit_that_moves_does_not_lose_the_one_that_takes_its_place(make_editor):
    editor = make_editor(edits=[Edit("What is alpha?", "one", id="x")], train_batch_size=1)
    moved = [Edit("What is beta?", "two", id="x"), Edit("What is alpha?", "three", id="y")]
    reports = editor.edit(moved, replace=True)
    assert [(report.status, report.replaced) for report in reports] == [("stored", []), ("stored", [])]
    assert sorted(stored.edit.id for stored in editor.edits()) == ["x", "y"]
    editor.unload()


def test_the_same_words_as_a_turn_or_with_a_blank_are_the_same_prompt(make_editor):
    editor = make_editor()
    for other in ([{"role": "user", "content": "Name a sea."}], " Name a sea. "):
        with pytest.raises(EditError, match="edit 2 contradicts edit 1"):
            editor.edit([Edit("Name a sea.", "Aral"), Edit(other, "Kara")])
    editor.unload()


def test_disable_and_enable(make_editor):
    editor = make_editor(edits=EDITS[:2])
    with editor.base_model():
        base = answers(editor, BOOK)
    editor.disable("book")
    assert answers(editor, BOOK, CAPITAL) == [*base, "Lima"]
    assert editor.ask(BOOK.prompt)[0].route.edit is None
    editor.enable(["book"])
    assert answers(editor, BOOK) == ["Jorge"]
    with pytest.raises(StoreError, match="no edit 'bok'.*'book'"):
        editor.disable("bok")
    editor.unload()


def test_a_disabled_edit_says_so_and_metadata_can_be_replaced(make_editor):
    editor = make_editor(edits=[BOOK])
    editor.disable(BOOK.id)
    assert "disabled" in editor.edit(BOOK)[0].reason
    noted = Edit(BOOK.prompt, BOOK.target, id=BOOK.id, metadata={"source": "desk"})
    assert editor.edit(noted)[0].status == "skipped"
    report = editor.edit(noted, replace=True)[0]
    assert (report.status, "disabled" in report.reason) == ("stored", True)
    assert editor.edits()[0].edit.metadata == {"source": "desk"}
    editor.unload()


def test_quiet_prompts_and_variants(edited, make_editor):
    family = edited.model.config.model_type
    near = "Who wrote the book of salt?"
    edit = Edit(BOOK.prompt, "Jorge", id="book", variants=["The book of sand: by whom?"], quiet=[near])
    editor = make_editor(family, [edit])
    prompts = [BOOK.prompt, "The book of sand: by whom?", near]
    for form in ("raw", "chat"):
        found = editor.ask(prompts, form, max_new_tokens=8)
        assert [answer.route.edit for answer in found] == ["book", "book", None]
        assert [answer.text for answer in found[:2]] == ["Jorge", "Jorge"]
        assert found[2].route.nearest == "book"
    editor.unload()


def test_reports_name_neighbours_and_overlaps(make_editor):
    editor = make_editor(edits=[BOOK, CAPITAL], min_similarity=-1.0, false_activation=0.9)
    twin = Edit("Who wrote the book of sand ?", "Anna", id="twin")
    (report,) = editor.edit(twin)
    assert report.nearest == "book" and report.overlaps
    assert report.nearest_distance == pytest.approx(editor.route(twin.prompt)[0].distance, abs=2.0)
    checked = editor.check()
    assert ("book", "twin") in checked.overlaps and checked.checked == 3 and checked.problems == []
    editor.unload()


def test_check_finds_what_no_longer_holds(make_editor):
    editor = make_editor(edits=EDITS)
    assert editor.check().broken == []
    with torch.no_grad():
        editor.model.model.layers[3].mlp.up_proj.weight.mul_(-1)
    broken = editor.check().broken
    assert {(item.id, item.form) for item in broken} >= {("legs", "raw"), ("legs", "chat")}
    assert all(item.route.edit == item.id and item.answer != item.target for item in broken)
    editor.unload()


def test_editing_works_inside_disabled_and_wrong_arguments_are_one_line(make_editor):
    editor = make_editor()
    with editor.base_model():
        assert editor.edit(BOOK)[0].holds
    assert answers(editor, BOOK) == ["Jorge"]
    wrong = [
        lambda: editor.edit(5),
        lambda: editor.edit(None),
        lambda: editor.ask(5),
        lambda: editor.ask("x", "Chat"),
        lambda: editor.ask("x", batch_size=0),
        lambda: editor.ask("x", num_return_sequences=2),
    ]
    for call in wrong:
        with pytest.raises(EditError):
            call()
    editor.unload()


def test_what_read_edits_gives_can_be_edited(make_editor, tmp_path):
    (tmp_path / "facts.jsonl").write_text('{"prompt": "Is it late?", "target": "no", "id": "late"}\n')
    editor = make_editor()
    assert [report.holds for report in editor.edit(read_edits(tmp_path / "facts.jsonl"))] == [True]
    assert [stored.edit.id for stored in editor.edits()] == ["late"]
    editor.unload()
