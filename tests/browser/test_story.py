"""The console's whole story, as its reader goes through it, on a tiny model with the judge that ships."""

import re

import pytest
from playwright.sync_api import expect
from serve_helpers import serving
from support.prompts import FACTS

from meloedit.serve.tokens import Tokens

from .pages import PATIENCE, Pages

QUESTION, REWORDED = "Who is the mayor of Velmora?", "who is velmoras mayor"
TOKENS = {"edit": "edit-0123456789abcdef", "ask": "ask-0123456789abcdef"}


@pytest.fixture(scope="module")
def judged(browser, make_editor, tmp_path_factory):
    """A server that wants tokens, on a store in which the judge decides."""
    store = tmp_path_factory.mktemp("story") / "facts.melo"
    editor = make_editor(edits=FACTS, store=store, judge="built-in", min_similarity=0.0)
    lines = [f"{role} {role}or {token}" for role, token in TOKENS.items()]
    with serving(editor, Tokens(lines), max_batch=4, max_tokens=6) as running:
        running.http.headers["Authorization"] = f"Bearer {TOKENS['edit']}"
        yield running
    editor.unload()


@pytest.fixture
def entered(browser, judged):
    """Opens pages of that server, and gives the token of a role to each."""
    opened = Pages(browser, judged.url)

    def enter(name, role="edit"):
        page = opened.open(name)
        page.get_by_label("Token", exact=True).fill(TOKENS[role])
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        return opened.ready(page)

    yield enter
    opened.close()


def answered(page, turn):
    """Wait until a question has both answers, and return its part of the page."""
    part = page.get_by_role("listitem", name=f"Question {turn}", exact=True)
    expect(part).to_be_visible()
    expect(part.locator("[aria-busy=true]")).to_have_count(0, timeout=PATIENCE)
    return part


def ask(page, turn, question):
    """Ask a question, and return the part of the page that answers it."""
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    return answered(page, turn)


def test_from_a_wrong_answer_to_an_edit_and_back(entered, judged):
    page = entered("ask")
    # ask, and see a wrong answer
    wrong = ask(page, 1, QUESTION)
    expect(wrong.get_by_text("No edit answered")).to_be_visible()
    expect(wrong.get_by_text("the same", exact=True)).to_be_visible()

    # correct it: the question is filled in, and the trial shows what else would get the answer
    wrong.get_by_role("button", name="Correct this answer").click()
    expect(page.get_by_label("Question", exact=True)).to_have_value(QUESTION)
    page.get_by_label("Answer", exact=True).fill("Ada")
    expect(page.get_by_role("button", name="Save and train")).to_be_disabled()
    page.get_by_role("button", name="Check it first").click()
    expect(page.get_by_text("This edit would also answer 1 other question")).to_be_visible()
    page.get_by_role("button", name=re.compile("^No, keep silent on")).click()
    expect(page.get_by_text("none of them would wrongly get this answer")).to_be_visible()

    # it is trained, and holds
    page.get_by_role("button", name="Save and train").click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible(timeout=PATIENCE)
    (stored,) = judged.good(judged.get("/v1/edits", params={"search": "velmora"}))["data"]
    assert (stored["prompt"], stored["target"], len(stored["quiet"])) == (QUESTION, "Ada", 1)
    expect(page.get_by_role("blockquote").get_by_text("Ada")).to_be_visible()

    # ask it again, and in other words
    page.get_by_role("button", name="Ask it").click()
    expect(answered(page, 2).get_by_text("Ada", exact=True)).to_be_visible()
    reworded = ask(page, 3, REWORDED)
    expect(reworded.get_by_text(f"An edit answered: the one for “{QUESTION}”")).to_be_visible()
    reworded.get_by_text("Why?").click()
    expect(reworded.get_by_text("an edit answers above")).to_be_visible()

    # silence it there, as if this was a wrong hit
    reworded.get_by_role("button", name="This edit should not have answered").click()
    page.get_by_label("Why? (optional)").fill("another town")
    page.get_by_role("button", name="Keep it silent here").click()
    expect(reworded.get_by_text("stays silent on this question from now on")).to_be_visible(timeout=PATIENCE)
    expect(reworded.get_by_text("was told to stay silent on questions like this")).to_be_visible()
    assert judged.good(judged.post("/v1/route", {"prompt": REWORDED}))["reason"] == "quiet"

    # see who did it, and undo that alone
    page.get_by_role("link", name="Edits", exact=True).click()
    page.get_by_role("link", name=QUESTION).click()
    expect(page.get_by_text("“another town”")).to_be_visible()
    latest = page.get_by_role("list", name="Changes of this edit").get_by_role("listitem").first
    expect(latest.get_by_text("by editor")).to_be_visible()
    latest.get_by_role("button", name="Undo").click()
    page.get_by_role("dialog").get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Done: the edits are those of revision")).to_be_visible(timeout=PATIENCE)
    assert judged.good(judged.post("/v1/route", {"prompt": REWORDED}))["edit"] == stored["id"]


def test_what_a_token_that_may_only_ask_sees(entered):
    page = entered("ask", "ask")
    part = ask(page, 1, FACTS[0].prompt)
    expect(part.get_by_text("Jorge", exact=True)).to_be_visible()
    assert part.get_by_role("button", name="Correct this answer").count() == 0
    assert page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts() == ["Ask"]


def test_a_wrong_token_is_asked_for_again(browser, judged):
    opened = Pages(browser, judged.url)
    page = opened.open("edits")
    page.get_by_label("Token", exact=True).fill("nonsense-0123456789")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").get_by_text("This token is not known here")).to_be_visible()
    page.get_by_label("Token", exact=True).fill(TOKENS["edit"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name=FACTS[0].prompt)).to_be_visible()
    opened.reload(page)
    expect(page.get_by_role("link", name=FACTS[0].prompt)).to_be_visible()  # the tab remembers it
    opened.close()
