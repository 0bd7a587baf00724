"""A change that is stopped after it was stored: what answers follows the store all the same, with the next call."""

import os
import shutil
import sqlite3
import threading

import pytest
import torch
from support.prompts import BOOK, CAPITAL, FACTS, LEGS
from support.store_cases import posix

from meloedit import Editor
from meloedit.callers.fork_lock import ForkLock
from meloedit.errors import StoreError

STOPS = [KeyboardInterrupt, MemoryError]
PLACES = [
    "meloedit.following.live.Live._follow_blocks",
    "meloedit.hooks.bank.Slab.add_all",
    "meloedit.routing.nearest.NearestPolicy.follow",
    "meloedit.routing.index.NeuronIndex.add_all",
    "meloedit.routing.index.NeuronIndex.remove",
    "meloedit.routing.scope.Scope.add",
    "meloedit.following.lookup.PromptLookup.follow",
    "meloedit.store.store.Store.block_stacks",
    "meloedit.store.store.Store.key_stacks",
]
CHANGES = {
    "edit": lambda editor: editor.edit(LEGS),
    "replace": lambda editor: editor.edit({"id": "book", "prompt": BOOK.prompt, "target": "Lima"}, replace=True),
    "remove": lambda editor: editor.remove("book"),
    "disable": lambda editor: editor.disable("book"),
    "allow": lambda editor: editor.allow("book", "The book of sand is by whom?"),
    "calibrate": lambda editor: editor.calibrate(min_similarity=0.6),
    "rollback": lambda editor: editor.rollback(2),
}


def stop_after_commit(patch, place, stop):
    """Let the next call of a function that follows a commit be stopped once, before or after its work."""
    name, method = place.rsplit(".", 1)
    module, owner = name.rsplit(".", 1)
    whole = getattr(getattr(__import__(module, fromlist=[owner]), owner), method)
    commits = []
    commit = __import__("meloedit.store.store", fromlist=["Store"]).Store._commit

    def committed(self, *args):
        revision = commit(self, *args)
        commits.append(revision)
        return revision

    def stopped(self, *args, **kwargs):
        if commits:
            patch.undo()
            if len(args) % 2:  # some before, some after
                whole(self, *args, **kwargs)
            raise stop
        return whole(self, *args, **kwargs)

    patch.setattr("meloedit.store.store.Store._commit", committed)
    patch.setattr(place, stopped)


def state(editor):
    """Return what an editor answers, and knows."""
    prompts = [edit.prompt for edit in FACTS]
    routes = [(route.edit, route.reason) for route in editor.route(prompts)]
    answers = [answer.text for answer in editor.ask(prompts)]
    return routes, answers, editor.threshold, sorted(editor.engine.prompts.ids), len(editor.engine.router.bank)


QUICK = [("edit", 0), ("remove", 2), ("calibrate", 3), ("disable", 6)]
CASES = [
    pytest.param(change, place, marks=[] if (change, number) in QUICK else pytest.mark.slow)
    for number, place in enumerate(PLACES)
    for change in CHANGES
]


@pytest.fixture(scope="module")
def stored(make_editor, tmp_path_factory):
    """A store with two edits, to be copied."""
    path = tmp_path_factory.mktemp("stored") / "facts.melo"
    make_editor(edits=[BOOK, CAPITAL], store=path).unload()
    return path


@pytest.fixture(scope="module")
def base(make_model):
    """A model that the tests hook one after another."""
    return make_model()


@pytest.mark.parametrize(("change", "place"), CASES)
def test_a_change_stopped_after_its_commit_is_followed_by_the_next_call(
    change, place, stored, base, tokenizer, tmp_path
):
    path, stop = shutil.copy(stored, tmp_path / "facts.melo"), STOPS[len(change + place) % 2]
    editor = Editor.from_pretrained(path, base, tokenizer)
    revision = editor.store.revision
    with pytest.MonkeyPatch.context() as patch:
        stop_after_commit(patch, place, stop)
        try:
            CHANGES[change](editor)
            stopped = False
        except stop:
            stopped = True
    assert editor.store.revision == revision + 1  # it is stored
    found = state(editor)
    editor.unload()
    with Editor.from_pretrained(path, base, tokenizer) as again:
        assert state(again) == found
        assert stopped or change != "edit" or "remove" in place


def test_ctrl_c_in_the_commit_itself_is_before_or_after_it(stored, base, tokenizer, tmp_path, monkeypatch):
    class Stopping(sqlite3.Connection):
        when = None

        def execute(self, sql, *args):
            if sql == "COMMIT" and Stopping.when == "before":
                raise KeyboardInterrupt
            result = super().execute(sql, *args)
            if sql == "COMMIT" and Stopping.when == "after":
                raise KeyboardInterrupt
            return result

    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *args, **kwargs: connect(*args, **kwargs | {"factory": Stopping}))
    editor = Editor.from_pretrained(shutil.copy(stored, tmp_path / "facts.melo"), base, tokenizer)
    for when, left in (("before", ["book", "capital"]), ("after", ["capital"])):
        Stopping.when = when
        with pytest.raises(KeyboardInterrupt):
            editor.remove("book")
        Stopping.when = None
        assert [stored.edit.id for stored in editor] == left
        assert [route.edit for route in editor.route([BOOK.prompt, CAPITAL.prompt])] == [
            edit_id if edit_id in left else None for edit_id in ("book", "capital")
        ]
    editor.edit(LEGS)
    assert [answer.text for answer in editor.ask([LEGS.prompt, CAPITAL.prompt])] == ["eight", "Lima"]
    editor.unload()


def test_an_editor_that_cannot_follow_its_store_says_so_until_it_can(stored, base, tokenizer, tmp_path, monkeypatch):
    editor = Editor.from_pretrained(shutil.copy(stored, tmp_path / "facts.melo"), base, tokenizer)
    inputs = tokenizer(CAPITAL.prompt, return_tensors="pt")
    with monkeypatch.context() as patch:

        def damaged(self, records):
            raise StoreError("the store is damaged")

        patch.setattr("meloedit.store.store.Store.block_stacks", damaged)
        with pytest.raises(StoreError, match="is damaged"):
            editor.edit(LEGS)
        for use in (
            lambda: editor.ask(CAPITAL.prompt),
            lambda: editor.route(CAPITAL.prompt),
            lambda: editor.model.generate(**inputs, max_new_tokens=2),
            lambda: editor.model(**inputs),
            lambda: editor.remove("book"),
        ):
            with pytest.raises(StoreError, match="is damaged"):
                use()  # and no base answer in place of an edit's
    assert [answer.text for answer in editor.ask([CAPITAL.prompt, LEGS.prompt])] == ["Lima", "eight"]
    editor.unload()


@posix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_while_a_thread_holds_the_locks_answers(llama):
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with llama.engine._changing, llama.engine.lock:
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    child = os.fork()
    if not child:
        code = 1
        try:
            threads, found = torch.get_num_threads(), llama.ask(BOOK.prompt)[0]
            code = 0 if threads and (found.text, found.route.edit) == ("Jorge", "book") else 2
        finally:
            os._exit(code)
    leave.set()
    thread.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_lock_is_its_own_threads_again():
    lock = ForkLock()
    with lock, lock:
        assert lock.acquire(blocking=False)
        lock.release()
        other = []
        thread = threading.Thread(target=lambda: other.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        assert other == [False]
