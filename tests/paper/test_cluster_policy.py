"""Paper mode: batches and the cluster index as edits come, conflict, go and come back."""

import logging
import random

import pytest
import torch
from support.paper_cases import CASES, FAMILIES, QUESTIONS, edits_of, portrait, reopened, same_index
from support.prompts import OTHERS

from meloedit import Edit
from meloedit.errors import EditError


def test_smaller_batches_and_those_declared(make_paper):
    editor = make_paper("bert", edits_per_block=3, steps=2)
    editor.edit(CASES, edits_per_block=1)
    assert [stored.holder for stored in editor.edits()] == [1, 2, 3, 4]
    editor.edit([Edit(f"{OTHERS[0]} {i}", "tax", id=str(i)) for i in range(5)])
    assert [stored.holder for stored in editor.edits()[4:]] == [5, 5, 5, 8, 8]
    assert [len(revision.changes) for revision in editor.history()[2:]] == [1, 1, 1, 1, 3, 2]
    revision = editor.store.revision
    message = "4 edits are more than a block is declared for: edits_per_block is 3"
    with pytest.raises(EditError, match=message):
        editor.edit(Edit(OTHERS[1], "tax"), edits_per_block=4)
    for wrong in (0, -1, "2", 1.0):
        with pytest.raises(EditError, match="edits_per_block must be (a positive|an) integer"):
            editor.edit(Edit(OTHERS[1], "tax"), edits_per_block=wrong)
    assert editor.store.revision == revision
    editor.unload()


def test_a_batch_size_means_nothing_in_the_default_mode(make_source_editor):
    editor = make_source_editor("bert")
    with pytest.raises(EditError, match="edits_per_block: every edit has a block of its own in the default mode"):
        editor.edit(CASES, edits_per_block=2)
    editor.unload()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_stays_while_one_of_its_edits_lives(make_paper, make_model, make_source, family, tmp_path):
    path = tmp_path / "a.melo"
    editor = make_paper(family, edits_of(family), store=path)
    prompts, targets = list(QUESTIONS.values()), [edit.target for edit in edits_of(family)]
    with editor.base_model():
        base = [answer.text for answer in editor.ask(prompts, max_new_tokens=8)]
    before = portrait(editor)
    editor.remove("a")  # its record holds the block of b
    assert editor.engine.router.bank.owners == {1, 3}
    expected = [base[0], *targets[1:]]
    assert [answer.text for answer in editor.ask(prompts, max_new_tokens=8)] == expected
    again = reopened(editor, make_model, make_source, path)
    assert [answer.text for answer in again.ask(prompts, max_new_tokens=8)] == expected
    assert again.engine.router.bank.owners == {1, 3} and again.check().problems == []
    again.unload()
    editor.disable("c")
    assert editor.engine.router.bank.owners == {1, 3}
    editor.disable("d")
    assert editor.engine.router.bank.owners == {1}
    editor.remove(["b"])
    assert editor.engine.router.bank.owners == set() and len(editor.engine.router.bank) == 0
    assert [answer.text for answer in editor.ask(prompts, max_new_tokens=8)] == base
    assert {route.reason for route in editor.route(prompts)} == {"no edits"}
    editor.enable(["c", "d"])
    assert [answer.text for answer in editor.ask(prompts, max_new_tokens=8)] == [*base[:2], *targets[2:]]
    editor.rollback(4)
    found = portrait(editor)
    assert torch.equal(found[0], before[0]) and found[1] == before[1]
    editor.unload()


def test_parts_are_stored_as_they_finish(make_paper):
    editor = make_paper("bert", steps=2)
    parts = editor.edit_in_parts(CASES)
    assert [report.id for report in next(parts)] == ["a", "b"]
    parts.close()  # as when a run is interrupted
    assert [stored.edit.id for stored in editor.edits()] == ["a", "b"]
    assert editor.index.counts["keys"] == 2
    assert [report.status for report in editor.edit(CASES)] == ["skipped", "skipped", "stored", "stored"]
    assert [stored.holder for stored in editor.edits()] == [1, 1, 3, 3]
    editor.unload()


@pytest.fixture
def conflict(make_paper):
    """Two edits of one answer, near each other, then one of another answer that takes the second one's place."""
    together = [Edit(QUESTIONS["c"], "eight", id="c"), Edit("Is it late?", "eight", id="late")]
    editor = make_paper("t5-gated", together, steps=2, radius=1.0)
    keys = editor.keys([QUESTIONS["c"], "Is it late?", QUESTIONS["b"]])
    near, far = float((keys[1] - keys[0]).norm()), float((keys[2] - keys[0]).norm())
    editor.unload()
    # The second joins the first one's cluster, which reaches it; the third halves the way to the cluster's centre.
    assert far / 2 < near <= 2 * 0.6 * near and far <= near + 0.6 * near
    editor = make_paper("t5-gated", together, steps=2, radius=0.6 * near)
    yield editor, near, far
    editor.unload()


def test_a_conflict_forgets_edits_counts_them_and_says_so(conflict, caplog):
    editor, near, far = conflict
    assert editor.index.counts == {"clusters": 1, "keys": 2, "conflicts": 0, "forgotten": 0}
    assert editor.index.statistics() == {"label": ["eight"], "radius": [pytest.approx(near)], "keys": [2]}
    assert [route.edit for route in editor.route([QUESTIONS["c"], "Is it late?"])] == ["c", "late"]
    revision = editor.store.revision
    with caplog.at_level(logging.WARNING):
        editor.edit(Edit(QUESTIONS["b"], "Lima", id="b"))
    assert "the index forgot 1 keys in conflicts with new edits: late" in caplog.text
    assert editor.index.counts == {"clusters": 2, "keys": 2, "conflicts": 1, "forgotten": 1}
    assert editor.index.statistics()["radius"] == pytest.approx([far / 2, far / 2])
    prompts = [QUESTIONS["c"], "Is it late?", QUESTIONS["b"]]
    assert [route.edit for route in editor.route(prompts)] == ["c", None, "b"]
    assert [stored.edit.id for stored in editor.edits()] == ["c", "late", "b"]  # it is not lost from the store
    assert "late" in {broken.id for broken in editor.check().broken}
    editor.remove("b")  # what was forgotten does not come back by itself
    assert [route.edit for route in editor.route(prompts)][:2] == ["c", None]
    editor.rollback(revision)
    assert [route.edit for route in editor.route(prompts)][:2] == ["c", "late"]
    assert editor.index.counts == {"clusters": 1, "keys": 2, "conflicts": 0, "forgotten": 0}


def test_a_new_answer_to_the_same_prompt_takes_its_place(make_paper):
    editor = make_paper("bert", CASES[:2])
    (report,) = editor.edit(Edit(QUESTIONS["a"], "crime", id="new"))
    assert report.replaced == ["a"]
    assert [stored.edit.id for stored in editor.edits()] == ["b", "new"]
    assert [answer.text for answer in editor.ask([QUESTIONS["a"], QUESTIONS["b"]])] == ["crime", "economy"]
    assert editor.index.counts == {"clusters": 2, "keys": 2, "conflicts": 0, "forgotten": 0}
    editor.unload()


POOL = ["What is up?", "What is down?", "Is it late?", "Is it early?", "Who sings?", "Who is it?", "Is she up?"]


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {}),
        ("bert", {"expand": "reference"}),
        ("bert", {"reference_quirks": True}),
        ("t5-gated", {}),
        ("gpt2", {"expand": "reference"}),
    ],
)
def test_whatever_happens_a_rollback_and_a_reopened_store_have_the_very_index(
    make_paper, make_model, make_source, family, settings, tmp_path
):
    targets = ("tax", "crime") if family == "bert" else ("Lima", "eight")
    radius = {"bert": 10.0, "t5-gated": 0.8, "gpt2": 17.0}[family]
    counted = {"conflicts": 0, "forgotten": 0, "rollback": 0}
    for seed in range(4):
        draw, path = random.Random(f"{family}/{seed}"), tmp_path / f"{seed}.melo"
        editor = make_paper(family, store=path, radius=radius, edits_per_block=3, steps=1, **settings)
        states, looks = {1: editor.index.state()}, {1: portrait(editor)}
        for _ in range(10):
            there = [stored.edit.id for stored in editor.edits()]
            do = draw.choice(["edit", "edit", "edit", "remove", "disable", "enable", "replace", "rollback"])
            if do == "edit":
                prompts = draw.sample(POOL, draw.randint(1, 4))
                new = [Edit(prompt, draw.choice(targets), id=prompt, variants=[prompt + " Say."]) for prompt in prompts]
                editor.edit([edit for edit in new if edit.id not in there])
            elif do == "replace" and there:
                prompt = draw.choice(there)
                old = editor.store.get(prompt).edit.target
                editor.edit(Edit(prompt, next(t for t in targets if t != old), id=prompt), replace=True)
            elif do == "rollback":
                to = draw.randint(1, editor.store.revision)
                editor.rollback(to)
                counted["rollback"] += 1
                if to in states:
                    assert same_index(editor.index.state(), states[to])
                    found = portrait(editor)
                    assert torch.equal(found[0], looks[to][0]) and found[1] == looks[to][1]
            elif do in ("remove", "disable", "enable") and there:
                getattr(editor, do)(draw.sample(there, draw.randint(1, len(there))))
            states[editor.store.revision], looks[editor.store.revision] = editor.index.state(), portrait(editor)
        again = reopened(editor, make_model, make_source, path)
        assert same_index(again.index.state(), editor.index.state())
        assert again.engine.router.bank.owners == editor.engine.router.bank.owners
        found, expected = portrait(again), portrait(editor)
        assert torch.equal(found[0], expected[0]) and found[1] == expected[1]
        counted["conflicts"] += max(values["tally"]["conflicts"] for _, values in states.values())
        counted["forgotten"] += max(len(values["forgotten"]) for _, values in states.values())
        again.unload()
        assert editor.check().problems == []
        editor.unload()
    assert min(counted.values()) > 0, counted  # the sequences are such that something is at stake
