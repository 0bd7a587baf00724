"""What holds on every page: it fits its window, has no fault that axe finds, and shows texts as texts."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from .pages import HOSTILE, NAMES, SCRIPT

WIDTHS = (1600, 1024, 400)


def overflow(page):
    """How many pixels of a page lie beside its window, and what is widest."""
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


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_every_window_and_axe_finds_no_fault(pages, name):
    page = pages.open(name, width=WIDTHS[0])
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(50)  # charts follow the window's size in the next frame
        assert overflow(page) == [], width
    assert faults(page) == [], "400 pixels, light"
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": WIDTHS[1], "height": 800})
    assert faults(page, "color-contrast") == [], "1024 pixels, dark"  # colours alone are others


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_shown_as_texts(pages, served, name):
    page = pages.open(name)
    if name == "ask":
        page.get_by_role("textbox").first.fill(f"Who is {HOSTILE}?")
        page.keyboard.press("Enter")
    if name == "map":
        page.get_by_role("option", name=f"Who is {HOSTILE}?").first.click()
    if name in ("ask", "map"):
        page.get_by_text("<img src=x>", exact=True).first.wait_for()
    if name != "new":
        assert HOSTILE in page.locator("main").inner_text() or SCRIPT in page.locator("main").inner_text()
    made = page.evaluate("document.querySelectorAll('img[src=x], main script, main [onerror]').length")
    assert (made, page.evaluate("window.hit")) == (0, None)
    assert not [address for address in pages.asked if address.endswith("/x")]
