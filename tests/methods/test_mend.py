"""MEND against its formulas, in float64: the normaliser, the network, the step, and the loss of learning."""

import pytest
import torch
from support.prompts import EDITS

from meloedit import Edit
from meloedit.backbones import open_backbone
from meloedit.backbones.contexts import record_calls
from meloedit.backbones.feed_forward import feed_forward_linears
from meloedit.methods import method_class
from meloedit.methods.learned.factors import adding, grouped
from meloedit.methods.learned.lessons import make_lessons
from meloedit.methods.learned.transform import GradientTransform
from meloedit.testing import training_edits

SETTINGS = {"rank": 6, "layers": 2, "steps": 3, "batch_size": 3, "val_interval": 3, "val_examples": 0}


@pytest.fixture
def mend(make_model, tokenizer, tmp_path):
    """MEND on a GPT-2 in float64, with a network whose weights are all random."""

    def make(**changes):
        method = method_class("mend")(
            make_model("gpt2").double(), tokenizer, SETTINGS | {"learned": str(tmp_path)} | changes
        )
        method.learner = method._make_learner()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in method.learner.parameters():
                weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for transform in method.learner.transforms.values():
            transform.see(torch.randn(9, len(transform.mean), generator=generator, dtype=torch.float64))
        method.learner.eval()
        return method

    return make


def test_mean_and_spread_are_those_of_all_rows_that_were_seen():
    transform = GradientTransform(2, 1, 1, 4, 1, torch.Generator())
    rows = torch.tensor([[1.0, 0.0, 3.0], [3.0, 0.0, 4.0], [8.0, 0.0, 2.0], [0.0, 4.0, 3.0]])
    transform.see(rows[:1])
    transform.see(rows[1:])
    transform.see(rows[:0])
    assert transform.count == 4 and torch.allclose(transform.mean, torch.tensor([3.0, 1.0, 3.0]))
    assert torch.allclose(transform.spread, torch.tensor([38.0, 12.0, 2.0]))


def test_the_network_begins_as_the_identity_and_follows_the_formula():
    transform = GradientTransform(3, 2, 2, 4, 1, torch.Generator().manual_seed(0)).double().eval()
    rows = torch.randn(6, 5, dtype=torch.float64)
    transform.see(torch.randn(9, 5, dtype=torch.float64))
    normal = (rows - transform.mean) / ((transform.spread / 8).sqrt() + 1e-7)
    assert torch.allclose(torch.cat(transform(rows[:, :3], rows[:, 3:], 1), 1), normal)
    expected = normal
    for layer in transform.layers:
        for weight in layer.parameters():
            torch.nn.init.normal_(weight)
        inner = torch.einsum("or,ri,ni->no", layer.u, layer.v, expected) + layer.bias
        expected = expected + torch.relu(layer.scale[1] * inner + layer.shift[1])
    given, gradients = transform(rows[:, :3], rows[:, 3:], 1)
    assert torch.allclose(torch.cat([given, gradients], 1), expected) and given.shape == (6, 3)


def test_with_a_network_that_changes_nothing_an_edit_is_a_step_of_gradient_descent(mend):
    method = mend()
    with torch.no_grad():
        for transform in method.learner.transforms.values():
            transform.count.fill_(2), transform.mean.zero_(), transform.spread.fill_(1)
            for layer in transform.layers:
                for weight, value in zip(layer.parameters(), (0, 1, 0, 1, 0), strict=True):
                    weight.fill_(value)
        method.learner.lengths.fill_(-0.01)
    before = {name: weight.detach().clone() for name, weight in method._weights.items()}
    examples = method.examples(EDITS[:2])
    for weight in method._weights.values():
        weight.requires_grad_(True)
    logits = torch.cat(method.backbone.target_logits(examples))
    targets = torch.tensor([token for one in examples for token in one.target])
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, targets), list(method._weights.values()))
    method.edit(EDITS[:2])  # the mean over all tokens of both, in one step
    for (name, weight), gradient in zip(method._weights.items(), gradients, strict=True):
        assert torch.allclose(weight - before[name], -0.01 * gradient, rtol=1e-5, atol=1e-12)
        assert gradient.abs().max() > 0


def test_edits_side_by_side_are_as_each_alone_and_as_changed_matrices(mend):
    method = mend()
    examples, probe = method.examples(EDITS[:3]), method.examples(EDITS[3:])
    with torch.no_grad():
        together = method.factors(examples, [0, 1, 2])
        with adding(method.model, together, torch.tensor([1])):
            (added,) = method.backbone.target_logits(probe)
    method.edit(EDITS[1:2])
    with torch.no_grad():
        (changed,) = method.backbone.target_logits(probe)
    assert torch.allclose(added, changed, rtol=1e-9, atol=1e-9)
    method.reset()
    with torch.no_grad():
        (plain,) = method.backbone.target_logits(probe)
    assert not torch.allclose(added, plain, atol=1e-3)


def test_rows_of_groups_stand_side_by_side():
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    assert grouped(rows, torch.tensor([0, 2, 2]), 3).tolist() == [[[1.0], [0.0]], [[0.0], [0.0]], [[2.0], [3.0]]]
    assert grouped(rows[:0], torch.tensor([], dtype=torch.long), 2).shape == (2, 0, 1)


@pytest.mark.parametrize("together", [1, 2])
def test_the_loss_is_that_of_another_wording_after_the_edit_and_the_change_of_what_must_stay(mend, together):
    method = mend(cedit=0.3, cloc=2.0, edits_per_call=together)
    lessons = make_lessons(method, training_edits("gpt2", 4), 4, 0)
    loss = method._lesson_loss(lessons, 0)
    edited, kept = [], []
    for start in range(0, 4, together):
        part = lessons[start : start + together]
        held, outer = [lesson.held_row for lesson in part], [lesson.outer[0] for lesson in part]
        old = torch.cat(method.backbone.target_logits(held)).log_softmax(-1)
        method.edit([Edit(lesson.edit.prompt, lesson.edit.target) for lesson in part])
        new = torch.cat(method.backbone.target_logits(held)).log_softmax(-1)
        targets = torch.tensor([token for row in outer for token in row.target])
        edited.append(torch.nn.functional.cross_entropy(torch.cat(method.backbone.target_logits(outer)), targets))
        kept.append((old.exp() * (old - new)).sum(-1).mean())
        method.reset()
    expected = 0.3 * torch.stack(edited).mean() + 2 * torch.stack(kept).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert torch.stack(kept).mean() > 1e-3


def test_learning_reads_the_vocabulary_at_targets_alone(mend):
    method = mend()
    lessons = make_lessons(method, training_edits("gpt2", 4), 4, 0)
    with record_calls([method.model.get_output_embeddings()]) as calls:
        method._lesson_loss(lessons, 0)
    inner = sum(len(lesson.inner.target) for lesson in lessons)
    outer = sum(len(lesson.outer[0].target) for lesson in lessons)
    held = sum(len(lesson.held_row.target) for lesson in lessons)
    assert [call.args[0].shape[:2] for call in calls] == [(1, inner), (1, held), (1, outer + held)]


@pytest.mark.parametrize(
    ("family", "modules"),
    [
        ("llama", ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
        ("gpt2", ["mlp.c_fc", "mlp.c_proj"]),
        ("t5", ["layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wo"]),
        ("t5-gated", [f"layer.1.DenseReluDense.{name}" for name in ("wi_0", "wi_1", "wo")]),
        ("bart", ["fc1", "fc2"]),
        ("bert", ["intermediate.dense", "output.dense"]),
    ],
)
def test_all_matrices_of_a_feed_forward_are_edited(family, modules, make_model, make_source, tokenizer):
    model = (make_model(family), tokenizer) if family in ("llama", "gpt2") else make_source(family)
    backbone = open_backbone(*model)
    prefix, layers = backbone.stacks[0]
    assert feed_forward_linears(backbone, f"{prefix}.1") == [f"{prefix}.1.{name}" for name in modules]


def test_learning_lowers_the_loss_and_lower_layers_that_run_once_change_nothing(make_model, tokenizer, tmp_path):
    seen = []
    for cached in (True, False):
        settings = SETTINGS | {"steps": 30 if cached else 4, "lr": 1e-3, "edit_lr": 1e-3, "lr_lr": 1e-2}
        settings |= {"batch_size": 6, "val_interval": 30, "learned": str(tmp_path / str(cached))}
        method = method_class("mend")(make_model("llama"), tokenizer, settings)
        if not cached:
            method._lower._skipped = []
        losses = []
        whole = method._lesson_loss

        def noted(lessons, number, whole=whole, losses=losses, method=method):
            loss = whole(lessons, number)
            losses.append(loss.item())
            return loss

        method._lesson_loss = noted
        method.fit(training_edits("llama"))
        seen.append(losses)
        method.close()
    assert sum(seen[0][24:]) < 0.9 * sum(seen[0][:6])
    assert seen[0][:4] == pytest.approx(seen[1], rel=1e-3)
