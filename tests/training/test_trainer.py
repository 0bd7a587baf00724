"""Decoder-only models: training against a literal loop, edits together and alone, and what holding means."""

from functools import partial

import pytest
import torch
from support.model_calls import generate
from support.prompts import EDITS, HISTORY, OTHERS
from support.training import rows_of, train
from torch.nn import functional as F

from meloedit import Edit
from meloedit.backbones.batch import Example
from meloedit.keys.grammar import make_prompts
from meloedit.training.trainer import Trainer, initial_block, seeded


def literal_losses(editor, edit, steps):
    """Train one block row by row on the whole model, with ``torch.optim.Adam``; return the loss before each step."""
    model, names, sites = editor.model, editor.config.modules, editor.engine.router.bank.sites
    initial = initial_block(sites, editor.config.rank, seeded(editor.config.seed, editor.config.rank, edit.id))
    positions = [torch.zeros(editor.config.rank, editor.config.answer_positions, requires_grad=True) for _ in names]
    tables = [factor.clone().requires_grad_() for name in names for factor in initial[name][:2]]
    optimiser = torch.optim.Adam(tables + positions, lr=editor.config.lr)
    losses = []
    for _ in range(steps):
        scaled = [site.position_rate * table for table, site in zip(positions, sites, strict=True)]
        rounded = [table + (table.half().float() - table).detach() for table in tables + scaled]
        per_row = []
        for row in rows_of(editor, edit):
            answer = len(row.prompt) - 1
            start = answer if editor.config.reach == "answer" else 0

            def add(module, args, output, a, b, by_position, start=start, answer=answer):
                delta = torch.zeros_like(output)
                for column in range(start, output.shape[1]):
                    low = a @ args[0][0, column]
                    if column >= answer:
                        low = low + by_position[:, min(column - answer, by_position.shape[1] - 1)]
                    delta[0, column] = b @ low
                return output + delta

            plain = rounded[: 2 * len(names)]
            per_module = zip(plain[::2], plain[1::2], rounded[len(plain) :], strict=True)
            handles = [
                model.get_submodule(name).register_forward_hook(partial(add, a=a, b=b, by_position=by_position))
                for name, (a, b, by_position) in zip(names, per_module, strict=True)
            ]
            with editor.base_model():
                logits = model(torch.tensor([row.prompt + row.target[:-1]])).logits[0, len(row.prompt) - 1 :]
            for handle in handles:
                handle.remove()
            per_row.append(F.cross_entropy(logits, torch.tensor(row.target)))
        loss = torch.stack(per_row).mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize(
    ("family", "reach"), [("llama", "answer"), ("llama", "all"), ("gpt2", "answer"), ("mistral", "all")]
)
def test_losses_are_those_of_a_literal_training_with_and_without_the_prefix_cache(make_editor, family, reach):
    editor = make_editor(family, reach=reach, lr=0.02, answer_positions=2, max_answer_positions=2)
    for site in editor.engine.router.bank.sites:
        object.__setattr__(site, "position_rate", 4.0)  # as of a real model: what is learned of positions shows
    edits = [EDITS[0], Edit(EDITS[1].prompt, "Lima", variants=["Peru's capital?", HISTORY]), EDITS[3]]
    settings = {"steps": 6, "min_target_probability": 0.99, "max_rank": 2}
    with_cache = [result.losses for result in train(editor, edits, **settings)]
    without = [result.losses for result in train(editor, edits, prefix_cache=False, **settings)]
    literal = [literal_losses(editor, edit, 7) for edit in edits]
    for cached, whole, expected in zip(with_cache, without, literal, strict=True):
        assert cached == pytest.approx(expected, rel=2e-5)
        assert whole == pytest.approx(expected, rel=2e-5)
    editor.unload()


@pytest.mark.parametrize(("family", "reach"), [("llama", "all"), ("qwen3", "answer"), ("gpt2", "answer")])
def test_training_together_equals_training_one_by_one(make_editor, make_model, family, reach, monkeypatch):
    monkeypatch.setattr("meloedit.training.replay.ROWS_PER_BATCH", 4)  # so that an edit's rows are in several batches
    # A float64 model, so that sums over batches of other shapes differ by less than the float32 tables can show.
    editor = make_editor(model=make_model(family).double(), reach=reach, steps=16)
    edits = [*EDITS, Edit(OTHERS[1], "in the river bed", variants=[OTHERS[0]])]
    together = train(editor, edits)
    for edit, one in zip(edits, together, strict=True):
        (alone,) = train(editor, [edit])
        assert (alone.steps, alone.rank, alone.holds, alone.losses) == (one.steps, one.rank, one.holds, one.losses)
        for name, pair in alone.block.items():
            assert all(torch.equal(factor, other) for factor, other in zip(pair, one.block[name], strict=True))
    assert len({result.steps for result in together}) > 2  # those that finished did not move while others went on
    editor.unload()


def test_holding_means_that_every_wording_is_answered_and_stops(make_editor):
    for family in ("llama", "qwen3", "gpt2"):
        variants = ["Name the writer of the book of sand.", [{"role": "system", "content": "Be short."}, *HISTORY[:1]]]
        edit = Edit(EDITS[0].prompt, "Jorge", variants=variants, quiet=["Who read the book of sand?"])
        editor = make_editor(family, [edit])
        forms = [form for prompt in edit.prompts for form in editor.backbone.forms(prompt)]
        assert [form.form for form in forms] == ["raw", "chat", "raw", "chat", "chat", "raw"]
        answers = generate(editor, [form.ids for form in forms], max_new_tokens=20)
        assert answers == [editor.backbone.encode_target("Jorge", form) for form in forms]
        assert editor.check().broken == []
        editor.unload()


def test_an_edit_that_does_not_hold_is_reported_and_not_stored(make_editor):
    editor = make_editor(steps=1, max_rank=2)
    (report,) = editor.edit(EDITS[0])
    assert (report.status, report.holds, report.steps, report.rank) == ("failed", False, 1, 2)
    assert "does not hold after 1 steps, up to rank 2" in report.reason
    assert editor.edits() == [] and len(editor.engine.router.bank) == 0
    editor.unload()


def test_some_hold_and_some_fail_in_one_call(make_editor):
    editor = make_editor(steps=12, max_rank=2, train_with_lead_in=False)
    hard = Edit(OTHERS[1], "a much longer answer, of many tokens, than twelve steps of training can teach")
    reports = editor.edit([EDITS[1], hard])
    assert [report.status for report in reports] == ["stored", "failed"]
    assert [stored.edit.id for stored in editor.edits()] == ["capital"]
    assert editor.ask(EDITS[1].prompt)[0].text == "Lima"
    editor.unload()


def test_the_rank_grows_until_an_edit_holds(make_editor):
    editor = make_editor(steps=25, max_rank=16)
    edit = Edit(OTHERS[1], "in the bed of the old river, under the stone bridge by the mill", id="long")
    (report,) = editor.edit(edit)
    assert report.holds and report.rank in (4, 8, 16)
    assert report.steps > 25
    assert editor.ask(edit.prompt)[0].text == edit.target
    editor.unload()


def test_an_edit_that_the_model_already_knows_holds_at_once(make_editor):
    editor = make_editor(min_target_probability=0)
    for prompt in (text for text in OTHERS * 3):
        answer = generate(editor, [editor.backbone.encode(prompt).ids], max_new_tokens=1)[0]
        known = Example.of(editor.backbone.encode(prompt), answer)
        (result,) = Trainer(editor.engine.router, editor.config).train([("known", [known])])
        assert result.holds and result.steps == 0
        assert all(not factors.b.any() for factors in result.block.values())
    (report,) = editor.edit(EDITS[0])  # however low min_target_probability is, the target must be the answer
    assert report.holds and report.steps > 0
    editor.unload()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_in_training_mode_is_edited_as_in_evaluation(make_editor, make_model, family):
    blocks, keys = [], []
    for training in (False, True):
        model = make_model(family, attention_dropout=0.2) if family == "llama" else make_model(family)
        model.train(training)
        model.lm_head.weight.requires_grad_(False)
        editor = make_editor(model=model, edits=EDITS[:2])
        tensors = editor.store.tensors()
        blocks.append([tensor for edit_id in sorted(tensors) for _, tensor in sorted(tensors[edit_id][0].items())])
        keys.append(tensors["book"][1])
        editor.calibrate(make_prompts(60))
        assert all(module.training == training for module in model.modules())
        open_weights = [name for name, weight in model.named_parameters() if not weight.requires_grad]
        assert open_weights == ["lm_head.weight"]
        assert all(weight.grad is None for weight in model.parameters())
        editor.unload()
    assert all(torch.equal(part, keys[1][name]) for name, part in keys[0].items())
    assert all(torch.equal(one, other) for one, other in zip(*blocks, strict=True))


def test_an_error_in_training_puts_the_model_back(make_editor, make_model):
    model = make_model().train()
    editor = make_editor(model=model)
    editor.calibrate()
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt

    handle = model.model.layers[-1].register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        editor.edit(EDITS)
    handle.remove()
    assert all(module.training for module in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())
    assert editor.edits() == []
    model.eval()
    assert all(report.holds for report in editor.edit(EDITS))
    editor.unload()


def test_a_model_whose_layers_cannot_be_run_again_is_trained_whole(make_editor, make_model, caplog):
    model = make_model()
    forward = model.model.forward

    def unusual(*args, **kwargs):  # something happens after the final norm that the layers do not show
        output = forward(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 0.5
        return output

    model.model.forward = unusual
    editor = make_editor(model=model, edits=EDITS[:2])
    assert "training runs the whole model instead" in caplog.text
    assert [answer.text for answer in editor.ask([edit.prompt for edit in EDITS[:2]])] == ["Jorge", "Lima"]
    editor.unload()


def test_parts_are_stored_as_they_finish(make_editor):
    editor = make_editor(train_batch_size=2)
    reported = []
    parts = editor.edit_in_parts(EDITS, progress=lambda what, done, total: reported.append((what, done, total)))
    assert [report.id for report in next(parts)] == ["book", "capital"]
    assert [stored.edit.id for stored in editor.edits()] == ["book", "capital"]
    parts.close()  # as when a run is interrupted
    assert [stored.edit.id for stored in editor.edits()] == ["book", "capital"]
    assert [report.status for report in editor.edit(EDITS)] == ["skipped", "skipped", "stored", "stored"]
    assert [answer.text for answer in editor.ask([edit.prompt for edit in EDITS])] == [edit.target for edit in EDITS]
    assert reported[-1] == ("editing", 2, 4)
    assert editor.edit([]) == []
    editor.unload()


def test_training_needs_no_autograd_around_it(make_editor):
    editor = make_editor()
    with torch.no_grad():
        assert all(report.holds for report in editor.edit(EDITS[:2]))
    with torch.inference_mode():
        assert editor.ask(EDITS[0].prompt)[0].text == "Jorge"
        assert all(report.holds for report in editor.edit(EDITS[2:]))
    assert [answer.text for answer in editor.ask([edit.prompt for edit in EDITS])] == [edit.target for edit in EDITS]
    editor.remove(["book", "river"])  # tensors from inference mode can be changed outside of it
    assert editor.ask(EDITS[2].prompt)[0].text == "eight"
    editor.unload()


def test_gradients_flow_through_an_edited_model(llama):
    ids = torch.tensor([llama.backbone.encode(EDITS[0].prompt).ids])
    embeds = llama.model.get_input_embeddings()(ids).detach().requires_grad_()
    llama.model(inputs_embeds=embeds).logits[0, -1].max().backward()
    assert llama.last_routes[0].edit == "book"
    assert torch.isfinite(embeds.grad).all() and embeds.grad.abs().sum() > 0
