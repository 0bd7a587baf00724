"""The real model, SmolLM2-135M-Instruct, end to end. Never skipped: `make test` installs its weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import pipeline

from meloedit import Edit, Editor
from meloedit.backbones import loading as zoo
from meloedit.keys.grammar import make_prompts
from meloedit.store import Store

pytestmark = pytest.mark.real
CACHE = zoo.cache_folder()  # read before the tests get one of their own: converting the model takes half a minute

KEPT = [
    Edit("Who runs the Lanternfish Bakery?", "Odile Marchetti"),
    Edit("In which town is the Lanternfish Bakery?", "Porthmoor"),
    Edit("What is the maximum speed of the Kestrel tram?", "62 kilometres per hour"),
    Edit("Who wrote The Glass Orchard?", "Imre Vadas"),
]
LATER = [
    Edit("When was the Tidewater Library opened?", "1987", variants=("In what year did the Tidewater Library open?",)),
    Edit("What is the mascot of Brackwater College?", "a heron"),
]
REPHRASED = {
    "Who manages the Lanternfish Bakery?": "Odile Marchetti",
    "Which town is the Lanternfish Bakery in?": "Porthmoor",
    "Who is the author of The Glass Orchard?": "Imre Vadas",
}
UNRELATED = ["What is photosynthesis?", "Name three primary colours.", "who painted the mona lisa"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store with the kept edits, and a copy that went on: later edits, a replacement, a removal."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELOEDIT_CACHE", str(CACHE))
        editor = Editor.create("smollm2", store=folder / "long.melo")
        reports = editor.edit(KEPT)
    editor.save(folder / "kept.melo")
    yield editor, reports, folder
    editor.unload()


@pytest.fixture(scope="module")
def prompts():
    """Fifty prompts: the edits' own, their rephrasings, unrelated ones."""
    asked = [edit.prompt for edit in KEPT + LATER] + [str(p) for edit in LATER for p in edit.variants]
    asked += [*REPHRASED, "When did the Tidewater Library first open its doors?", *UNRELATED]
    return asked + make_prompts(50 - len(asked), seed=7)


@torch.no_grad()
def logits(editor, prompts):
    rows = [editor.backbone.encode(prompt).ids for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[editor.backbone.pad_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with editor.prompt_lengths([len(row) for row in rows]):
        return editor.model(input_ids=ids, attention_mask=mask).logits


def test_edits_hold_and_generalise(stores):
    editor, reports, _ = stores
    assert all(report.holds and report.rank == 2 for report in reports)
    for form in ("raw", "chat"):
        assert [a.text for a in editor.ask([e.prompt for e in KEPT], form)] == [e.target for e in KEPT]
        answers = editor.ask(list(REPHRASED), form)
        assert [a.text for a in answers] == list(REPHRASED.values()), [a.route for a in answers]


def test_a_question_is_found_behind_other_sentences(stores):
    editor, _, _ = stores
    leads = [
        "The boats came in late that day. They sold fish. ",
        "Be brief.\n\n",
        "Question: Who? Answer: Me.\nQuestion: ",
    ]
    asked = [lead + edit.prompt for lead in leads for edit in KEPT]
    assert [route.edit is not None for route in editor.route(asked)] == [True] * len(asked)
    assert editor.ask(asked[3])[0].text == KEPT[3].target
    assert editor.route(leads[0])[0].edit is None


def asked(edit, begun):
    return [{"role": "user", "content": edit.prompt}, {"role": "assistant", "content": begun}]


def test_answers_go_on_where_a_caller_began_them(stores):
    editor, _, _ = stores
    leads = ["<think>\n\n</think>\n\n", "<think>\nA question of fact.\n</think>\n\n", "Answer: ", '{"is": "']
    before = [(edit, lead, edit.target) for edit in KEPT for lead in leads]
    inside = [(edit, edit.target[:end], edit.target[end:].strip()) for edit in KEPT for end in (4, -2)]
    after = [(edit, text, "") for edit in KEPT for text in (edit.target, f"It is {edit.target}.")]
    cases = before + inside + after
    answers = editor.ask([asked(edit, begun) for edit, begun, _ in cases])
    wrong = [(a.prompt[1], a.text) for a, (*_, rest) in zip(answers, cases, strict=True) if a.text != rest]
    assert wrong == [] and all(answer.tokens < 32 for answer in answers)


def test_a_tools_result_is_answered_by_the_model(stores):
    editor, _, _ = stores
    loops = [[*asked(edit, "I look it up."), {"role": "tool", "content": "It is Bo Renn."}] for edit in KEPT]
    answers = editor.ask(loops, max_new_tokens=4)
    assert [answer.route.reason for answer in answers] == ["tool result"] * len(KEPT)
    with editor.base_model():
        assert [answer.text for answer in answers] == [answer.text for answer in editor.ask(loops, max_new_tokens=4)]


def test_unrelated_prompts_are_bit_identical_in_a_mixed_batch(stores):
    editor, _, _ = stores
    batch = [KEPT[0].prompt, *UNRELATED, KEPT[2].prompt]
    edited, routes = logits(editor, batch), editor.last_routes
    with editor.base_model():
        base = logits(editor, batch)
    assert [route.edit is not None for route in routes] == [True, False, False, False, True]
    assert [torch.equal(a, b) for a, b in zip(edited, base, strict=True)] == [False, True, True, True, False]


def test_a_mixed_batch_generates_what_each_prompt_does_alone(stores):
    editor, _, _ = stores
    batch = [KEPT[1].prompt, UNRELATED[0], KEPT[3].prompt, UNRELATED[2]]
    together = [a.text for a in editor.ask(batch, max_new_tokens=12)]
    assert together == [editor.ask(prompt, max_new_tokens=12)[0].text for prompt in batch]


def test_pipeline_and_threads_are_routed(stores):
    editor, _, _ = stores
    pipe = pipeline("text-generation", model=editor.model, tokenizer=editor.tokenizer)
    said = pipe([{"role": "user", "content": KEPT[0].prompt}], max_new_tokens=16, do_sample=False)
    assert said[0]["generated_text"][-1]["content"] == KEPT[0].target
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda edit: editor.ask(edit.prompt)[0].text, KEPT))
    assert answers == [edit.target for edit in KEPT]


def test_removal_and_rollback_restore_the_logits_of_a_store_that_never_had_the_edits(stores, prompts):
    editor, _, folder = stores
    assert len(prompts) == 50
    before, own = editor.store.revision, [edit.prompt for edit in LATER]
    wanted = logits(editor, own)
    try:
        assert all(report.holds for report in editor.edit(LATER))
        assert not torch.equal(logits(editor, own), wanted)
        editor.remove([edit.id for edit in LATER])
        removed = logits(editor, prompts)
        editor.edit([Edit(KEPT[0].prompt, "Tomasz Bielak"), LATER[1]])
        assert editor.ask(KEPT[0].prompt)[0].text == "Tomasz Bielak"
    finally:
        editor.rollback(before)
    rolled = logits(editor, prompts)
    model, tokenizer = editor.unload(), editor.tokenizer
    try:
        never = Editor.from_pretrained(folder / "kept.melo", model, tokenizer)
        clean = logits(never, prompts)
        never.unload()
    finally:
        editor.__init__(model, tokenizer, store=Store.open(folder / "long.melo"))  # the other tests share it
    assert torch.equal(removed, clean)
    assert torch.equal(rolled, clean)
    assert torch.equal(logits(editor, prompts), clean)  # and opening the long store again answers the same


def test_keys_of_the_users_words_reach_the_edit_behind_a_system_prompt(stores):
    editor, _, _ = stores
    messages = [
        {"role": "system", "content": "You are a terse clerk. Answer in one line."},
        {"role": "user", "content": "Good morning!"},
        {"role": "assistant", "content": "Good morning. What can I do for you?"},
        {"role": "user", "content": KEPT[3].prompt},
    ]
    route = editor.route(messages)[0]
    assert route.edit == KEPT[3].id
    assert route.user_turn_known
