"""Chat templates that refuse, fail or repeat: one line that says why, or the same route and the same answer."""

import pytest
import torch
from support.model_calls import generate
from support.prompts import BOOK, CAPITAL, EDITS, FACTS, LEGS

from meloedit.errors import EditError

REFUSE = "{{ raise_exception('%s') }}"
GEMMA = (
    "<s>{% if messages[0]['role'] == 'system' %}" + REFUSE % "System role not supported" + "{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    + REFUSE
    % "Conversation roles must alternate user/assistant/user/assistant/..."
    + "{% endif %}<|im_start|>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
MISTRAL = (
    "<s>{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] + '</s>' }}{% else %}"
    + REFUSE % "Only user and assistant roles are supported"
    + "{% endif %}{% if not loop.last and loop.nextitem['role'] == message['role'] %}"
    + REFUSE % "After the optional system message, roles must alternate"
    + "{% endif %}{% endfor %}"
)
TOOLS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message.get('tool_calls', []) %}{{ call['function']['arguments']['city'] + 1 }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = {"gemma": GEMMA, "mistral": MISTRAL}
SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": BOOK.prompt}
ANSWER = {"role": "assistant", "content": "One moment."}
TOOL = {"role": "tool", "content": '{"author": "Jorge"}', "name": "library"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Lima"}'}}],
}
BROKEN = {
    "TypeError": "{{ messages[0]['content'] + 1 }}",
    "UndefinedError": "{{ messages[0].author.name }}",
    "ZeroDivisionError": "{{ messages | length // 0 }}",
    "syntax": "{% for message in messages %}",
    "KeyError": "{{ '%(name)s' % {} }}",
}


def templated(make_tokenizer, template, bos=False):
    tokenizer = make_tokenizer(None, bos)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module", params=STRICT)
def strict(request, make_editor, make_tokenizer):
    editor = make_editor(tokenizer=templated(make_tokenizer, STRICT[request.param]), edits=FACTS)
    yield editor
    editor.unload()


@pytest.mark.parametrize(
    "messages",
    [[SYSTEM, USER], [USER, USER], [USER, ANSWER, ANSWER, USER], [USER, ANSWER, TOOL]],
    ids=["system", "two user turns", "two answers", "tool"],
)
def test_what_a_template_refuses_is_one_line(strict, messages):
    before = strict.store.revision
    edit = {"prompt": messages[:-1] if messages[-1] is TOOL else messages, "target": "Ada", "id": "new"}
    calls = [lambda: strict.ask([messages]), lambda: strict.route([messages])]
    for call in [*calls, lambda: strict.edit(edit)] if messages[-1] is not TOOL else calls:
        with pytest.raises(EditError, match="chat template refuses this prompt: ") as error:
            call()
        assert "\n" not in str(error.value)
    assert strict.store.revision == before and "new" not in strict


def test_a_strict_template_answers_what_it_takes(strict):
    chats = [[{"role": "user", "content": edit.prompt}] for edit in FACTS]
    chats += [[USER, ANSWER, {"role": "user", "content": edit.prompt}] for edit in FACTS[1:]]
    answers = strict.ask(chats, max_new_tokens=8)
    assert [answer.route.edit for answer in answers[:3]] == ["book", "capital", "legs"]
    assert [answer.text for answer in answers[:3]] == ["Jorge", "Lima", "eight"]
    assert all(answer.route.user_turn_known for answer in answers)


@pytest.mark.parametrize("template", BROKEN.values(), ids=BROKEN)
def test_a_template_that_fails_leaves_raw_prompts(template, make_editor, make_tokenizer, caplog):
    editor = make_editor(tokenizer=templated(make_tokenizer, template), edits=[BOOK])
    assert "the chat template renders no conversation" in caplog.text
    assert editor.ask(BOOK.prompt, max_new_tokens=8)[0].text == "Jorge"
    for ask in (lambda: editor.ask(BOOK.prompt, form="chat"), lambda: editor.route([[USER]])):
        with pytest.raises(EditError, match="chat template refuses this prompt: .") as error:
            ask()
        assert "\n" not in str(error.value)
    editor.unload()


def test_an_error_inside_a_template_for_one_prompt_is_one_line(make_editor, make_tokenizer):
    editor = make_editor(tokenizer=templated(make_tokenizer, TOOLS), edits=[BOOK])
    with pytest.raises(EditError, match="chat template refuses this prompt: .*str") as error:
        editor.ask([[USER, CALL, TOOL]])
    assert "\n" not in str(error.value)
    assert editor.ask([[USER]], max_new_tokens=8)[0].text == "Jorge"
    editor.unload()


def test_a_second_bos_changes_no_route(make_editor, make_tokenizer):
    editor = make_editor(tokenizer=make_tokenizer("inst", bos=True), edits=EDITS)
    tokenizer = editor.tokenizer
    others = ["Please sing", "Is it late?", "Where do the children of the old town play?"]
    for text, wanted in [
        *((edit.prompt, edit.id) for edit in (BOOK, CAPITAL, LEGS)),
        *((text, None) for text in others),
    ]:
        rendered = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
        twice, once = tokenizer(rendered)["input_ids"], tokenizer(rendered, add_special_tokens=False)["input_ids"]
        assert twice == [tokenizer.bos_token_id, *once] and once[0] == tokenizer.bos_token_id
        said, routes = [], []
        for ids in (once, twice):
            said.append(generate(editor, [ids], pad_token_id=3))
            routes.append(editor.last_routes[0])
        assert [(route.edit, route.user_turn_known) for route in routes] == [(wanted, True)] * 2
        with editor.base_model():
            base = generate(editor, [twice], pad_token_id=3)
        assert (said[1] == base) == (wanted is None)
    editor.unload()


def test_bos_twice_in_a_batch(make_editor, make_tokenizer):
    editor = make_editor(tokenizer=make_tokenizer("inst", bos=True), edits=[BOOK])
    rendered = editor.tokenizer.apply_chat_template([USER], tokenize=False)
    batch = editor.tokenizer([rendered, "[INST] Please sing [/INST]"], padding=True, return_tensors="pt")
    with torch.no_grad():
        editor.model.generate(**batch, max_new_tokens=2, do_sample=False)
    assert [route.edit for route in editor.last_routes] == ["book", None]
    editor.unload()
