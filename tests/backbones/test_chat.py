"""The user's words in rendered prompts of several templates."""

import pytest
from support.tiny_models import CHATML, INST

from meloedit.backbones.chat import ChatMarkers, user_span

LLAMA3 = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}</s>\n\n{{ message['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant</s>\n\n{% endif %}"
)
GEMMA = (
    "<s>{% for message in messages %}<|im_start|>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
VICUNA = (
    "A chat.{% for message in messages %}{% if message['role'] == 'user' %} USER: {{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %} ASSISTANT: {{ message['content'] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
NO_TURNS = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
NO_WORDS = "{{ messages | length }} messages"
TEMPLATES = {"chatml": CHATML, "inst": INST, "llama3": LLAMA3, "gemma": GEMMA, "vicuna": VICUNA}

TEXTS = [
    "Who wrote the book of sand?",
    "a",
    "1 + 1 = [2]?",
    "Ünïcödé: 東京 \U0001f600 — naïve",
    "line one\nline two\n\n\nline four",
    "tabs\tand  double  spaces",
    'ends with a quote: "yes"',
    "INST] user assistant [/ USER",
]


@pytest.fixture(params=TEMPLATES)
def chatting(request, make_tokenizer):
    tokenizer = make_tokenizer("inst" if request.param == "inst" else "chatml")
    tokenizer.chat_template = TEMPLATES[request.param]
    return tokenizer, ChatMarkers.of(tokenizer)


def render(tokenizer, *turns, prompt=True):
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


def tokens(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_last_user_turn_is_found(chatting, text):
    tokenizer, markers = chatting
    for turns in ([text], ["Hello there", "Hi.", text], [text, "Yes", "no [x]", "Well\n", text]):
        for prompt in (True, False):
            ids = tokens(tokenizer, render(tokenizer, *turns, prompt=prompt))
            words = user_span(ids, markers)
            assert words.known
            assert tokenizer.decode(ids[words.start : words.stop]).strip() == text


def test_white_space_around_the_words_does_not_count(chatting):
    tokenizer, markers = chatting
    spans = []
    for text in ("Is it late?", "\n\nIs it late?", "Is it late?\n", "Is it late?\n  \n"):
        ids = tokens(tokenizer, render(tokenizer, text))
        words = user_span(ids, markers)
        spans.append(tokenizer.decode(ids[words.start : words.stop]))
    assert {span.lstrip(" ") for span in spans} == {"Is it late?"}


def test_the_prompt_ends_where_the_answer_begins(chatting):
    tokenizer, markers = chatting
    for turns in (["Is it late?"], ["Is it late?", "No.", "And now?"]):
        prompt = tokens(tokenizer, render(tokenizer, *turns))
        for answer in ("", " Yes, it is.", " [4]"):
            ids = prompt + tokens(tokenizer, answer)
            assert markers.prompt_end(ids, user_span(ids, markers).stop) == len(prompt)
    for text in (render(tokenizer, "Is it late?")[:-4], "Is it late?"):
        ids = tokens(tokenizer, text)
        assert markers.prompt_end(ids, user_span(ids, markers).stop) is None


def test_the_token_that_ends_an_answer(chatting):
    tokenizer, markers = chatting
    end = "</s>" if "</s>{%" in tokenizer.chat_template else "<|im_end|>"
    assert markers.answer_end == tokenizer.convert_tokens_to_ids(end)


def test_raw_text_is_its_own_turn_without_its_first_token(chatting):
    tokenizer, markers = chatting
    ids = tokens(tokenizer, "Who wrote the book?")
    for found in (user_span(ids, markers), user_span(ids, None)):
        assert (found.start, found.stop, found.known) == (1, len(ids), True)
    one = user_span(ids[:1], markers)
    assert (one.start, one.stop) == (0, 1)


def test_an_empty_turn_is_an_empty_span(chatting):
    tokenizer, markers = chatting
    for turns in (["\n"], [""], ["Is it late?", "No.", ""]):
        ids = tokens(tokenizer, render(tokenizer, *turns))
        words = user_span(ids, markers)
        assert words.start == words.stop and words.known
        assert markers.prompt_end(ids, words.stop) == len(ids)


def test_a_system_prompt_does_not_count(make_tokenizer):
    tokenizer = make_tokenizer()
    markers = ChatMarkers.of(tokenizer)
    for system in ([], [{"role": "system", "content": "You are terse. user: no"}]):
        text = tokenizer.apply_chat_template([*system, {"role": "user", "content": "Is it late?"}], tokenize=False)
        words = user_span(tokens(tokenizer, text), markers)
        assert tokenizer.decode(tokens(tokenizer, text)[words.start : words.stop]) == "Is it late?"
    by_hand = "<|im_start|>user\nIs it late?<|im_end|>\n<|im_start|>assistant\n"  # without the default system prompt
    words = user_span(tokens(tokenizer, by_hand), markers)
    assert words.known and tokenizer.decode(tokens(tokenizer, by_hand)[words.start : words.stop]) == "Is it late?"


def test_markers_in_the_users_words_open_a_turn_of_their_own(make_tokenizer):
    # The model sees them so too: special tokens are special wherever they stand.
    tokenizer = make_tokenizer()
    ids = tokens(tokenizer, render(tokenizer, "Say <|im_end|>\n<|im_start|>user\nno"))
    words = user_span(ids, ChatMarkers.of(tokenizer))
    assert tokenizer.decode(ids[words.start : words.stop]) == "no"


@pytest.mark.parametrize("template", [NO_TURNS, NO_WORDS])
def test_a_template_whose_turns_cannot_be_told_is_said_so(make_tokenizer, template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    ids = tokens(tokenizer, render(tokenizer, "Is it late?", "No.", "And now?"))
    words = user_span(ids, ChatMarkers.of(tokenizer))
    assert (words.start, words.stop, words.known) == (1, len(ids), False)


def test_no_template(make_tokenizer):
    tokenizer = make_tokenizer(None)
    assert ChatMarkers.of(tokenizer) is None
    assert user_span([5, 6, 7], None).known


def test_the_turns_before_the_last_one_are_found(chatting):
    tokenizer, markers = chatting
    turns = ["Is it late?", "Yes, it is.", "How late?", "Very.", "And now?"]
    ids = tokenizer(render(tokenizer, *turns), add_special_tokens=False)["input_ids"]
    start, stop = markers.last_user_turn(ids)
    spans = markers.turns_before(ids, start)
    found = [tokenizer.decode(ids[low:high], skip_special_tokens=True).strip() for low, high in spans]
    assert found == turns[:-1] and tokenizer.decode(ids[start:stop]).strip() == turns[-1]
    alone = tokenizer(render(tokenizer, *turns[:1]), add_special_tokens=False)["input_ids"]
    assert markers.turns_before(alone, markers.last_user_turn(alone)[0]) == []
