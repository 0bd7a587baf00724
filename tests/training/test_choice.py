"""Steps that look at the likeliest tokens alone learn as steps that look at all, and no edit leaves on such a step."""

import pytest
import torch
from support.prompts import EDITS
from support.training import rows_of, train
from torch import nn
from torch.nn.functional import cross_entropy

from meloedit import Edit
from meloedit.training import choice, passes, replay
from meloedit.training.choice import Choice, plain_head

BOATS = Edit("Where do the boats of the old town lie?", "by the mill", id="boats")


@pytest.fixture
def few(monkeypatch):
    """The tiny models have 400 tokens: few enough are looked at."""
    monkeypatch.setattr(choice, "LIKELIEST", 4)


@pytest.fixture
def looked(monkeypatch):
    """Whether each look of a batch at its learning logits was at some tokens alone, in order."""
    seen = []
    look = replay.MicroBatch.look

    def spy(batch, states):
        seen.append(batch.choice is not None)
        return look(batch, states)

    monkeypatch.setattr(replay.MicroBatch, "look", spy)
    return seen


def test_what_is_looked_at_weighs_what_it_weighs_among_all(few):
    head, targets = nn.Linear(8, 300), torch.tensor([7, 250, 7])
    states = torch.randn(3, 8, generator=torch.manual_seed(1))
    logits = head(states).detach()
    chosen = Choice.of(head, logits, targets)
    read = chosen.read(states)
    loss = [cross_entropy(x, t) for x, t in ((read, chosen.targets), (logits, targets))]
    assert read.shape[1] < 20 and torch.allclose(*loss, atol=1e-5)
    for i in range(3):
        near = {*logits[i].topk(4).indices.tolist(), int(targets[i])}
        assert int(read[i, :-1].isfinite().sum()) == len(near)
        assert sorted(read[i, :-1][chosen.own[i]].tolist()) == pytest.approx(
            sorted(logits[i, list(near)].tolist()), abs=1e-5
        )
    part = chosen.select(torch.tensor([False, True, True]))
    again = part.read(states[1:])
    assert again.shape[1] < read.shape[1]
    assert torch.allclose(cross_entropy(again, part.targets), cross_entropy(read[1:], chosen.targets[1:]))


def test_all_is_looked_at_where_little_would_be_left_out(few):
    head = nn.Linear(8, 30)
    assert Choice.of(head, head(torch.randn(2, 8)), torch.tensor([1, 2])) is None
    head = nn.Linear(8, 64, bias=False)
    assert Choice.of(head, head(torch.randn(40, 8)), torch.arange(40)) is None  # their targets alone are most of it


def test_what_serves_as_well_counts_as_the_target(few):
    head, targets, others = nn.Linear(8, 300), torch.tensor([7, 250, 7]), torch.tensor([9, 250, 7])
    states = torch.randn(3, 8, generator=torch.manual_seed(1))
    logits = head(states).detach()
    chosen = Choice.of(head, logits, targets, others)
    for one, at, other in (
        (logits, targets, others),
        (chosen.read(states), chosen.targets, chosen.others),
    ):
        both = replay.merged(one, at, other).softmax(1)
        assert both[0, at[0]].item() == pytest.approx(float(logits.softmax(1)[0, [7, 9]].sum()), abs=1e-5)
        assert both[0, other[0]] == 0 and torch.allclose(both[1:], one.softmax(1)[1:])


def test_heads_of_other_kinds_are_read_whole(llama):
    assert plain_head(llama.model) is llama.model.get_output_embeddings()
    handle = llama.model.get_output_embeddings().register_forward_hook(lambda module, args, output: output)
    assert plain_head(llama.model) is None
    handle.remove()


def test_edits_learn_as_with_the_whole_vocabulary(make_editor, looked, monkeypatch):
    editor = make_editor()
    edits = [*EDITS[:3], BOATS]
    whole = train(editor, edits)
    assert not any(looked)
    looked.clear()
    monkeypatch.setattr(choice, "LIKELIEST", 8)
    some = train(editor, edits)
    assert all(looked) and all(one.holds for one in (*whole, *some))
    assert max(one.steps for one in some) <= 1.5 * max(one.steps for one in whole)
    for edit, result in zip(edits, some, strict=True):  # what it says of itself is true of the whole vocabulary
        (scores,) = [passes.Scores(1)]
        (batch,) = replay.micro_batches(editor.engine.router, [(edit.id, rows_of(editor, edit))], editor.config)
        rows = passes.of_rows(stacked(result.block), torch.tensor([0]), batch)
        with torch.no_grad():
            scores.add(batch.replay.logits(rows), batch.replay.batch, batch.edits)
        found = scores.per_edit()
        assert bool(found.exact) and float(found.token) == pytest.approx(result.confidence, abs=1e-3)
        assert float(found.token) >= 0.5 and float(found.loss) == pytest.approx(result.loss, abs=1e-3)
    editor.unload()


def stacked(block):
    return {name: type(factors)(*(factor.float()[None] for factor in factors)) for name, factors in block.items()}


def test_an_edit_learns_the_same_beside_others(make_editor, few, looked):
    editor = make_editor()
    (alone,), together = train(editor, [BOATS], steps=6), train(editor, [EDITS[0], BOATS], steps=6)
    assert all(looked) and alone.losses == pytest.approx(together[1].losses, rel=1e-3)
    editor.unload()


def test_nothing_leaves_on_an_estimate(make_editor, monkeypatch):
    editor = make_editor()
    asked = []
    sure = passes.Look.sure

    def never(look, edits):
        asked.append(len(edits))
        return sure(look, edits)._replace(exact=torch.zeros(len(look.scores.exact), dtype=torch.bool))

    monkeypatch.setattr(choice, "LIKELIEST", 8)
    monkeypatch.setattr("meloedit.training.trainer.LOOK_AGAIN", 5)
    held = {}
    for name in ("sure", "never"):
        asked.clear()
        monkeypatch.setattr(passes.Look, "sure", sure if name == "sure" else never)
        held[name] = train(editor, EDITS[:3], steps=60, max_rank=2)
    assert asked and all(one.holds and one.steps % 5 == 0 for one in held["never"])  # a look at all, and no other
    assert any(one.steps % 5 for one in held["sure"])
    editor.unload()


def test_a_model_that_ships_a_penalty_is_looked_at_as_a_whole(make_editor, make_model, few, looked):
    model = make_model()
    model.generation_config.repetition_penalty = 1.2
    editor = make_editor(model=model)
    train(editor, [EDITS[0]], steps=3, max_rank=2)
    assert looked and not any(looked)
    editor.unload()
