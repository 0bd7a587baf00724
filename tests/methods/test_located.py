"""Editors that write at the subject: where it is looked up, the statistics, the target vector, what is refused."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from meloedit import Edit
from meloedit.backbones import open_backbone
from meloedit.errors import EditError, MeloEditError
from meloedit.files import save_tensors
from meloedit.methods import free_memory, method_class
from meloedit.methods.located.rows import Row, Rows, states_at
from meloedit.methods.located.statistics import Statistics
from meloedit.methods.located.subject import last_token, longest_name, subject_of
from meloedit.methods.located.target import Search, find_vector

PROMPT, SUBJECT, TARGET = "The capital of Peru is", "Peru", "Lima"
EDIT = Edit(PROMPT, TARGET, id="capital", subject=SUBJECT)
SMALL = {"tokens": 200, "contexts": 2, "v_num_grad_steps": 4, "depth": 0.5}


@pytest.fixture(scope="module")
def double(make_model):
    """Open a fresh tiny model in float64."""
    return lambda family="gpt2": make_model(family).double()


@pytest.fixture(scope="module")
def shared(double, tokenizer):
    """A backbone in float64 that tests leave as it is."""
    return open_backbone(double(), tokenizer)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is the capital of Peru?", "Peru"),
        ("Who founded the Bank of England in 1694?", "Bank of England in 1694"),
        ("Toko Yasuda, the", "Toko Yasuda"),
        ("Is Ben-Hur by J.R.R. Tolkien, or by Lew Wallace?", "J.R.R. Tolkien"),
        ("what is our return period?", ""),
    ],
)
def test_a_subject_that_is_not_given_is_the_longest_name(text, name):
    assert longest_name(text) == name
    if name:
        found = subject_of(Edit(text, "x"))
        assert found.text == name and found.found
    else:
        with pytest.raises(EditError, match="has no subject, and its prompt .* names none: give the words"):
            subject_of(Edit(text, "x"))


def test_a_given_subject_must_be_in_the_prompt():
    assert subject_of(EDIT).text == "Peru" and not subject_of(EDIT).found
    with pytest.raises(EditError, match=r"edit 'capital': its prompt .* does not name its subject 'Chile'"):
        subject_of(Edit(PROMPT, TARGET, id="capital", subject="Chile"))


@pytest.mark.parametrize("bos", [False, True])
def test_the_token_of_a_subject_is_its_last_however_the_text_begins(make_tokenizer, bos):
    tokenizer = make_tokenizer(bos=bos)
    for prompt, subject in ((PROMPT, "Peru"), (PROMPT, "The capital"), ("Wer kennt Łódź, und wer Perú?", "Łódź")):
        ids = tokenizer(prompt)["input_ids"]
        place = last_token(tokenizer, ids, prompt, subject)
        assert subject in tokenizer.decode(ids[: place + 1]) and subject not in tokenizer.decode(ids[:place])
    chat = [{"role": "user", "content": " In Peru? " + PROMPT + " "}]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False))["input_ids"]
    place = last_token(tokenizer, ids, chat, "Peru")
    assert tokenizer.decode(ids[: place + 1]).endswith("The capital of Peru")


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_rows_run_from_the_subject_on_give_what_whole_runs_give(make_model, tokenizer, family):
    model = make_model(family)
    backbone = open_backbone(model if family == "gemma2" else model.double(), tokenizer)  # its softmax is float32
    near = 1e-3 if family == "gemma2" else 1e-9
    prompts = [PROMPT, "A day in the old town of many winters, and more. " + PROMPT]
    rows = [Row.of(backbone, prompt, SUBJECT, TARGET) for prompt in prompts]
    given, free = Rows(backbone, [*rows, Row.of(backbone, "Peru is a", SUBJECT)]).logits()
    for row, found in zip(rows, given, strict=True):
        with torch.no_grad():
            whole = backbone.model(input_ids=torch.tensor([row.ids])).logits[0]
        assert torch.allclose(found, whole[-len(row.target) :], atol=near)
    ids = tokenizer("Peru")["input_ids"]
    assert torch.allclose(free[0], backbone.model(input_ids=torch.tensor([ids])).logits[0, -1], atol=near)


def test_statistics_are_the_mean_of_key_times_key(shared, tmp_path):
    texts = ["Who wrote the book of sand?", "The old town sings in the summer of the year, and again in the winter."]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    module = "transformer.h.1.mlp.c_proj"
    statistics = Statistics(shared, str(tmp_path / "texts.txt"), 1000, str(tmp_path), "rome")
    keys = []
    handle = shared.model.get_submodule(module).register_forward_hook(lambda _, args, out: keys.append(args[0][0]))
    for text in texts:
        with torch.no_grad():
            shared.model(input_ids=torch.tensor([shared.tokenizer(text)["input_ids"]]))
    handle.remove()
    wide = torch.cat(keys)
    statistics._inputs = lambda _: wide.shape[1]
    statistics.check = lambda modules: None  # these texts are short
    found = statistics.moments([module])[module]
    assert torch.allclose(found, wide.T @ wide / len(wide), atol=1e-12)
    statistics._make = None  # they are kept, and not made again
    assert torch.equal(statistics.moments([module])[module], found)


def test_the_first_steps_of_the_vector_follow_the_formula(shared):
    """Adam's first step has the length lr in each number, against the sign of the gradient."""
    model, layer = shared.model, 2
    module = model.get_submodule(f"transformer.h.{layer}.mlp.c_proj")
    rows = [Row.of(shared, text, SUBJECT, TARGET) for text in (PROMPT, "Once more. " + PROMPT)]
    rows.append(Row.of(shared, "Peru is a", SUBJECT))
    search = Search(2, 0.1, 0.5, 4.0, 0.25)
    initial, vector = find_vector(Rows(shared, rows), module, layer, search)
    assert torch.allclose(initial, states_at(shared, rows[:1], {"transformer.h.2.mlp.c_proj": False}, "lm_head")
                          ["transformer.h.2.mlp.c_proj"][0])  # fmt: skip

    def loss(added):
        total, drift = [], None
        for row in rows:
            here = torch.zeros(len(row.ids), 1, dtype=torch.float64)
            here[row.place] = 1
            handle = module.register_forward_hook(lambda _, args, out, here=here: out + here * added)
            logits = model(input_ids=torch.tensor([row.ids])).logits[0]
            handle.remove()
            if row.target:
                total.append(cross_entropy(logits[-len(row.target) :], torch.tensor(row.target)))
            else:
                drift = kl_div(before, logits[row.place].log_softmax(0), log_target=True, reduction="sum")
        return torch.stack(total).mean() + 0.25 * drift + 0.5 * added.norm() / initial.norm() ** 2

    with torch.no_grad():
        before = model(input_ids=torch.tensor([rows[-1].ids])).logits[0, rows[-1].place].log_softmax(0)
    start = torch.zeros(32, dtype=torch.float64, requires_grad=True)
    loss(start).backward()
    assert torch.allclose(vector, -0.1 * start.grad.sign(), atol=1e-4)
    _, short = find_vector(Rows(shared, rows), module, layer, Search(2, 0.1, 0.5, 1e-3, 0.25))
    assert short.norm() == pytest.approx(1e-3 * initial.norm().item())
    _, later = find_vector(Rows(shared, rows), module, layer, Search(9, 0.1, 0.5, 4.0, 0.25))
    assert loss(later) < loss(vector) < loss(start)


def test_rome_writes_the_value_for_the_mean_key_along_its_direction(double, tokenizer):
    method = method_class("rome")(double(), tokenizer, SMALL)
    (name,) = method.modules
    before = method._weights[name].detach().clone()
    method.edit([EDIT])
    change = (method._weights[name] - before).T  # Conv1D
    method.reset()
    rows = method.rows(_request())
    key = states_at(method.decoder, rows, {name: True}, name)[name].mean(0)
    _, vector = method.vector(_request(), method.model.get_submodule(name), method.last)
    assert torch.allclose(change @ key, vector, atol=1e-9)
    solved = torch.linalg.solve(method.moments[name], key)
    assert torch.allclose(change, torch.outer(vector, solved) / (key @ solved), atol=1e-9)
    assert len(rows) == 3


def _request():
    from meloedit.methods.located.method import Request

    return Request(PROMPT, SUBJECT, TARGET)


def test_memit_spreads_what_is_lacking_over_its_layers(double, tokenizer):
    settings = SMALL | {"layers": 2, "mom2_update_weight": 1e-9}  # so light that the edits' keys alone count
    method = method_class("memit")(double(), tokenizer, settings)
    place = f"transformer.h.{method.last}"
    method._ready()
    row = method.rows(_request())[:1]
    method.contexts = []  # then the key is the prompt's own, and the last layer brings all that is lacking
    initial, vector = method.vector(_request(), method.model.get_submodule(place), method.last + 1)
    method.edit([EDIT])
    now = states_at(method.decoder, row, {place: False}, place)[place][0]
    assert torch.allclose(now, initial + vector, atol=1e-6)
    assert all(not torch.equal(weight, method._originals[name]) for name, weight in method._weights.items())


@pytest.mark.parametrize("name", ["rome", "memit", "alphaedit"])
def test_what_does_not_fit_is_refused_in_one_line(double, make_model, tokenizer, tmp_path, monkeypatch, name):
    model, method = double(), method_class(name)
    kept = SMALL | {"statistics": str(tmp_path)} | ({"layers": 2} if name != "rome" else {})
    with pytest.raises(EditError, match=rf"method {name} writes at the subject: edit 'x' has no subject, and its"):
        method.check_edits([Edit("who sings?", "we", id="x")])
    with pytest.raises(MeloEditError, match=r"needs statistics of at least 128 tokens, .*, and gets 100: give a long"):
        method(model, tokenizer, kept | {"tokens": 100}).check()
    first = method(model, tokenizer, kept)
    first.check()
    first._ready()
    other = make_model("gpt2")
    with torch.no_grad():
        other.transformer.wte.weight += 1
    with pytest.raises(MeloEditError, match="has statistics of another model .*: choose another folder"):
        method(other, tokenizer, kept).check()
    monkeypatch.setattr(free_memory, "free_bytes", lambda _: 1000)
    with pytest.raises(
        MeloEditError, match=rf"method {name} needs about .*B for the statistics of . layers?, and 1.0 kB"
    ):
        first.check()
    if name != "rome":
        with pytest.raises(MeloEditError, match="9 layers do not fit below layer 2: lower layers, or raise depth"):
            method(model, tokenizer, kept | {"layers": 9})
    if name == "alphaedit":
        with pytest.raises(MeloEditError, match="no direction of .* is below nullspace_threshold 1e-30; the smallest"):
            method(model, tokenizer, kept | {"nullspace_threshold": 1e-30}).edit([EDIT])


def test_statistics_of_which_a_file_holds_something_else_are_made_again(double, tokenizer, tmp_path):
    made = []
    for _ in range(2):
        method = method_class("rome")(double(), tokenizer, SMALL | {"statistics": str(tmp_path)})
        method._ready()
        made.append(method.moments[method.modules[0]])
        (path,) = tmp_path.iterdir()
        save_tensors(path, {"other": torch.ones(2)})  # with a checksum that is right
    assert torch.equal(*made)


def test_a_found_subject_is_said(double, tokenizer):
    method = method_class("rome")(double(), tokenizer, SMALL)
    method.edit([Edit("What is the capital of Peru?", "Lima", id="asked")])
    assert method.details() == {"subjects_found": {"asked": "Peru"}}
