"""The keyboard alone is enough: everything is reached and shows it, and dialogs keep the focus and give it back."""

import pytest
from playwright.sync_api import expect

from .pages import NAMES, until

REACHABLE = """() => {
    const all = "a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary, [tabindex='0']";
    const shown = (one) => one.checkVisibility({ visibilityProperty: true });
    return [...document.querySelectorAll(all)].filter(shown).map((one, i) => {
        one.dataset.place = i;
        return one.outerHTML.slice(0, 120);
    });
}"""
FOCUSED = """() => {
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    return [document.activeElement.dataset.place ?? null, outlineStyle !== "none" && parseFloat(outlineWidth) >= 1];
}"""
IN_DIALOG = """() => {
    const focused = document.activeElement;  // the body: the browser's own controls come between
    return focused === document.body || document.querySelector("dialog").contains(focused);
}"""
MOST = 25
"""Of many alike, such as the rows of a table, so many are enough."""


@pytest.mark.parametrize("name", NAMES)
def test_tab_reaches_everything_and_shows_where_it_is(pages, name):
    page = pages.open(name)
    page.evaluate("document.activeElement.blur()")
    found = page.evaluate(REACHABLE)
    reached, unseen = set(), []
    for _ in found[: MOST + 1]:
        page.keyboard.press("Tab")
        place, shown = page.evaluate(FOCUSED)
        reached.add(place)
        if place is not None and not shown:
            unseen.append(found[int(place)])
    wanted = {str(i) for i in range(min(MOST, len(found)))}
    assert [found[int(place)] for place in sorted(wanted - reached, key=int)] == []
    assert unseen == []


def test_the_first_link_leads_past_the_navigation(pages):
    page = pages.open("traffic")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the page"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_link_of_the_navigation_leads_to_the_heading(pages):
    page = pages.open("ask")
    page.get_by_role("link", name="History").focus()
    page.keyboard.press("Enter")
    pages.ready(page)
    until(page, "document.activeElement.tagName === 'H1'")
    assert page.locator(":focus").inner_text() == "History" and page.title().startswith("History")


def test_a_dialog_keeps_the_focus_and_gives_it_back(pages):
    page = pages.open("history")
    button = page.get_by_role("button", name="Go back to revision 1", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate(IN_DIALOG)
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    expect(button).to_be_focused()
