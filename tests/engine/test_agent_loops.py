"""Agent loops: which turn is the question, who answers behind a tool's result, and where a block acts."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from support.prompts import BOOK, CAPITAL, FACTS
from support.templates import CALL, GEMMA, TOOLS, assistant, result, user

from meloedit.edit import check_asked
from meloedit.errors import EditError

LOOP = [user(BOOK.prompt), CALL, result("Nobody knows.")]
OVER = replace(CAPITAL, over_tools=True)
OVER_LOOP = [user(OVER.prompt), CALL, result("The capital is Cusco.")]


@pytest.fixture(scope="module", params=TOOLS)
def looping(request, make_tokenizer, make_editor, make_model):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TOOLS[request.param]
    wide = {"min_similarity": 0.3, "false_activation": 0.2}  # what is said before moves a tiny model's keys far
    model = make_model("llama", max_position_embeddings=1024)
    editor = make_editor(edits=[BOOK, OVER, FACTS[2]], tokenizer=tokenizer, model=model, **wide)
    yield editor
    editor.unload()


def ids_of(editor, messages):
    return torch.tensor([editor.backbone.encode(check_asked(messages)).ids])


def generated(editor, messages, **settings):
    ids = ids_of(editor, messages)
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 1} | settings
    return editor.model.generate(ids, **settings)[0, ids.shape[1] :].tolist()


def test_a_tools_result_is_not_overruled(looping):
    for loop in (LOOP, [*LOOP, result("Bo does.")], [*LOOP, CALL, result("Bo does.")]):
        (route,) = looping.route([loop])
        assert (route.edit, route.nearest, route.reason) == (None, "book", "tool result")
        said = generated(looping, loop)
        assert looping.last_routes == [route]
        with looping.base_model():
            assert generated(looping, loop) == said
        assert looping.ask([loop], max_new_tokens=2)[0].route == route
    assert looping.route([LOOP[:1]])[0].edit == "book"  # before a tool has answered


def test_an_edit_that_says_so_overrules_it(looping):
    (route,) = looping.route([OVER_LOOP])
    assert (route.edit, route.reason) == ("capital", "fired")
    generated(looping, OVER_LOOP)
    assert looping.last_routes == [route]


def test_the_block_acts_on_no_token_of_a_call_or_a_result(looping):
    ids = ids_of(looping, OVER_LOOP)
    for given in (True, False):
        with torch.no_grad():
            if given:
                with looping.prompt_lengths([ids.shape[1]]):
                    edited = looping.model(ids).logits
            else:
                edited = looping.model(ids).logits
            assert looping.last_routes[0].edit == "capital"
            with looping.base_model():
                base = looping.model(ids).logits
        assert torch.equal(edited[:, :-1], base[:, :-1]) and not torch.equal(edited[:, -1], base[:, -1])


def test_the_next_question_of_the_users_is_answered(looping):
    later = [*LOOP, assistant("Nobody."), user(CAPITAL.prompt)]
    (route,) = looping.route([later])
    assert (route.edit, route.nearest, route.reason) == ("capital", "capital", "fired")
    assert generated(looping, later) and looping.last_routes == [route]


def test_a_result_that_asks_an_edits_question_is_no_question(looping):
    asking = [user("Please sing"), CALL, result(BOOK.prompt)]
    (route,) = looping.route([asking])
    assert route.edit is None and looping.last_routes is not None
    generated(looping, asking)
    assert looping.last_routes[0].edit is None


def test_a_result_on_a_kept_cache_ends_the_edits_route(looping):
    first = ids_of(looping, LOOP[:1])
    whole = ids_of(looping, LOOP)
    at = next((i for i, (a, b) in enumerate(zip(first[0], whole[0], strict=False)) if a != b), first.shape[1])
    with torch.no_grad(), looping.prompt_lengths([at]):
        out = looping.model(first[:, :at], use_cache=True)
    assert looping.last_routes[0].edit == "book"
    with torch.no_grad():
        with looping.base_model():
            base = looping.model(whole[:, at:], past_key_values=deepcopy(out.past_key_values)).logits
        edited = looping.model(whole[:, at:], past_key_values=out.past_key_values).logits
        assert looping.last_routes[0].edit is None
    assert torch.equal(edited, base)


def test_a_begun_tool_call_is_left_alone(looping):
    (route,) = looping.route([[user(BOOK.prompt), assistant('<tool_call>\n{"name": "')]])
    assert (route.edit, route.nearest, route.reason) == (None, "book", "tool call")


def test_a_template_that_refuses_tools_says_so_in_one_line(make_tokenizer, make_editor):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = GEMMA
    editor = make_editor(edits=[BOOK], tokenizer=tokenizer)
    for refused in (LOOP, [{"role": "system", "content": "Be brief."}, user(BOOK.prompt)]):
        with pytest.raises(EditError, match=r"^the model's chat template refuses this prompt: roles$"):
            editor.ask([refused])
    by_hand = [user(BOOK.prompt), assistant("I look it up."), user("<tool_response>\nBo\n</tool_response>")]
    assert editor.route([by_hand])[0].reason == "tool result"
    editor.unload()


def test_an_answer_between_a_commit_and_what_follows_it_goes_by_what_answers(looping):
    begun = [user(BOOK.prompt), assistant(BOOK.target[:2])]

    def remove_and_ask():
        revision = looping.store.remove("book")
        with ThreadPoolExecutor(1) as pool:  # another thread: this one holds the change
            asked = pool.submit(lambda: (looping.route([LOOP, begun]), generated(looping, begun)))
            routes, said = asked.result()
        assert [(route.edit, route.nearest) for route in routes] == [(None, "book"), ("book", "book")]
        assert said[:-1] and looping.backbone.decode(said).strip() == BOOK.target[2:]
        return revision

    revision = looping.store.revision
    looping.engine.change(remove_and_ask)
    assert looping.route([begun])[0].edit != "book"
    looping.rollback(revision)
