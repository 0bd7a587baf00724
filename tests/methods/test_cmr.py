"""CMR: its penalties, its Fisher information and its loss by the formulas; what is replayed; what it cannot use."""

import json

import pytest
import torch

from meloedit import Edit
from meloedit.errors import EditError, MeloEditError
from meloedit.methods import method_class
from meloedit.methods.weights.penalties import add_ewc, add_l2
from meloedit.methods.weights.upstream import LENGTH, upstream_examples

FACTS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
]


@pytest.fixture
def open_cmr(make_model, tokenizer):
    small = {"epochs": 2, "batch_size": 2, "lr": 1e-3, "replay_size": 2, "upstream_size": 3, "depth": 0.5}
    return lambda kind="llama", **more: method_class("cmr")(make_model(kind).double(), tokenizer, small | more)


def weights_of(method):
    return {name: weight.detach().clone() for name, weight in method._weights.items()}


def test_penalties_are_the_gradients_of_their_formulas():
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    start, fisher = torch.tensor([0.5, 1.0]).double(), torch.tensor([3.0, 0.1]).double()
    for add, value in (
        (lambda w, s: add_l2(w, s, 0.7), 0.7 * (weight - start).square().sum()),
        (lambda w, s: add_ewc(w, s, {"w": fisher}, 4.0), 4.0 / 2 * (fisher * (weight - start).square()).sum()),
    ):
        (wanted,) = torch.autograd.grad(value, weight)
        weight.grad = None
        add({"w": weight}, {"w": start})
        assert torch.allclose(weight.grad, wanted, rtol=1e-12)


def test_the_loss_is_summed_and_smoothed(open_cmr):
    method = open_cmr(label_smoothing=0.1)
    examples = method.examples(FACTS)
    logits = [rows.log_softmax(-1) for rows in method.backbone.target_logits(examples)]
    wanted = sum(
        -0.9 * row[token] - 0.1 * row.mean()
        for rows, one in zip(logits, examples, strict=True)
        for row, token in zip(rows, one.target, strict=True)
    )
    assert torch.allclose(method.smoothed_loss(examples), wanted, rtol=1e-12)


def test_fisher_is_the_mean_of_squared_gradients_and_decays(open_cmr):
    method = open_cmr(variant="ewc", ewc_gamma=0.5)

    def fisher(edits):
        values = list(method._weights.values())
        for value in values:
            value.requires_grad_(True)
        rows = [torch.autograd.grad(method.smoothed_loss([one]), values) for one in method.examples(edits)]
        for value in values:
            value.requires_grad_(False)
        return [sum(gradient**2 for gradient in each) / len(rows) for each in zip(*rows, strict=True)]

    method.edit(FACTS[:2])
    first = fisher(FACTS[:2])
    for value, wanted in zip(method.fisher.values(), first, strict=True):
        assert torch.allclose(value, wanted, rtol=1e-9)
    method.edit(FACTS[2:])
    for value, old, new in zip(method.fisher.values(), first, fisher(FACTS[2:]), strict=True):
        assert torch.allclose(value, new + 0.5 * old, rtol=1e-9)


@pytest.mark.parametrize("variant", ["ft", "l2", "ewc"])
def test_a_step_follows_the_clipped_gradient_of_loss_and_penalty(open_cmr, variant):
    """Two steps of a second call, with Adam's formula written out."""
    settings = {"epochs": 2, "weight_decay": 0.1, "max_grad_norm": 0.5, "total_steps": 8}
    settings |= {"diff_loss_weight": 30.0, "ewc_lambda": 4e3, "ewc_gamma": 0.9}
    method = open_cmr(variant=variant, **settings)
    method.edit(FACTS[:1])
    state = {name: {k: v.clone() for k, v in method._optimizer.state[w].items()} for name, w in method._weights.items()}
    start, fisher = weights_of(method), dict(method.fisher)
    now = {name: value.clone() for name, value in start.items()}
    method.edit(FACTS[1:2])
    left = weights_of(method)
    for step in (2, 3):
        method._put(now)
        values = list(method._weights.values())
        for value in values:
            value.requires_grad_(True)
        loss = method.smoothed_loss(method.examples(FACTS[1:2]))
        for name, value in method._weights.items():
            moved = (value - start[name]).square()
            loss = loss + {"ft": 0.0, "l2": 30.0}.get(variant, 0.0) * moved.sum()
            if variant == "ewc":
                loss = loss + 4e3 / 2 * (0.9 * fisher[name] * moved).sum()
        gradients = torch.autograd.grad(loss, values)
        for value in values:
            value.requires_grad_(False)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        lr = 1e-3 * (1 - step / 8)
        for (name, value), gradient in zip(now.items(), gradients, strict=True):
            clipped, own = gradient * min(1.0, 0.5 / float(norm + 1e-6)), state[name]
            own["exp_avg"] = 0.9 * own["exp_avg"] + 0.1 * clipped
            own["exp_avg_sq"] = 0.999 * own["exp_avg_sq"] + 0.001 * clipped**2
            decayed = value * (1 - lr * 0.1) if value.dim() > 1 else value
            first, second = own["exp_avg"] / (1 - 0.9 ** (step + 1)), own["exp_avg_sq"] / (1 - 0.999 ** (step + 1))
            now[name] = decayed - lr * first / (second.sqrt() + 1e-8)
    for name, value in now.items():
        assert torch.allclose(left[name], value, rtol=1e-7, atol=1e-10)


def test_the_penalties_hold_the_weights_back(open_cmr):
    def moved(variant, **more):
        method = open_cmr(variant=variant, epochs=4, depth=1.0, **more)
        method.edit(FACTS[:1])
        before = weights_of(method)
        method.edit(FACTS[1:])
        return sum(float((value - before[name]).square().sum()) for name, value in weights_of(method).items())

    free = moved("ft")
    assert moved("l2", diff_loss_weight=1e4) < 0.5 * free
    assert moved("ewc", ewc_lambda=1e6) < 0.9 * free


def test_replay_draws_upstream_examples_and_earlier_edits(open_cmr):
    method = open_cmr(replay_size=4, replay_frequency=1)
    assert method._replayed(FACTS[:1]) == []  # nothing with the first call
    method.edit(FACTS[:2])
    before = weights_of(method)
    rows = method._replayed(FACTS[2:])
    past = method.examples(FACTS[:2])
    assert [row for row in rows if row in past] == rows[:2] and len(rows) == 4
    assert all(row in method.upstream for row in rows[2:]) and rows[2] != rows[3]
    again = [Edit("Who wrote the book of sand?", "Ada", id="other")]
    assert method.examples(FACTS[:1])[0] not in method._replayed(again)  # what an edit replaces is not replayed
    assert all(torch.equal(value, before[name]) for name, value in weights_of(method).items())
    assert open_cmr(variant="ewc")._replayed(FACTS) == []
    rare = open_cmr(replay_frequency=2)
    rare.calls = 3
    assert rare._replayed(FACTS) == []


def test_upstream_answers_are_the_unedited_models(open_cmr, tmp_path):
    method = open_cmr()
    fresh = upstream_examples(method.backbone, "", 3)
    method.edit(FACTS[:2])
    assert method.upstream == fresh and len(fresh) == 3
    (text,) = (answer.text for answer in open_cmr().answer([method.backbone.decode(fresh[0].prompt)], LENGTH))
    assert method.backbone.decode(fresh[0].target).strip() == text.strip()
    rows = [{"question": "who was it", "answer": ["Jorge", "he"]}, {"prompt": "Is it late?", "target": "no"}]
    path = tmp_path / "upstream.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = upstream_examples(method.backbone, str(path), 5)
    assert [method.backbone.text_of(row.target) for row in read] == ["Jorge", "no"]


def test_what_cmr_cannot_use_is_one_line(open_cmr, tmp_path):
    for variant in ("mir", "er+", "ft+er", ""):
        with pytest.raises(MeloEditError, match=r"method cmr: variant must be ft, or some of er\+ewc\+l2, not "):
            open_cmr(variant=variant)
    with pytest.raises(MeloEditError, match="weight_decay must not be negative"):
        open_cmr(weight_decay=-1.0)
    method = open_cmr(total_steps=3, epochs=4)
    with pytest.raises(EditError, match=r"has made 0 of 3 steps and needs 4 more, .* raise total_steps"):
        method.edit(FACTS[:1])
    path = tmp_path / "upstream.jsonl"
    path.write_text('{"prompt": "x", "target": 3}\n')
    with pytest.raises(MeloEditError, match=r"upstream.jsonl, line 1: expected a text as prompt or question or text"):
        open_cmr(upstream=str(path)).check()
    path.write_text("")
    with pytest.raises(MeloEditError, match="upstream.jsonl: no question in it"):
        open_cmr(upstream=str(path)).check()
    path.write_text('{"prompt": "' + "word " * 400 + '", "target": "x"}\n')  # longer than the model reads
    with pytest.raises(MeloEditError, match="upstream.jsonl: no row that this model can read and answer$"):
        open_cmr(upstream=str(path)).check()
    with pytest.raises(MeloEditError, match=r"cannot be read"):
        open_cmr(upstream="/no/such.txt").check()
