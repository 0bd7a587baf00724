"""The page Ask: what can be done about an answer is offered when the edited answer is whole, and not before."""

from playwright.sync_api import expect
from support.prompts import FACTS


def hold(page, edited):
    """Hold back what one of the two models answers; return what lets it come."""
    held, let = [], []

    def route(one):
        mine = one.request.post_data_json["model"].endswith(":base") != edited
        held.append(one) if mine and not let else one.continue_()

    def go_on():
        let.append(True)  # a question may be sent again, for a shorter answer
        for one in held:
            one.continue_()

    page.route("**/v1/chat/completions", route)
    return go_on


def test_the_buttons_come_with_the_edited_answer(pages):
    page = pages.open("ask")
    for number, edited in ((1, True), (2, False)):
        let = hold(page, edited)
        page.get_by_label("Your question").fill(FACTS[0].prompt)
        page.keyboard.press("Enter")
        part = page.get_by_role("listitem", name=f"Question {number}", exact=True)
        correct = part.get_by_role("button", name="Correct this answer")
        waited = part.get_by_role("heading", name="Original model" if edited else "With your edits").locator("..")
        expect(waited).to_have_attribute("aria-busy", "false")
        expect(part.get_by_text("An edit answered")).to_be_visible()  # the route alone is no answer
        if edited:
            expect(correct).to_have_count(0)
            expect(part.get_by_role("button", name="Stop", exact=True)).to_be_visible()
        else:
            expect(correct).to_be_visible()  # whatever the original model still writes
            expect(part.get_by_role("button", name="Stop the original model")).to_be_visible()
        let()
        expect(correct).to_be_visible()
        expect(part.get_by_role("button", name="Stop")).to_have_count(0)
        page.unroute_all()
