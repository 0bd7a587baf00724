"""What holds on every page: it fits its window, has no fault that axe finds, and shows texts as texts."""

import re
from contextlib import suppress

import pytest
from axe_playwright_python.sync_playwright import Axe

from .pages import HOSTILE, NAMES, SCRIPT, until

WIDTHS = (1600, 1024, 400)


def overflow(page):
    """How many pixels of a page lie beside its window, once its charts follow the window's size, and what is widest."""
    with suppress(TimeoutError):
        until(page, "document.documentElement.scrollWidth <= innerWidth", patience=5000)
    return page.evaluate(
        """() => {
            const wide = document.documentElement.scrollWidth - innerWidth;
            const inside = [...document.querySelectorAll("main *")];
            const over = inside.filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
            return wide > 0 ? [wide, over.slice(-1).map((one) => one.outerHTML.slice(0, 200))] : [];
        }"""
    )


def faults(page, *rules):
    """The serious and critical faults that axe finds, by all rules or some, each with the first element that has it."""
    found = Axe().run(page, options={"runOnly": rules} if rules else None).response["violations"]
    return [
        (one["id"], len(one["nodes"]), one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"][:300])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("place", [*NAMES, "edits/book"])
def test_a_page_fits_every_window_and_axe_finds_no_fault(pages, place):
    page = pages.open(place, width=WIDTHS[0])
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) == [], width
    assert faults(page) == [], "400 pixels, light"
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": WIDTHS[1], "height": 800})
    assert faults(page, "color-contrast") == [], "1024 pixels, dark"  # colours alone are others


QUESTION = f"Who is {HOSTILE}?"


def ask(page):
    page.get_by_role("textbox").first.fill(QUESTION)
    page.keyboard.press("Enter")
    page.get_by_text("<img src=x>", exact=True).first.wait_for()


def read_the_edit(page):
    page.get_by_role("link", name=QUESTION).first.click()
    page.get_by_role("heading", name=QUESTION).wait_for()
    page.get_by_text(SCRIPT, exact=True).first.wait_for()  # of the metadata


def check_a_new_edit(page):
    page.get_by_label("Question", exact=True).fill(QUESTION + SCRIPT)
    page.get_by_label("Answer", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Check it first").click()


def pick(page):
    page.get_by_role("option", name=QUESTION).first.click()
    page.get_by_text("<img src=x>", exact=True).first.wait_for()


def try_a_log(page):
    page.get_by_label("Questions", exact=True).fill(f"{QUESTION}\n{HOSTILE}\n" + '{"a": "' + SCRIPT + '"}')
    page.get_by_role("button", name="Try them").click()
    page.get_by_text("different questions").wait_for()


def compare(page):
    quiet = page.get_by_role("listitem").filter(has_text=SCRIPT).first  # its reason
    quiet.get_by_role("checkbox").check()
    quiet.locator("xpath=following-sibling::li[1]").get_by_role("checkbox").check()
    page.get_by_role("button", name=re.compile(r"Compare \d+ and \d+")).click()
    page.get_by_role("dialog").get_by_text(f"Never {HOSTILE}").first.wait_for()


ACTS = {
    "ask": ask,
    "edits": read_the_edit,
    "new": check_a_new_edit,
    "map": pick,
    "traffic": try_a_log,
    "history": compare,
}


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_shown_as_texts(pages, name):
    page = pages.open(name)
    before = page.locator("body").inner_text()
    ACTS[name](page)
    pages.ready(page)
    assert name == "new" or HOSTILE in before + page.locator("body").inner_text()
    made = page.evaluate("document.querySelectorAll('img[src=x], body script:not([src]), [onerror]').length")
    assert (made, page.evaluate("window.hit")) == (0, None)
    assert not [address for address in pages.asked if address.endswith("/x")]
