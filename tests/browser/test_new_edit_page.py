"""The page New edit: beginnings of sentences in a trial, and texts that are too long for it."""

import sys
import time

import pytest
from playwright.sync_api import expect

BEGINNING, QUESTION = "The mayor of Velmora is called", "Who was the mayor of Velmora?"


def test_a_trial_tells_beginnings_of_sentences_from_questions(pages):
    neighbours = [
        {"prompt": prompt, "kind": "other question", "score": 0.9, "fires": fires}
        for prompt, fires in ((BEGINNING, True), (QUESTION, True), ("The river of Velmora is", False))
    ]
    trial = {"id": "x", "asked": 4, "warned": True, "neighbours": neighbours, "silenced": ["The town is not"]}
    page = pages.open("new")
    page.route("**/v1/edits/trial", lambda route: route.fulfill(json={"data": [trial]}))
    page.get_by_label("Question", exact=True).fill("Who is the mayor of Velmora?")
    page.get_by_label("Answer", exact=True).fill("Ada")
    page.get_by_role("button", name="Check it first").click()
    told = page.get_by_role("region", name="Check and training")
    expect(told.get_by_text("This edit would also answer 2 other questions")).to_be_visible()
    reached = told.get_by_role("listitem")
    begun = reached.filter(has_text=f"{BEGINNING} …")
    expect(begun.get_by_text("beginning of a sentence")).to_be_visible()
    asked = reached.filter(has_text=QUESTION)
    expect(asked).to_be_visible()
    expect(asked.get_by_text("beginning of a sentence")).to_have_count(0)
    expect(told.get_by_text("The town is not … (beginning of a sentence)")).to_be_visible()
    told.get_by_text("1 question that would not get this answer").click()
    expect(reached.filter(has_text="The river of Velmora is …").get_by_text("beginning of a sentence")).to_be_visible()
    page.unroute_all()


def paste(page, field, text):
    """Paste a text as a person does: by the clipboard, and the keyboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    field.focus()
    page.keyboard.press("Control+V")


def lines(count):
    return "\n".join(f"When does office number {i} open on Mondays?" for i in range(count))


def test_lines_that_are_pasted_into_a_list_become_its_entries(pages):
    page = pages.open("new")
    page.get_by_role("button", name="Add a wording").click()
    first = page.get_by_label("Other ways to ask (optional), number 1")
    paste(page, first, lines(101))
    expect(page.get_by_text("These are 101 lines: at most 100 can be pasted at once.")).to_be_visible()
    expect(first).to_have_value("")
    paste(page, first, lines(3) + "\n\n")
    expect(page.get_by_role("textbox", name="Other ways to ask")).to_have_count(3)
    expect(page.get_by_label("Other ways to ask (optional), number 3")).to_have_value(lines(3).split("\n")[2])
    expect(page.get_by_text("These are 101 lines")).to_have_count(0)


@pytest.mark.slow
def test_fifty_thousand_lines_are_told_to_be_too_many_and_the_page_goes_on(pages, served):
    page = pages.open("new")
    before = served.editor.store.revision, len(pages.asked)
    question, answer = (page.get_by_label(name, exact=True) for name in ("Question", "Answer"))
    answer.fill("Ada")
    began = time.monotonic()
    paste(page, question, lines(50_000))
    expect(page.get_by_text("It has 50,000 lines: for many edits at once, see “meloedit edit FILE”.")).to_be_visible()
    pasting = time.monotonic() - began
    expect(page.get_by_role("button", name="Check it first")).to_be_disabled()
    began = time.monotonic()
    answer.fill("Ada Lovelace")
    page.get_by_role("button", name="Add a wording").click()
    variant = page.get_by_label("Other ways to ask (optional), number 1")
    paste(page, variant, lines(50_000))
    expect(page.get_by_text("These are 50,000 lines: at most 100 can be pasted at once.")).to_be_visible()
    going_on = time.monotonic() - began
    assert (pasting < 20, going_on < 10) == (True, True), (pasting, going_on)
    pages.reload(page)  # what cannot be sent is not kept either
    expect(question).to_have_value("")
    question.fill("Who is the mayor of Velmora?")
    expect(page.get_by_role("button", name="Check it first")).to_be_enabled()
    asked = [address for address in pages.asked[before[1] :] if "/v1/edits" in address]
    assert (asked, served.editor.store.revision) == ([], before[0])
    sys.stderr.write(f"\npasted in {pasting:.1f} s; the next steps took {going_on:.1f} s\n")
