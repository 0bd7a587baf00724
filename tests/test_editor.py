"""Edits through their whole life: made, skipped, replaced, disabled, removed, rolled back, saved, loaded."""

import json
import math
import re
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import EDITS, HISTORY, OTHERS, SETTINGS, mixed_prompts, padded

from meloedit import Edit, Editor, MeloConfig, read_edits
from meloedit.backbones.batch import Example
from meloedit.errors import EditError, ModelError, StoreError
from meloedit.keys.grammar import make_prompts
from meloedit.store.store import Store

BOOK, CAPITAL, LEGS, RIVER = EDITS


def portrait(editor, rows=None):
    """Logits and routes of many prompts, in one batch and decided by the index."""
    rows = rows or [form.ids for text in make_prompts(20, seed=9) for form in editor.backbone.forms(text)]
    rows = rows + mixed_prompts(editor)[0]
    batch = padded(rows)
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = editor.model(**batch).logits
    return logits, [(route.edit, route.distance, route.nearest, route.reason) for route in editor.last_routes]


def answers(editor, *edits):
    return [answer.text for answer in editor.ask([edit.prompt for edit in edits], max_new_tokens=8)]


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
    with had.disabled():
        base = portrait(had)[0]
    assert torch.equal(portrait(had)[0], base)
    for editor in (never, had):
        editor.detach()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_load_restores_the_very_behaviour(make_editor, make_model, tokenizer, family, tmp_path):
    path = tmp_path / "facts.melo"
    quiet = Edit(CAPITAL.prompt, CAPITAL.target, id="capital", quiet=["What is the capital of Chile?"])
    editor = make_editor(family, [BOOK, quiet, LEGS, RIVER], store=path)
    editor.disable("legs")
    editor.remove("book")
    editor.edit(BOOK)
    expected, threshold = portrait(editor), editor.index.threshold
    copy = tmp_path / "copy.melo"
    editor.save(copy)
    editor.detach()
    for store in (path, copy):
        again = Editor.load(store, make_model(family), tokenizer)
        logits, routes = portrait(again)
        assert torch.equal(logits, expected[0]) and routes == expected[1]
        assert again.index.threshold == pytest.approx(threshold, abs=1e-6)
        assert [stored.enabled for stored in again.edits()] == [True, False, True, True]
        again.detach()
    with pytest.raises(StoreError, match="exists already"):
        Editor.load(path, make_model(family), tokenizer).save(copy)


def test_an_edit_made_twice_is_skipped(make_editor):
    editor = make_editor(edits=EDITS[:2])
    revision = editor.store.revision
    reports = editor.edit([BOOK, LEGS, BOOK])
    assert [report.status for report in reports] == ["skipped", "stored", "skipped"]
    assert [stored.edit.id for stored in editor.edits()] == ["book", "capital", "legs"]
    assert editor.store.revision == revision + 1
    editor.edit(EDITS[:3])
    assert editor.store.revision == revision + 1
    editor.detach()


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
    editor.detach()


def test_a_new_target_for_a_prompt_takes_the_place_of_the_old_edit(make_editor):
    editor = make_editor(edits=EDITS[:2])
    before = editor.store.revision
    (report,) = editor.edit(Edit(BOOK.prompt, "Anna", id="newer"))
    assert report.replaced == ["book"]
    assert [stored.edit.id for stored in editor.edits()] == ["capital", "newer"]
    assert answers(editor, BOOK) == ["Anna"]
    editor.rollback(before)
    assert answers(editor, BOOK, CAPITAL) == ["Jorge", "Lima"]
    editor.detach()


def test_a_new_target_replaces_every_edit_of_its_prompt(make_editor):
    editor = make_editor()
    editor.edit([Edit("Is it late?", "no", id="1"), Edit(" Is it late? ", "no", id="2")])
    report = editor.edit(Edit("Is it late?", "very", id="3"))[0]
    assert sorted(report.replaced) == ["1", "2"]
    assert [stored.edit.id for stored in editor.edits()] == ["3"]
    assert editor.check().broken == []
    editor.detach()


def test_a_failed_replacement_keeps_the_old_edit(make_editor):
    editor = make_editor(edits=[BOOK], steps=20, max_rank=2)
    (report,) = editor.edit(Edit(BOOK.prompt, "a very long answer that twenty steps of rank two cannot teach it, no"))
    assert report.status == "failed" and report.replaced == []
    assert answers(editor, BOOK) == ["Jorge"]
    editor.detach()


def test_edits_of_one_call_must_agree(make_editor):
    editor = make_editor()
    variant = Edit("Else?", "Anna", variants=[BOOK.prompt])
    for other in (Edit(BOOK.prompt, "Anna"), variant, Edit("Else?", "no", id="book")):
        with pytest.raises(EditError, match="edit 3 contradicts edit 1"):
            editor.edit([BOOK, CAPITAL, other])
    assert editor.store.revision == 1  # nothing was calibrated or trained
    editor.detach()


def test_a_wording_in_the_store_with_another_answer_is_refused(make_editor):
    editor = make_editor(edits=[Edit(BOOK.prompt, "Jorge", id="book", variants=["By whom is it?"])])
    for clash in (Edit("By whom is it?", "Anna"), Edit("Else?", "Anna", variants=[BOOK.prompt])):
        with pytest.raises(EditError, match="and edit 'book' in the store share a wording"):
            editor.edit([LEGS, clash])
    (report,) = editor.edit(Edit(BOOK.prompt, "Anna", variants=["By whom is it?"]))  # the same prompt: it takes over
    assert report.replaced == ["book"]
    editor.detach()


def test_disable_and_enable(make_editor):
    editor = make_editor(edits=EDITS[:2])
    with editor.disabled():
        base = answers(editor, BOOK)
    editor.disable("book")
    assert answers(editor, BOOK, CAPITAL) == [*base, "Lima"]
    assert editor.ask(BOOK.prompt)[0].route.edit is None
    editor.enable(["book"])
    assert answers(editor, BOOK) == ["Jorge"]
    with pytest.raises(StoreError, match="no edit 'bok'.*'book'"):
        editor.disable("bok")
    editor.detach()


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
    editor.detach()


def test_reports_name_neighbours_and_overlaps(make_editor):
    editor = make_editor(edits=[BOOK, CAPITAL], min_similarity=-1.0, false_activation=0.9)
    twin = Edit("Who wrote the book of sand ?", "Anna", id="twin")
    (report,) = editor.edit(twin)
    assert report.nearest == "book" and report.overlaps
    assert report.nearest_distance == pytest.approx(editor.route(twin.prompt)[0].distance, abs=2.0)
    checked = editor.check()
    assert ("book", "twin") in checked.overlaps and checked.checked == 3 and checked.problems == []
    editor.detach()


def test_check_finds_what_no_longer_holds(make_editor):
    editor = make_editor(edits=EDITS)
    assert editor.check().broken == []
    with torch.no_grad():
        editor.model.model.layers[3].mlp.up_proj.weight.mul_(-1)
    broken = editor.check().broken
    assert {(item.id, item.form) for item in broken} >= {("legs", "raw"), ("legs", "chat")}
    assert all(item.route.edit == item.id and item.answer != item.target for item in broken)
    editor.detach()


# -- refusals


def test_a_store_of_another_model_is_refused(make_editor, make_model, tokenizer, tmp_path):
    path = tmp_path / "a.melo"
    editor = make_editor(edits=[BOOK], store=path)
    print_a = editor.backbone.fingerprint()
    editor.detach()
    other = make_model()
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    with pytest.raises(StoreError) as error:
        Editor.load(path, other, tokenizer)
    assert print_a in str(error.value)
    assert len(set(re.findall("fingerprint ([0-9a-f]{16})", str(error.value)))) == 2
    assert not other._forward_hooks
    Editor(other, tokenizer, MeloConfig(**SETTINGS)).detach()


def test_wrong_names_of_modules_are_answered_with_those_there_are(make_model, tokenizer):
    for family, there in [
        ("llama", r"model\.layers\.\{0\.\.4\}\.mlp\.down_proj"),
        ("gpt2", r"transformer\.h\.\{0\.\.4\}\.mlp\.c_proj"),
    ]:
        model = make_model(family)
        with pytest.raises(ModelError, match=f"no linear module 'nowhere'.*{there}"):
            Editor(model, tokenizer, MeloConfig(modules=["nowhere"]))
        with pytest.raises(ModelError, match="no module 'nowhere' to take keys from"):
            Editor(model, tokenizer, MeloConfig(key_layer="nowhere"))
        prefix = "model.layers" if family == "llama" else "transformer.h"
        with pytest.raises(ModelError, match=rf"key_layer '{prefix}\.3' must lie below"):
            Editor(model, tokenizer, MeloConfig(key_layer=f"{prefix}.3"))
        with pytest.raises(ModelError, match="the first edited layer is layer 0"):
            Editor(model, tokenizer, MeloConfig(layers=5))
        with pytest.raises(ModelError, match="lm_head.*outside the layers"):
            Editor(model, tokenizer, MeloConfig(modules=["lm_head"]))
        assert "generate" not in vars(model) and not model._forward_hooks


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit("word " * 300, "yes"), r"the prompt has \d+ tokens, the model takes 256: shorten"),
        (Edit("word " * 40, "yes " * 80), r"prompt and target have \d+ tokens, the model takes 256"),
        (Edit("Why?", "<s>"), "special token '<s>'"),
        (Edit("Why?", "yes<|im_end|> and no"), r"special token '<\|im_end\|>'"),
        (Edit("Why?", "yes", variants=["word " * 300]), "the prompt has"),
        (Edit("Why?", "yes", quiet=["word " * 300]), "the prompt has"),
    ],
    ids=["prompt", "together", "special", "end", "variant", "quiet"],
)
def test_texts_that_do_not_fit_are_refused_before_training(llama, edit, message):
    revision = llama.store.revision
    with pytest.raises(EditError, match=rf"edit '{edit.id}': .*{message}"):
        llama.edit([LEGS, edit])
    assert llama.store.revision == revision


def test_chat_messages_need_a_template(make_editor, make_tokenizer):
    editor = make_editor(tokenizer=make_tokenizer(None), edits=[BOOK])
    with pytest.raises(EditError, match="need a chat template"):
        editor.edit(RIVER)
    assert answers(editor, BOOK) == ["Jorge"]
    editor.detach()


@pytest.mark.parametrize("kind", [("inst", False), ("chatml", True), (None, True)])
def test_other_tokenizers(make_editor, make_model, make_tokenizer, kind):
    tokenizer = make_tokenizer(*kind)
    model = make_model()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    edits = EDITS if kind[0] else EDITS[:3]
    editor = make_editor(model=model, tokenizer=tokenizer, edits=edits)
    assert answers(editor, *edits) == [edit.target for edit in edits]
    assert editor.check().broken == []
    unrelated = editor.route(make_prompts(300, seed=4))
    assert sum(route.edit is not None for route in unrelated) <= 20
    editor.detach()


def test_an_answer_ends_as_the_form_of_its_prompt_does(make_editor, make_model):
    model = make_model()
    model.generation_config.eos_token_id = [3, 1]  # </s> ends a text, <|im_end|> a turn
    editor = make_editor(model=model, edits=[BOOK])
    raw, chat = editor.backbone.forms(BOOK.prompt)
    assert [editor.backbone.encode_target("Jorge", form)[-1] for form in (raw, chat)] == [3, 1]
    assert editor.check().broken == []
    editor.detach()


# -- calibration


def test_too_few_prompts_to_calibrate_on(make_editor):
    editor = make_editor()
    with pytest.raises(EditError, match="49 different prompts cannot calibrate a .* rate of 0.02: give at least 50"):
        editor.calibrate(make_prompts(49) + make_prompts(49))
    with pytest.raises(EditError, match=r"prompts\[1\] is empty"):
        editor.calibrate(["fine", " "])
    assert editor.store.revision == 1
    editor.detach()


def test_calibrating_anew_keeps_the_edits(make_editor):
    editor = make_editor(edits=EDITS)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a lake."}]
    own = [HISTORY, EDITS[0].prompt + " "]  # the edits' own prompts are to be answered: left out
    traffic = [*make_prompts(60, seed=5), chat, *own]
    editor.calibrate(traffic, source="traffic")
    made = editor.calibration
    assert made.info == {"source": "traffic", "prompts": 61, "keys": len(made.prompts)}
    assert made.of.unique().tolist() == list(range(122)) and len(made.of) > 122  # raw and chat; some have segments
    assert answers(editor, *EDITS) == [edit.target for edit in EDITS]
    assert editor.check().broken == []
    editor.detach()


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_unrelated_prompts_fire_about_as_often_as_stated(make_editor, rate):
    editor = make_editor(false_activation=rate, min_similarity=-1.0, calibration_prompts=600)
    editor.edit([Edit(prompt, "on", id=prompt) for prompt in make_prompts(12, seed=77)])
    fresh = make_prompts(800, seed=78)
    fired = [sum(route.edit is not None for route in editor.route(fresh, form)) for form in ("raw", "chat")]
    assert rate / 2 < sum(fired) / 1600 < rate * 2
    editor.detach()


def test_a_calibration_in_the_cache_is_of_one_tokenizer(make_editor, make_tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path))
    made = []
    for tokenizer in (make_tokenizer(), make_tokenizer(bos=True), make_tokenizer()):
        editor = make_editor(tokenizer=tokenizer)
        editor.calibrate()
        made.append(editor.calibration.prompts)
        editor.detach()
    assert torch.equal(made[0], made[2]) and not torch.allclose(made[0], made[1], atol=1e-2)


def test_a_key_does_not_depend_on_its_batch(edited):
    forms = [form for edit in EDITS for form in edited.backbone.forms(edit.prompt)]
    forms += [edited.backbone.encode(text, "chat") for text in make_prompts(20, seed=6)]
    keys = edited.calibration.whitening
    alone = torch.cat([keys(_pooled(edited, [form])) for form in forms])
    assert torch.allclose(keys(_pooled(edited, forms)), alone, atol=1e-5)


def _pooled(editor, forms):
    states = torch.zeros(len(forms), 32)
    for members, batch in editor.backbone.pack([Example.of(form) for form in forms], 64):
        states[members] = editor.router.pooled(batch)
    return states


# -- asking


def test_ask(edited):
    prompts = [*OTHERS, *[edit.prompt for edit in EDITS], *OTHERS]
    found = edited.ask(prompts, batch_size=4, max_new_tokens=8)
    assert [answer.prompt for answer in found] == prompts
    assert [answer.text for answer in found[3:7]] == [edit.target for edit in EDITS]
    assert [answer.route.edit for answer in found[3:7]] == [edit.id for edit in EDITS]
    assert [answer.text for answer in found[:3]] == [answer.text for answer in found[7:]]
    assert json.loads(json.dumps(found[3].to_dict()))["route"]["edit"] == "book"
    assert found[3].tokens == len(edited.tokenizer(" Jorge")["input_ids"])
    assert edited.ask(RIVER.prompt)[0].text == "very long"
    beams = edited.ask(prompts, batch_size=4, max_new_tokens=8, num_beams=2)
    assert [answer.route.edit for answer in beams] == [answer.route.edit for answer in found]
    with edited.disabled():
        assert {answer.route.reason for answer in edited.ask(prompts[:3])} == {"no edits"}


def test_ask_without_edits(make_editor):
    editor = make_editor()
    (answer,) = editor.ask(OTHERS[0], max_new_tokens=4)
    assert answer.route.reason == "no edits" and answer.route.edit is None
    assert editor.route(OTHERS)[0].reason == "no edits"
    with pytest.raises(EditError, match="empty"):
        editor.ask("  ")
    editor.detach()


# -- other numbers and places


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(make_editor, make_model, tokenizer, dtype, tmp_path):
    path = tmp_path / "a.melo"
    editor = make_editor(model=make_model().to(dtype), edits=EDITS, store=path)
    assert answers(editor, *EDITS) == [edit.target for edit in EDITS]
    assert editor.check().broken == []
    expected = portrait(editor)
    with editor.disabled():
        base = portrait(editor)[0]
    for i, (edit, *_) in enumerate(expected[1]):
        assert torch.equal(expected[0][i], base[i]) == (edit is None)
    editor.detach()
    again = Editor.load(path, make_model().to(dtype), tokenizer)
    assert torch.equal(portrait(again)[0], expected[0])
    again.detach()


def test_a_store_of_blocks_without_positions_takes_in_blocks_with_them(
    make_editor, make_model, tokenizer, tmp_path, monkeypatch
):
    path, to_dict = tmp_path / "old.melo", MeloConfig.to_dict
    with monkeypatch.context() as patch:
        patch.setattr(
            MeloConfig, "to_dict", lambda self: {k: v for k, v in to_dict(self).items() if k != "answer_positions"}
        )
        make_editor(edits=EDITS[:1], store=path, answer_positions=0).detach()
    with Editor.load(path, make_model(), tokenizer) as editor:
        assert all(report.held for report in editor.edit(EDITS[1]))
        name, tensors = editor.config.modules[0], editor.store.tensors()
        without, with_positions = (tensors[edit.id or ""][0] for edit in EDITS[:2])
        assert f"{name}.P" not in without and with_positions[f"{name}.P"].shape[1] == 8
        assert [answer.text for answer in editor.ask([edit.prompt for edit in EDITS[:2]])] == [
            edit.target for edit in EDITS[:2]
        ]


def test_another_dtype_is_the_same_model_with_a_warning(make_editor, make_model, tokenizer, tmp_path, caplog):
    make_editor(edits=[BOOK], store=tmp_path / "a.melo").detach()
    editor = Editor.load(tmp_path / "a.melo", make_model().to(torch.bfloat16), tokenizer)
    assert "torch.float32, the model is in torch.bfloat16" in caplog.text
    assert editor.ask(BOOK.prompt)[0].route.edit == "book"
    editor.detach()


@pytest.fixture
def saved(make_model, tokenizer, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("device_map", ["cpu", "disk"])
def test_a_device_map(saved, device_map, tmp_path):
    kwargs = {"device_map": "cpu"}
    if device_map == "disk":
        places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu", "model.rotary_emb": "cpu"}
        places |= {f"model.layers.{i}": "disk" if i in (1, 3, 4) else "cpu" for i in range(5)}
        kwargs = {"device_map": places, "offload_folder": str(tmp_path / "offload")}
    config = MeloConfig(**SETTINGS)
    with Editor.from_pretrained(str(saved), config, store=tmp_path / "a.melo", **kwargs) as editor:
        assert all(report.held for report in editor.edit(EDITS))
        assert answers(editor, *EDITS) == [edit.target for edit in EDITS]
    with Editor.load(tmp_path / "a.melo") as again:  # from the folder that the store names, without a map
        assert answers(again, *EDITS) == [edit.target for edit in EDITS]
        assert math.isclose(again.route(BOOK.prompt)[0].distance, 0, abs_tol=1e-3)


def test_a_new_store_must_be_new(saved, make_editor, make_model, tokenizer, tmp_path):
    make_editor(store=tmp_path / "a.melo").detach()
    with pytest.raises(StoreError, match=r"a\.melo exists already"):
        Editor.from_pretrained(str(saved), store=tmp_path / "a.melo")
    model = make_model()
    with pytest.raises(StoreError, match=r"a\.melo exists already"):
        Editor(model, tokenizer, store=tmp_path / "a.melo")
    Editor(model, tokenizer, store=tmp_path / "b.melo").detach()


def test_after_detach_nothing_can_be_changed(make_editor):
    editor = make_editor(edits=[BOOK])
    model = editor.detach()
    for change in (lambda: editor.edit(LEGS), lambda: editor.remove("book"), lambda: editor.rollback(1)):
        with pytest.raises(ModelError, match="was detached"):
            change()
    assert not model._forward_hooks


def test_an_edit_that_moves_does_not_lose_the_one_that_takes_its_place(make_editor):
    editor = make_editor(edits=[Edit("What is alpha?", "one", id="x")], train_batch_size=1)
    moved = [Edit("What is beta?", "two", id="x"), Edit("What is alpha?", "three", id="y")]
    reports = editor.edit(moved, replace=True)
    assert [(report.status, report.replaced) for report in reports] == [("stored", []), ("stored", [])]
    assert sorted(stored.edit.id for stored in editor.edits()) == ["x", "y"]
    editor.detach()


def test_the_same_words_as_a_turn_or_with_a_blank_are_the_same_prompt(make_editor):
    editor = make_editor()
    for other in ([{"role": "user", "content": "Name a sea."}], " Name a sea. "):
        with pytest.raises(EditError, match="edit 2 contradicts edit 1"):
            editor.edit([Edit("Name a sea.", "Aral"), Edit(other, "Kara")])
    editor.detach()


def test_a_disabled_edit_says_so_and_metadata_can_be_replaced(make_editor):
    editor = make_editor(edits=[BOOK])
    editor.disable(BOOK.id)
    assert "disabled" in editor.edit(BOOK)[0].reason
    noted = Edit(BOOK.prompt, BOOK.target, id=BOOK.id, metadata={"source": "desk"})
    assert editor.edit(noted)[0].status == "skipped"
    report = editor.edit(noted, replace=True)[0]
    assert (report.status, "disabled" in report.reason) == ("stored", True)
    assert editor.edits()[0].edit.metadata == {"source": "desk"}
    editor.detach()


def test_editing_works_inside_disabled_and_wrong_arguments_are_one_line(make_editor):
    editor = make_editor()
    with editor.disabled():
        assert editor.edit(BOOK)[0].held
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
    editor.detach()


def test_what_read_edits_gives_can_be_edited(make_editor, tmp_path):
    (tmp_path / "facts.jsonl").write_text('{"prompt": "Is it late?", "target": "no", "id": "late"}\n')
    editor = make_editor()
    assert [report.held for report in editor.edit(read_edits(tmp_path / "facts.jsonl"))] == [True]
    assert [stored.edit.id for stored in editor.edits()] == ["late"]
    editor.detach()


def test_a_model_compiled_before_the_edits_routes_to_them(make_editor):
    editor = make_editor()
    compiled = torch.compile(editor.model, backend="eager")
    prompt = editor.tokenizer(EDITS[0].prompt, return_tensors="pt")

    def logits(model):
        with torch.no_grad():
            return model(**prompt).logits

    base = logits(compiled)
    editor.edit(EDITS)
    edited = logits(compiled)
    assert editor.last_routes[0].edit == EDITS[0].id
    assert torch.equal(edited, logits(editor.model)) and not torch.equal(edited, base)
    editor.remove([EDITS[0].id])
    assert torch.equal(logits(compiled), base)
    editor.detach()


def test_a_store_is_opened_by_the_lists_of_its_scope(make_editor, make_model, tokenizer, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("meloedit.engine.live.EVERY", 2)
    path = tmp_path / "facts.melo"
    make_editor(edits=[BOOK, CAPITAL, LEGS], store=path).detach()
    with Editor.load(path, make_model(), tokenizer) as editor:  # changed since: fewer than two edits at a time
        editor.edit(RIVER)
        editor.remove("book")
        expected, similarity = portrait(editor), editor.index.similarity

    def never(self, *args):
        raise AssertionError("every key was looked at")

    with monkeypatch.context() as patched:
        patched.setattr("meloedit.routing.scope.Scope.rescore", never)
        with Editor.load(path, make_model(), tokenizer) as again:
            assert again.index.similarity == pytest.approx(similarity, abs=1e-6)
            logits, routes = portrait(again)
    assert torch.equal(logits, expected[0]) and [r[0] for r in routes] == [r[0] for r in expected[1]]

    forged = {"near": torch.zeros(3, 4), "owner": torch.zeros(3, 4, dtype=torch.int32)}
    for tensors in (forged, {}, {"near": forged["near"]}, {name: t[:, :2] for name, t in forged.items()}):
        with Store.open(path) as store:
            store.keep_lists(tensors)
        with Editor.load(path, make_model(), tokenizer) as again:  # by a look at all keys, then
            assert again.index.similarity == pytest.approx(similarity, abs=1e-6)

    def full(self, tensors):
        raise StoreError("disk is full")

    monkeypatch.setattr("meloedit.store.store.Store.keep_lists", full)
    with Editor.load(path, make_model(), tokenizer) as editor:  # the edits themselves are stored
        assert all(report.held for report in editor.edit([replace(BOOK, id="one"), Edit(OTHERS[0], "Lima")]))
    assert "the change is stored, but not the lists by which the store is opened faster (disk is full)" in caplog.text


def test_what_answers_is_what_is_stored_whatever_threads_change(
    make_editor, make_model, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("meloedit.engine.live.EVERY", 1)
    path = tmp_path / "facts.melo"
    editor = make_editor(edits=[BOOK, CAPITAL, LEGS], store=path)
    live, other, done = editor._live, threading.Thread(target=editor.disable, args=("capital",)), threading.Event()
    changed_since, refresh = Store.changed_since, type(live)._refresh

    def meanwhile(store, revision):
        found, before = changed_since(store, revision), store.revision
        if not other.ident:  # what another thread commits here is not in ``found``, and must not be taken for followed
            other.start()
            for _ in range(30):
                time.sleep(0.01)
                if store.revision > before:
                    break
        return found

    def late(self):
        if threading.current_thread() is other:
            done.wait(1)
        refresh(self)

    monkeypatch.setattr(Store, "changed_since", meanwhile)
    monkeypatch.setattr(type(live), "_refresh", late)
    editor.disable("book")
    done.set()
    other.join()
    assert {stored.edit.id for stored in editor.edits() if stored.enabled} == {"legs"}
    assert {route.nearest for route in editor.route([edit.prompt for edit in EDITS])} == {"legs"}
    similarity = editor.index.similarity
    editor.detach()
    with Editor.load(path, make_model(), tokenizer) as again:
        assert again.store.lists()[1] == {stored.record for stored in again.edits() if stored.enabled}
        assert again.index.similarity == pytest.approx(similarity, abs=1e-6)


def test_the_scope_can_be_set_anew_without_training(make_editor, make_model, tokenizer, tmp_path):
    path = tmp_path / "facts.melo"
    editor = make_editor(edits=[BOOK, CAPITAL], store=path)
    before, first = editor.store.tensors(), editor.store.revision
    usual = editor.index.similarity
    assert editor.calibrate(min_similarity=0.95) == first + 1
    assert editor.index.similarity == pytest.approx(max(0.95, editor.index.calibrated))
    after = editor.store.tensors()
    for name, (block, own) in before.items():
        assert all(torch.equal(block[key], after[name][0][key]) for key in block)
        assert torch.equal(own["keys"], after[name][1]["keys"])
    editor.calibrate(false_activation=0.25)
    assert editor.calibration.info["min_similarity"] == 0.95
    loose = editor.index.calibrated
    editor.detach()
    with Editor.load(path, make_model(), tokenizer) as again:
        assert again.index.similarity == pytest.approx(max(0.95, again.index.calibrated))
        assert again.index.calibrated == pytest.approx(loose, abs=1e-6)
        again.calibrate(make_prompts(60, seed=5))  # other prompts: what was stated of the scope stays
        assert again.calibration.info["prompts"] == 60 and again.index.similarity >= 0.95
        for settings, words in (
            ({"false_activation": 1e-4}, "60 different prompts cannot calibrate"),
            ({"min_similarity": 7.0}, "min_similarity must be None or between -1 and 1"),
            ({"false_activation": math.nan}, "false_activation must be at least"),
        ):
            revision = again.store.revision
            with pytest.raises((EditError, ModelError), match=words):
                again.calibrate(**settings)
            assert again.store.revision == revision
        again.rollback(first)
        assert again.index.similarity == pytest.approx(usual, abs=1e-6)
        assert answers(again, BOOK, CAPITAL) == [BOOK.target, CAPITAL.target]
