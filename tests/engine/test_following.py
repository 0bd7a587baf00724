"""What answers is what the store holds: on opening, and whatever threads change meanwhile."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from support.causal_checks import portrait
from support.prompts import BOOK, CAPITAL, EDITS, LEGS, OTHERS, RIVER
from support.threads import PATIENCE

from meloedit import Edit, Editor
from meloedit.errors import StoreError
from meloedit.store import Store


def test_a_store_is_opened_by_the_lists_of_its_scope(make_editor, make_model, tokenizer, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("meloedit.routing.nearest.CACHE_EVERY", 2)
    path = tmp_path / "facts.melo"
    make_editor(edits=[BOOK, CAPITAL, LEGS], store=path).unload()
    with Editor.from_pretrained(path, make_model(), tokenizer) as editor:  # changes of fewer than two edits
        editor.edit(RIVER)
        editor.remove("book")
        expected, similarity = portrait(editor), editor.index.similarity

    def never(self, *args):
        raise AssertionError("every key was looked at")

    with monkeypatch.context() as patched:
        patched.setattr("meloedit.routing.scope.Scope.rescore", never)
        with Editor.from_pretrained(path, make_model(), tokenizer) as again:
            assert again.index.similarity == pytest.approx(similarity, abs=1e-6)
            logits, routes = portrait(again)
    assert torch.equal(logits, expected[0]) and [r[0] for r in routes] == [r[0] for r in expected[1]]

    forged = {"near": torch.zeros(3, 4), "owner": torch.zeros(3, 4, dtype=torch.int32)}
    for tensors in (forged, {}, {"near": forged["near"]}, {name: t[:, :2] for name, t in forged.items()}):
        with Store.open(path) as store:
            store.keep_scope_cache(tensors)
        with Editor.from_pretrained(path, make_model(), tokenizer) as again:  # by a look at all keys, then
            assert again.index.similarity == pytest.approx(similarity, abs=1e-6)

    def full(self, tensors):
        raise StoreError("disk is full")

    monkeypatch.setattr("meloedit.store.Store.keep_scope_cache", full)
    with Editor.from_pretrained(path, make_model(), tokenizer) as editor:  # the edits themselves are stored
        assert all(report.holds for report in editor.edit([replace(BOOK, id="one"), Edit(OTHERS[0], "Lima")]))
    assert "the change is stored, but not the scope's cache, which makes opening faster (disk is full)" in caplog.text


def test_what_answers_is_what_is_stored_whatever_threads_change(
    make_editor, make_model, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("meloedit.routing.nearest.CACHE_EVERY", 1)
    path = tmp_path / "facts.melo"
    editor = make_editor(edits=[BOOK, CAPITAL, LEGS], store=path)
    engine, other = editor.engine, threading.Thread(target=editor.disable, args=("capital",))
    arrived, done = threading.Event(), threading.Event()
    changed_since, writing, refresh = Store.changed_since, Store.writing, type(engine)._refresh

    def arriving(store):
        if threading.current_thread() is other:
            arrived.set()
        return writing(store)

    def meanwhile(store, revision):
        found, before = changed_since(store, revision), store.revision
        if not other.ident:  # what another thread commits here is not in ``found``, and must not be taken for followed
            other.start()
            assert arrived.wait(PATIENCE)
            for _ in range(30):  # where nothing keeps the other thread from committing, it does so now
                time.sleep(0.01)
                if store.revision > before:
                    break
        return found

    def late(self):
        if threading.current_thread() is other:
            assert done.wait(PATIENCE)
        refresh(self)

    monkeypatch.setattr(Store, "writing", arriving)
    monkeypatch.setattr(Store, "changed_since", meanwhile)
    monkeypatch.setattr(type(engine), "_refresh", late)
    editor.disable("book")
    done.set()
    other.join()
    assert {stored.edit.id for stored in editor.edits() if stored.enabled} == {"legs"}
    assert {route.nearest for route in editor.route([edit.prompt for edit in EDITS])} == {"legs"}
    similarity = editor.index.similarity
    editor.unload()
    with Editor.from_pretrained(path, make_model(), tokenizer) as again:
        assert again.store.scope_cache()[1] == {stored.record for stored in again.edits() if stored.enabled}
        assert again.index.similarity == pytest.approx(similarity, abs=1e-6)


def test_an_editor_follows_another_process_by_one_call(make_editor, make_model, tokenizer, tmp_path):
    path = tmp_path / "facts.melo"
    editor = make_editor(edits=[BOOK, CAPITAL], store=path)
    prompts = [BOOK.prompt, CAPITAL.prompt, LEGS.prompt]
    with Editor.from_pretrained(path, make_model(), tokenizer) as other:
        editor.edit(LEGS)
        editor.remove("book")
        assert [route.edit for route in other.route(prompts)] == ["book", "capital", None]
        assert other.refresh() == editor.store.revision == other.refresh()
        assert [route.edit for route in other.route(prompts)] == [None, "capital", "legs"]
        other.calibrate(min_similarity=0.8)  # and may write again
        assert editor.refresh() == other.store.revision
        assert editor.calibration.info["min_similarity"] == 0.8
        assert [route.edit for route in editor.route(prompts)] == [None, "capital", "legs"]
    editor.unload()
