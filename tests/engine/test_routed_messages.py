"""Prompts as clients send them are routed as their texts are, in every call; turns without words reach no edit."""

import pytest
import torch
from support.prompts import BOOK, EDITS, FACTS, OTHERS, RIVER
from support.tiny_models import CHATML

from meloedit import Edit
from meloedit.edit import check_asked
from meloedit.errors import EditError
from meloedit.judging.wording import is_one_word, same_words
from meloedit.routing.verifier import asked

JUDGED = {"judge": "built-in", "min_similarity": 0.0}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
WORDLESS = ["", " \n", "?!", "...", "\U0001f44d", "\u2014"]


def in_parts(prompt):
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [{"role": one["role"], "content": [{"type": "text", "text": one["content"]}]} for one in turns]


def as_text(prompt):
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


@pytest.fixture(scope="module")
def judged(make_editor):
    made = make_editor(edits=FACTS, **JUDGED)
    yield made
    made.unload()


def generated(editor, prompt):
    """Return the route of a rendered prompt in ``generate``."""
    ids = torch.tensor([editor.backbone.encode(prompt, "chat").ids])
    editor.model.generate(ids, max_new_tokens=1, do_sample=False, pad_token_id=1)
    return editor.last_routes[0]


def test_a_prompt_in_parts_has_the_key_and_the_route_of_its_text(llama):
    prompts = [edit.prompt for edit in EDITS] + OTHERS
    parts, texts = [in_parts(prompt) for prompt in prompts], [as_text(prompt) for prompt in prompts]
    assert llama.route(parts) == llama.route(texts)
    assert [route.edit for route in llama.route(parts)[:4]] == [edit.id for edit in EDITS]
    assert llama.ask(parts) == llama.ask(texts)
    assert llama.evidence(parts) == llama.evidence(texts)
    one, other = llama.keys(parts), llama.keys(texts)
    assert all(torch.equal(value, other.to_tensors()[name]) for name, value in one.to_tensors().items())


def test_an_edit_in_parts_is_the_edit_of_its_text(make_editor):
    editor = make_editor(edits=[Edit(in_parts(RIVER.prompt), RIVER.target)])
    assert editor.edit([Edit(RIVER.prompt, RIVER.target)])[0].status == "skipped"
    assert editor.ask(in_parts(RIVER.prompt))[0].text == RIVER.target
    editor.unload()


@pytest.mark.parametrize("kind", ["judge", "keys"])
@pytest.mark.parametrize("text", WORDLESS)
def test_a_turn_without_words_reaches_no_edit(llama, judged, kind, text):
    editor = judged if kind == "judge" else llama
    turn = {"role": "user", "content": text}
    history = [{"role": "user", "content": BOOK.prompt}, {"role": "assistant", "content": "Yes?"}]
    for prompt in ([turn], [*history, turn], [*history, *history, turn]):
        (route,) = editor.route([prompt])
        assert (route.edit, route.nearest, route.reason, route.user_turn_known) == (None, None, "no prompt", True)
        assert generated(editor, prompt) == route
        assert editor.ask(prompt, max_new_tokens=1)[0].route == route
        assert editor.evidence([prompt]) == [None]
    routes = editor.route([[turn], as_text(BOOK.prompt), [*history, turn], BOOK.prompt])
    assert [route.edit for route in routes] == [None, "book", None, "book"]


def test_raw_texts_without_words_reach_no_edit(llama, t5):
    for editor in (llama, t5):
        assert [route.reason for route in editor.route(["?!", "..."])] == ["no prompt"] * 2
        assert [answer.route.reason for answer in editor.ask(["?!"], max_new_tokens=1)] == ["no prompt"]
        with pytest.raises(EditError, match="'odd': \"\\?!\" has no letter and no digit"):
            editor.edit([Edit("?!", "Lima", id="odd")])
        with pytest.raises(EditError, match="has no letter and no digit"):
            editor.edit([Edit("Who is it?", "Lima", id="odd", quiet=["..."])])
    with pytest.raises(EditError, match="has no letter and no digit"):
        llama.quiet("book", "\U0001f44d")


def test_one_word_reaches_an_edit_only_if_it_is_a_wording_of_it(judged):
    for word in ("yes", "ok", "book", "Peru", "Peru?", "spider", "Who?"):
        history = [*as_text("Tell me about Peru."), {"role": "assistant", "content": "Yes?"}]
        routes = judged.route([as_text(word), word, [*history, *as_text(word)]])
        assert [route.edit for route in routes] == [None] * 3
        assert [generated(judged, as_text(word))] == routes[:1]
    edit = Edit("Peru?", "Lima", id="one word")
    judged.edit(edit, keep_both=True)
    assert [route.edit for route in judged.route(["peru", "Peru!", as_text("Peru?"), "Chile"])] == ["one word"] * 3 + [
        None
    ]
    judged.remove(["one word"])


def test_scripts_without_blanks_have_more_than_one_word():
    assert all(map(is_one_word, ["", "Peru", "Peru?", "\u041f\u0435\u0440\u0443", "? Peru !"]))
    assert not any(
        map(is_one_word, ["Peru now", "\u79d8\u9c81\u7684\u9996\u90fd\u662f\u4ec0\u4e48", "\u0e40\u0e1b\u0e23\u0e39"])
    )


def test_traffic_without_words_is_left_out_of_a_calibration(make_editor):
    editor = make_editor(edits=FACTS)
    traffic = [f"Tell me about item {i} of the list, please" for i in range(60)]
    editor.calibrate([*traffic, *WORDLESS[2:], [{"role": "user", "content": ""}]])
    assert editor.calibration.info["prompts"] == 60 and editor.ask(BOOK.prompt)[0].route.edit == "book"
    editor.unload()


def test_results_of_tools_behind_the_question_leave_it_the_question_but_answer_it(judged):
    steps = [
        {"role": "developer", "content": "Be short."},
        *in_parts(BOOK.prompt),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "Nobody knows."},
    ]
    (route,) = judged.route([steps])
    assert route == generated(judged, check_asked(steps))
    assert (route.edit, route.nearest, route.reason) == (None, "book", "tool result") and route.user_turn_known
    later = [*steps, {"role": "assistant", "content": "Nobody."}, {"role": "user", "content": OTHERS[2]}]
    assert judged.route([later])[0].edit is None


def test_where_a_template_writes_results_as_the_users_they_are_the_last_turn(make_tokenizer, make_editor):
    tokenizer = make_tokenizer()
    role = "{{ message['role'] }}"
    tokenizer.chat_template = CHATML.replace(role, "{{ 'user' if message['role'] == 'tool' else message['role'] }}")
    editor = make_editor(edits=FACTS, tokenizer=tokenizer, **JUDGED)
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    for said in ("It is cold.", BOOK.prompt):
        prompt = [*as_text(BOOK.prompt), call, {"role": "tool", "content": said}]
        encoded = editor.backbone.encode(check_asked(prompt))
        read = editor.engine.router.reader.asked(encoded.ids, encoded.span)
        assert read.text.strip() == said and read.before == (BOOK.prompt,)
        assert editor.route([prompt])[0] == generated(editor, check_asked(prompt))
    editor.unload()


def test_what_a_template_cannot_render_is_one_line(make_tokenizer, make_editor):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHATML.replace(
        "{{ message['content'] }}",
        "{{ message['content'] }}{% if message.tool_calls %}{{ message.tool_calls | int + 'x' }}{% endif %}",
    )
    editor = make_editor(tokenizer=tokenizer)
    with pytest.raises(EditError, match="the model's chat template refuses this prompt: "):
        editor.route([[{"role": "assistant", "content": None, "tool_calls": [CALL]}, *as_text("a?")]])
    editor.unload()


def test_a_template_gets_what_tools_said(llama, make_tokenizer, make_model, make_editor):
    tokenizer = make_tokenizer()
    calls = "{% for call in message.tool_calls or [] %}{{ call.function.arguments.town }}{% endfor %}"
    words = "{{ message['content'] }}"
    tokenizer.chat_template = CHATML.replace(words, words + calls)
    editor = make_editor(model=make_model("llama"), tokenizer=tokenizer)
    call = {"function": {"name": "look_up", "arguments": '{"town": "Ohm"}'}}
    prompt = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    prompt += [{"role": "tool", "content": "b"}, {"role": "user", "content": "c?"}]
    text = editor.tokenizer.decode(editor.backbone.encode(check_asked(prompt)).ids)
    assert "assistant\nOhm<|im_end|>" in text and "None" not in text and "tool\nb<|im_end|>" in text
    editor.unload()


def long_chat(turns, last):
    """Return a conversation with as many turns, of which a hundred-odd tokens are left to a tiny model."""
    talk = [{"role": "user" if i % 2 == 0 else "assistant", "content": "Oh"} for i in range(turns - 1)]
    return [*talk, {"role": "user", "content": last}]


def test_two_hundred_turns(make_editor, make_model):
    editor = make_editor(edits=FACTS, model=make_model("llama", max_position_embeddings=8192), **JUDGED)
    chat = long_chat(201, BOOK.prompt)
    (route,) = editor.route([chat])
    assert route == editor.route([in_parts(chat)])[0] and route.user_turn_known
    assert generated(editor, chat).edit == route.edit
    assert editor.route([long_chat(201, OTHERS[0])])[0].edit is None
    encoded = editor.backbone.encode(chat)
    read = editor.engine.router.reader.asked(encoded.ids, encoded.span)
    assert len(read.before) == 8 and same_words(read, asked(chat))
    editor.unload()


def test_a_prompt_longer_than_the_model_takes_is_one_line(llama):
    with pytest.raises(EditError, match=r"^the prompt has \d+ tokens, the model takes 256: shorten it$"):
        llama.route([[{"role": "user", "content": "word " * 30_000}]])
