"""Keys, scores and blocks are computed in a stated precision, whatever settings of torch the caller has."""

import threading
from contextlib import contextmanager

import pytest
import torch
from support.model_calls import source_inputs
from support.prompts import BOOK, CAPITAL, FACTS, LEGS, OTHERS, source_edits

from meloedit import Editor
from meloedit.callers.precision import exact

PROMPTS = [BOOK.prompt, CAPITAL.prompt, *OTHERS]


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def matmul(precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


SETTINGS = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "rounded matmul": lambda: matmul("medium"),
}


@contextmanager
def all_at_once():
    with matmul("medium"), torch.autocast("cpu", torch.bfloat16), default_dtype(torch.float64), torch.inference_mode():
        yield


CASES = [
    pytest.param(all_at_once, id="all at once"),
    *(pytest.param(setting, id=name, marks=pytest.mark.slow) for name, setting in SETTINGS.items()),
]


def stored(editor):
    """Return every stored number as bytes: blocks, keys, the calibration."""
    _, calibration, _ = editor.store.calibration()
    tensors = {f"calibration {name}": tensor for name, tensor in calibration.items()}
    for edit_id, (block, keys) in editor.store.tensors().items():
        tensors |= {f"{edit_id} {name}": tensor for name, tensor in (block | keys).items()}
    return {name: (t.dtype, t.contiguous().flatten().view(torch.uint8).tolist()) for name, t in tensors.items()}


@pytest.fixture(scope="module")
def plain(make_editor):
    editor = make_editor("llama", FACTS, judge="built-in", false_activation=0.1)
    yield stored(editor), editor.route(PROMPTS), editor.evidence(PROMPTS)
    editor.unload()


@pytest.mark.parametrize("setting", CASES)
def test_edits_made_under_a_callers_settings_are_the_same_to_the_bit(
    setting, plain, make_editor, make_model, monkeypatch, tmp_path
):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path))  # the calibration is made here, and not read
    tensors, routes, evidence = plain
    model = make_model("llama")
    with setting():
        editor = make_editor("llama", FACTS, model, judge="built-in", false_activation=0.1)
        assert stored(editor) == tensors
        assert editor.route(PROMPTS) == routes and editor.evidence(PROMPTS) == evidence
        assert editor.check().broken == []
        editor.quiet("legs", "How many wings has a spider?")
        editor.calibrate(false_neighbour=0.2)
        assert [route.edit for route in editor.route([edit.prompt for edit in FACTS])] == ["book", "capital", "legs"]
        if setting is all_at_once:
            assert torch.get_float32_matmul_precision() == "medium" and torch.is_autocast_enabled("cpu")
            assert torch.get_default_dtype() == torch.float64
    editor.unload()


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_generate_under_autocast_is_routed_and_else_the_base_model(dtype, make_editor, make_model, tokenizer):
    editor, base = make_editor("llama", FACTS), make_model("llama")
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1}
    with torch.autocast("cpu", dtype), torch.no_grad():
        for edit in FACTS:
            inputs = tokenizer(edit.prompt, return_tensors="pt")
            made = editor.model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
            assert tokenizer.decode(made, skip_special_tokens=True).strip() == edit.target
            assert editor.last_routes[0].edit == edit.id
        for text in OTHERS:
            inputs = tokenizer(text, return_tensors="pt")
            assert torch.equal(editor.model(**inputs).logits, base(**inputs).logits)
            assert editor.last_routes[0].edit is None
        assert [answer.text for answer in editor.ask([BOOK.prompt, LEGS.prompt])] == ["Jorge", "eight"]
    editor.unload()


@pytest.mark.parametrize("family", ["t5-gated", "bert"])
def test_encoders_are_edited_and_routed_under_autocast(family, make_source_editor, make_source):
    with torch.autocast("cpu", torch.bfloat16):
        editor = make_source_editor(family, source_edits(family))
        rows = [editor.backbone.encode(text).ids for text in (BOOK.prompt, OTHERS[1])]
        base, _ = make_source(family)
        with torch.no_grad():
            for ids, edit in zip(rows, ("book", None), strict=True):
                inputs = source_inputs(editor, [ids])
                same = torch.equal(editor.model(**inputs).logits, base(**inputs).logits)
                assert editor.last_routes[0].edit == edit and same == (edit is None)
    assert editor.check().broken == []
    editor.unload()


def test_a_store_from_under_autocast_answers_outside_and_back(make_editor, make_model, tokenizer, tmp_path):
    path = tmp_path / "facts.melo"
    with torch.autocast("cpu", torch.bfloat16):
        make_editor(edits=[BOOK], store=path).unload()
    with Editor.from_pretrained(path, make_model(), tokenizer) as editor:
        assert editor.ask(BOOK.prompt)[0].text == "Jorge"
        with torch.autocast("cpu", torch.bfloat16):
            editor.edit(CAPITAL)
        assert editor.ask(CAPITAL.prompt)[0].text == "Lima"


def test_the_setting_of_matmuls_comes_back_when_the_last_thread_is_done():
    cpu, inside, leave = torch.device("cpu"), threading.Event(), threading.Event()

    def hold():
        with exact(cpu):
            inside.set()
            leave.wait(10)

    with matmul("medium"):
        thread = threading.Thread(target=hold)
        with exact(cpu):
            assert torch.get_float32_matmul_precision() == "highest"
            thread.start()
            assert inside.wait(10)
        assert torch.get_float32_matmul_precision() == "highest"  # the thread still computes
        leave.set()
        thread.join(10)
        assert torch.get_float32_matmul_precision() == "medium"
    backend = torch.backends.mkldnn.matmul
    try:
        backend.fp32_precision = "bf16"  # for one backend alone: torch then refuses to name one setting
        with exact(cpu):
            assert torch.get_float32_matmul_precision() == "highest"
        assert backend.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
