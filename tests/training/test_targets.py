"""Long targets, rewordings that a block is tried in, and penalties that a model ships."""

from dataclasses import replace

import pytest
import torch
from support.model_calls import generate
from support.prompts import EDITS, SETTINGS
from support.training import rows_of, train
from transformers import GenerationConfig, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from meloedit import Edit, Editor
from meloedit.backbones.batch import Example
from meloedit.training import passes, replay
from meloedit.training.penalties import Penalties
from meloedit.training.trainer import Trainer
from meloedit.trying.rewordings import made_rewordings

SERIAL = Edit("What is the number of the pump?", "SN 0009 8812 3307 4415", id="serial")


BOATS = Edit("Where do the boats of the old town lie?", "by the mill", id="boats")
SLOWLY = {"lr": 0.03, "steps": 300, "max_rank": 2}


@pytest.fixture(scope="module")
def editor(make_editor):
    editor = make_editor(edits=[])
    for site in (*editor.engine.router.bank.sites, *editor.engine.mode.trainer.sites):
        object.__setattr__(site, "position_rate", 4.0)  # as of a real model: what is learned of positions shows
    assert all(report.holds for report in editor.edit([EDITS[0], SERIAL]))
    yield editor
    editor.unload()


def test_a_long_target_has_an_input_for_each_of_its_tokens(editor, make_model, tokenizer, tmp_path):
    name = editor.config.modules[0]
    blocks = {edit_id: tensors[0] for edit_id, tensors in editor.store.tensors().items()}
    tokens = len(editor.backbone.encode_target(SERIAL.target, editor.backbone.encode(SERIAL.prompt)))
    assert 16 < tokens <= 32
    assert blocks["book"][f"{name}.P"].shape[1] == 8 and blocks["serial"][f"{name}.P"].shape[1] == 32
    assert blocks["serial"][f"{name}.P"][:, 8 : tokens - 1].any(0).all()
    # blocks of both shapes answer in one batch, also after the store is opened again
    editor.save(tmp_path / "both.melo")
    with Editor.from_pretrained(tmp_path / "both.melo", make_model(), tokenizer) as again:
        for one in (editor, again):
            answers = one.ask([SERIAL.prompt, EDITS[0].prompt], max_new_tokens=40)
            assert [answer.text for answer in answers] == [SERIAL.target, "Jorge"]


def test_positions_are_cut_off_at_the_largest_number(editor):
    for most, positions in ((8, 8), (20, 20), (0, 8), (1024, 32)):
        trained = train(editor, [EDITS[0], SERIAL], max_answer_positions=most, steps=1, max_rank=2)
        assert [factors.p.shape[1] for one in trained for factors in one.block.values()][::3] == [8, positions]
    (plain,) = train(editor, [SERIAL], answer_positions=0, steps=1, max_rank=2)
    assert all(not factors.p.numel() for factors in plain.block.values())


def test_the_block_of_a_short_target_does_not_feel_the_long_one_beside_it(editor):
    alone, together = train(editor, [EDITS[0]], steps=6)[0], train(editor, [EDITS[0], SERIAL], steps=6)[0]
    for name, factors in alone.block.items():
        for one, other in zip(factors, together.block[name], strict=True):
            assert torch.allclose(one, other, atol=2e-3)
    assert alone.losses == pytest.approx(together.losses, rel=1e-3)


@torch.no_grad()
def whole_probability(editor, result, rows):
    """Return the probability of the whole target in each row, with a block, by a literal product."""
    editor.engine.router.bank.add(10**6, result.block, "answer")
    probabilities = []
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.target[:-1]]])
        blocks = editor.engine.router.bank.gather([10**6], [len(row.prompt) - 1])
        with editor.engine.router.use_blocks(blocks):
            logits = editor.model(ids, use_cache=False).logits[0, len(row.prompt) - 1 :]
        chosen = logits.softmax(1)[torch.arange(len(row.target)), row.target]
        probabilities.append((float(chosen.prod()), float(chosen.min())))
    editor.engine.router.bank.remove([10**6])
    return probabilities


def test_an_edit_leaves_training_once_the_whole_target_is_likely(editor):
    rows = rows_of(editor, BOATS)
    reached = []
    for least in (0.0, 0.6):
        (result,) = train(editor, [BOATS], min_answer_probability=least, **SLOWLY)
        probabilities = whole_probability(editor, result, rows)
        assert result.holds and result.confidence == pytest.approx(min(least for _, least in probabilities), abs=1e-3)
        reached.append(min(whole for whole, _ in probabilities))
    assert reached[0] < 0.6 <= reached[1]


def test_a_block_is_trained_on_the_rewordings_that_it_fails_in(editor):
    edit, own, backbone = BOATS, rows_of(editor, BOATS), editor.backbone
    reworded = [backbone.encode(text) for text in ("boats of the old town", "Hello! One question: is it late?")]
    extra = [Example.of(form, backbone.encode_target(edit.target, form)) for form in reworded]
    trainer = Trainer(editor.engine.router, replace(editor.config, min_tried_probability=0.5))
    (without,) = trainer.train([(edit.id, own)])
    before = [least for _, least in whole_probability(editor, without, extra)]
    assert min(before) < 0.5  # or this test would show nothing
    (tried,) = trainer.train([(edit.id, [*own, *(replace(row, tried=True) for row in extra)])])
    after = [least for _, least in whole_probability(editor, tried, [*own, *extra])]
    assert tried.holds and min(after) >= 0.5 and tried.steps > without.steps
    assert tried.confidence == pytest.approx(min(after), abs=1e-3)
    with pytest.MonkeyPatch.context() as patch:  # an edit that never holds there does not hold
        patch.setattr(passes.Scores, "last_fails", lambda scores, least: torch.ones_like(scores._exact[-1]))
        untaught = replace(trainer.config, steps=without.steps, max_rank=2)
        (failed,) = Trainer(editor.engine.router, untaught).train(
            [(edit.id, [*own, *(replace(row, tried=True) for row in extra)])]
        )
    assert not failed.holds


def test_certain_tokens_of_long_targets_are_left_out_of_most_steps(editor, monkeypatch):
    scored = []
    add = passes.Scores.add

    def counted(scores, logits, *args, **kwargs):
        scored.extend([len(logits)] if logits.requires_grad else [])
        return add(scores, logits, *args, **kwargs)

    monkeypatch.setattr(passes.Scores, "add", counted)
    monkeypatch.setattr(replay, "LONG", 3)
    results = {}
    for certain in (0.8, 2.0):
        monkeypatch.setattr(replay, "CERTAIN", certain)
        scored.clear()
        results[certain] = (
            train(editor, [BOATS, EDITS[0]], min_answer_probability=0.6, **SLOWLY),
            sum(scored) / len(scored),
        )
        assert all(one.holds for one in results[certain][0])
    assert results[0.8][1] < results[2.0][1]
    probabilities = whole_probability(editor, results[0.8][0][0], rows_of(editor, BOATS))
    assert min(whole for whole, _ in probabilities) >= 0.6  # nothing leaves on a look at a part


def test_rows_that_go_take_their_open_positions_along(editor):
    rows = [*rows_of(editor, SERIAL), *rows_of(editor, EDITS[0])]
    (batch,) = replay.micro_batches(editor.engine.router, [("a", rows[:2]), ("b", rows[2:])], editor.config)
    flat = batch.replay.batch.flat_targets
    batch.open = torch.arange(0, len(flat), 3)
    kept = batch.of(torch.tensor([1]))
    inside = [i for i in batch.open.tolist() if batch.edits[batch.replay.batch.flat_rows[i]] == 1]
    assert kept.replay.batch.flat_targets[kept.open].tolist() == flat[inside].tolist() and inside
    taken = batch.take(batch.edits == 0)
    assert len(taken.open) + len(batch.open) == len(torch.arange(0, len(flat), 3))


def test_penalties_are_those_of_generate(editor, monkeypatch):
    settings = GenerationConfig(repetition_penalty=1.3, no_repeat_ngram_size=2)
    monkeypatch.setattr(editor.model, "generation_config", settings)
    penalties = Penalties(editor.backbone)
    rows = [*rows_of(editor, SERIAL), *rows_of(editor, EDITS[1])]
    batch = editor.backbone.pad(rows)
    logits = torch.randn(len(batch.flat_rows), editor.model.config.vocab_size, generator=torch.manual_seed(0))
    applied, at = penalties.applied(logits, batch), 0
    ngram, repetition = NoRepeatNGramLogitsProcessor(2), RepetitionPenaltyLogitsProcessor(1.3)
    for row in rows:
        forbidden = False
        for i, token in enumerate(row.target):
            ids = torch.tensor([[editor.backbone.pad_id] * 2 + row.prompt + row.target[:i]])
            assert torch.equal(applied[at], repetition(ids, logits[at][None].clone())[0])
            forbidden |= bool(ngram(ids[:, 2:], logits[at][None].clone())[0, token].isinf())
            at += 1
        assert bool(penalties.forbids([row])) == forbidden
    some = torch.tensor([1, 5, len(logits) - 1])
    assert torch.equal(penalties.applied(logits[some], batch, some), applied[some])


def test_an_edit_holds_with_the_penalty_that_its_model_ships(make_editor, make_model):
    model = make_model()
    model.generation_config.repetition_penalty = 1.5
    edit = Edit("What is the number of the pump?", "the pump of the 4471 4471", id="pump")
    editor = make_editor(model=model, edits=[edit])
    for form in ("raw", "chat"):
        ids = editor.backbone.encode(edit.prompt, form).ids
        for penalty in (1.5, 1.0):
            rows = [ids, editor.backbone.encode("Is it late?").ids]
            said = generate(editor, rows, repetition_penalty=penalty, max_new_tokens=30)[0]
            assert editor.backbone.text_of(said) == edit.target
    editor.unload()


def test_a_target_that_the_model_forbids_is_said(make_editor, make_model):
    model = make_model()
    model.generation_config.no_repeat_ngram_size = 2
    editor = make_editor(model=model)
    reports = editor.edit([Edit("What is the code?", "44 71 44 71 44 71", id="code"), EDITS[0]])
    assert "no_repeat_ngram_size=2 forbids this target" in reports[0].reason and reports[0].status == "stored"
    assert reports[1].reason == "" and 0.5 <= reports[1].confidence <= 1
    editor.unload()


@pytest.mark.parametrize(
    "prompt",
    [
        "Who is the mayor of Velmora?",
        "velmora",
        "Wie heißt der Fluss?",
        "市长是谁？",
        "من هو العمدة؟",
        "?",
        "4471",
        "a b\nc",
    ],
)
def test_rewordings_are_other_wordings_and_the_same_each_time(prompt):
    made = made_rewordings(prompt, 8, "seed")
    assert made == made_rewordings(prompt, 8, "seed") and len(set(made)) == len(made) <= 8
    assert prompt not in made and all(isinstance(one, str) and one.strip() for one in made)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    messages = made_rewordings(chat, 8, "seed")
    assert [one[-1]["content"] for one in messages] == made and all(one[0] == chat[0] for one in messages)
    assert made_rewordings(prompt, 0, "seed") == []


def test_the_planner_adds_rewordings_as_rows_that_are_only_tried(make_editor):
    editor = make_editor(rewordings=4, **{k: v for k, v in SETTINGS.items() if k not in ("rewordings", "lr")}, lr=0.1)
    reports = editor.edit(EDITS)
    assert [report.status for report in reports] == ["stored"] * len(EDITS), reports
    assert all(0 < report.confidence <= 1 for report in reports)
    assert [stored.report["confidence"] for stored in editor.edits()] == [report.confidence for report in reports]
    editor.unload()
