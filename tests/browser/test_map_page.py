"""The page Map: points are picked by mouse and by keyboard, and typed questions are placed."""

from playwright.sync_api import expect
from support.prompts import FACTS, OTHERS

BOOK, CAPITAL, LEGS = FACTS


def chosen(page):
    return page.get_by_role("region", name="What is chosen")


def test_the_keyboard_picks_a_point_of_the_list(pages):
    page = pages.open("map")
    search = page.get_by_label("Find on the map")
    search.fill("spider")
    assert page.get_by_role("option").count() == 1
    search.fill("")
    page.get_by_role("listbox").focus()
    for key in ("End", "Home", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    assert page.get_by_role("option", selected=True).inner_text() == BOOK.prompt
    assert BOOK.prompt in chosen(page).inner_text() and "Jorge" in chosen(page).inner_text()
    page.keyboard.press("ArrowDown")
    assert CAPITAL.prompt in chosen(page).inner_text()
    chosen(page).get_by_role("button", name=CAPITAL.prompt).first.click()  # a question that it answered
    assert "An edit answered it." in chosen(page).inner_text() and "Asked 2 times" in chosen(page).inner_text()


def test_the_mouse_picks_a_point_of_the_map(pages, served):
    page = pages.open("map")
    page.get_by_role("option", name=LEGS.prompt).click()
    canvas = page.locator("canvas")
    box = canvas.bounding_box()
    drawn = served.good(served.get("/v1/store/map"))
    shown = [*drawn["edits"], *drawn["prompts"], *(place for one in drawn["edits"] for place in one["wordings"])]
    places = [(one["x"], one["y"]) for one in shown]
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*places, strict=True))
    per_pixel = max((right - left) / box["width"], (high - low) / box["height"]) * 1.25
    book = next(one for one in drawn["edits"] if one["id"] == "book")
    x = box["width"] / 2 + (book["x"] - (left + right) / 2) / per_pixel
    y = box["height"] / 2 - (book["y"] - (low + high) / 2) / per_pixel
    canvas.click(position={"x": x, "y": y})
    expect(chosen(page)).to_contain_text(BOOK.prompt)


def test_a_typed_question_is_placed_and_read(pages):
    page = pages.open("map")
    field = page.get_by_label("Where does a question lie?")
    for text, told in (
        (LEGS.prompt, "An edit would answer it."),
        (OTHERS[1], "too far from every edit"),
        ("?!", "no place on the map"),
    ):
        field.fill(text)
        page.keyboard.press("Enter")
        chosen(page).get_by_text(told).wait_for()
        assert "Your question" in chosen(page).inner_text() and field.input_value() == ""
    assert page.get_by_role("group", name="Your questions").get_by_role("option").count() == 3
