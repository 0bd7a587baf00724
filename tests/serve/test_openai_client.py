"""The client that everybody has, against a real server and the proxy before one: sync, async, streams, errors."""

import asyncio

import openai
import pytest
from serve_helpers import MODEL
from support.prompts import FACTS, OTHERS

pytest_plugins = ["serve_fixtures"]
BASE = f"{MODEL}:base"


@pytest.fixture(scope="module", params=["server", pytest.param("proxy", marks=pytest.mark.slow)])
def served(request, served):
    return served if request.param == "server" else request.getfixturevalue("proxied")


@pytest.fixture
def client(served):
    return openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0)


def chat(client, content, **fields):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return client.chat.completions.create(**{"model": MODEL, "messages": messages, "max_tokens": 8} | fields)


def expected(served, text, form="chat", tokens=8):
    """What a quiet editor answers."""
    return served.editor.ask(text, form=form, max_new_tokens=tokens)[0]


def test_a_chat_is_answered_as_the_editor_answers_it(served, client):
    for text in [fact.prompt for fact in FACTS] + OTHERS:
        answer, alone = chat(client, text), expected(served, text)
        assert answer.choices[0].message.content.strip() == alone.text
        assert answer.melo["edit"] == alone.route.edit and answer.melo["revision"] == served.editor.store.revision
        assert answer.object == "chat.completion" and answer.model == MODEL and answer.id.startswith("chatcmpl-")
        assert answer.usage.completion_tokens == alone.tokens
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + alone.tokens
        assert answer.choices[0].finish_reason == ("stop" if alone.tokens < 8 else "length")


def test_content_in_parts_is_its_text(served, client):
    parts = [{"type": "text", "text": FACTS[0].prompt}]
    assert chat(client, [{"role": "user", "content": parts}]).choices[0].message.content == "Jorge"
    with pytest.raises(openai.BadRequestError, match="text alone is read"):
        chat(client, [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


def test_the_unedited_model_has_a_name_of_its_own(served, client):
    assert [model.id for model in client.models.list()] == [MODEL, BASE]
    assert client.models.retrieve(BASE).id == BASE
    with served.editor.base_model():
        base = expected(served, FACTS[0].prompt).text
    answer = chat(client, FACTS[0].prompt, model=BASE)
    assert answer.choices[0].message.content.strip() == base != "Jorge"
    assert answer.melo == {"revision": served.editor.store.revision, "edit": None, "reason": "unedited"}


@pytest.mark.parametrize("text", [FACTS[0].prompt, OTHERS[1]])
def test_a_stream_is_the_answer_in_pieces(served, client, text):
    chunks = list(chat(client, text, stream=True, stream_options={"include_usage": True}))
    whole = chat(client, text)
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].melo["edit"] == whole.melo["edit"]
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    plain = list(chat(client, text, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in plain)


def test_completions_take_raw_text_and_several(served, client):
    prompts = [FACTS[1].prompt, OTHERS[0]]
    answer = client.completions.create(model=MODEL, prompt=prompts, max_tokens=6)
    for choice, prompt in zip(answer.choices, prompts, strict=True):
        alone = expected(served, prompt, "raw", 6)
        assert choice.text.strip() == alone.text and choice.melo["edit"] == alone.route.edit
    pieces = client.completions.create(model=MODEL, prompt=prompts[0], max_tokens=6, stream=True)
    assert "".join(chunk.choices[0].text for chunk in pieces) == answer.choices[0].text


def test_draws_follow_seed_and_temperature(client):
    def draw(**fields):
        return [one.message.content for one in chat(client, OTHERS[1], temperature=1.0, **fields).choices]

    assert draw(seed=3) == draw(seed=3) != draw(seed=4)
    three = draw(seed=3, n=3)
    assert three[0] == draw(seed=3)[0] and len(set(three)) > 1
    assert draw(seed=3, top_p=1e-6) == [chat(client, OTHERS[1]).choices[0].message.content]
    assert draw() != draw()


def test_an_answer_ends_before_a_stop_text(served, client):
    whole = chat(client, OTHERS[1], max_tokens=16).choices[0].message.content
    stop = whole[4:6]
    cut = whole[: whole.index(stop)]
    answer = chat(client, OTHERS[1], max_tokens=16, stop=["never said", stop])
    assert answer.choices[0].message.content == cut and answer.choices[0].finish_reason == "stop"
    chunks = list(chat(client, OTHERS[1], max_tokens=16, stop=stop, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == cut


def test_max_completion_tokens_prevails(client):
    answer = chat(client, OTHERS[1], max_completion_tokens=2)
    assert answer.usage.completion_tokens == 2 and answer.choices[0].finish_reason == "length"


def test_log_probabilities(client):
    answer = chat(client, OTHERS[1], logprobs=True, top_logprobs=2, max_tokens=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == 3
    for one in content:
        assert len(one.top_logprobs) == 2 and one.top_logprobs[0].logprob == one.logprob <= 0
        assert bytes(one.bytes).decode() == one.token
    text = client.completions.create(model=MODEL, prompt=OTHERS[1], max_tokens=3, logprobs=1).choices[0]
    assert len(text.logprobs.tokens) == 3 and text.logprobs.token_logprobs[0] <= 0
    streamed = [c.choices[0].logprobs for c in chat(client, OTHERS[1], logprobs=True, max_tokens=3, stream=True)]
    assert [p.content[0].logprob for p in streamed if p] == [one.logprob for one in content]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"presence_penalty": 1.0}, "presence_penalty is not supported"),
        ({"n": 9}, "9 answers in one request"),
        ({"max_tokens": 65}, "max_tokens is 65"),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"temperature": -1}, "temperature: "),
        ({"stop": ["a", ""]}, "stop is one text or up to four"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream"),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "assistant", "content": "I am"}]}, "the last chat message must be the user's"),
        ({"messages": [{"role": "user", "content": "long " * 300}]}, "the model takes 256: shorten it"),
    ],
)
def test_what_would_change_the_answer_and_is_not_done_is_refused(client, fields, message):
    with pytest.raises(openai.BadRequestError) as error:
        chat(client, "Is it late?", **fields)
    assert message in error.value.body["message"]


def test_what_changes_nothing_is_ignored(client):
    plain = chat(client, OTHERS[0]).choices[0].message.content
    harmless = {"user": "u", "metadata": {"a": "b"}, "tools": [], "presence_penalty": 0, "logit_bias": {}, "n": 1}
    assert chat(client, OTHERS[0], **harmless, extra_body={"made_up": [1]}).choices[0].message.content == plain


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        chat(client, "Is it late?", model="gpt")


def test_many_at_once_get_their_own_answers(served):
    texts = [fact.prompt for fact in FACTS] + OTHERS
    wanted = {text: expected(served, text, tokens=12) for text in texts}

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none") as client:
            asked = texts * 4
            return zip(asked, await asyncio.gather(*(chat(client, text, max_tokens=12) for text in asked)), strict=True)

    for text, answer in asyncio.run(ask_all()):
        assert answer.choices[0].message.content.strip() == wanted[text].text
        assert answer.melo["edit"] == wanted[text].route.edit
