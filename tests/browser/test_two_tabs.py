"""What trains does not overwrite, unasked, what another tab changed meanwhile."""

from playwright.sync_api import expect
from support.prompts import FACTS

from .pages import PATIENCE

BOOK, CAPITAL, LEGS = FACTS


def begin_to_change(pages, answer):
    """Open a tab on an edit, and write another answer."""
    page = pages.open("edits/legs")
    page.get_by_role("button", name="Change it").click()
    page.get_by_label("Answer", exact=True).fill(answer)
    page.get_by_role("button", name="Check it first").click()
    expect(page.get_by_role("button", name="Save and train")).to_be_enabled()
    return page


def target(served):
    return served.good(served.get("/v1/edits/legs"))["target"]


def test_of_two_tabs_that_change_an_edit_the_second_is_told_and_asked(pages, back):
    first, second = (begin_to_change(pages, answer) for answer in ("six", "ten"))
    first.get_by_role("button", name="Save and train").click()
    expect(first.get_by_text("Saved.", exact=True)).to_be_visible(timeout=PATIENCE)
    second.get_by_role("button", name="Save and train").click()
    told = second.get_by_role("region", name="Check and training")
    expect(told.get_by_text("somebody changed this edit while you wrote")).to_be_visible()
    expect(told.get_by_text("six", exact=True)).to_be_visible()
    assert target(back) == "six"
    told.get_by_role("button", name="Begin again from that").click()
    expect(second.get_by_label("Answer", exact=True)).to_have_value("six")

    # removed while it is written: that is told as well, and it can be saved all the same
    second.get_by_label("Answer", exact=True).fill("ten")
    second.get_by_role("button", name="Check it first").click()
    back.good(back.http.delete("/v1/edits/legs"))
    second.get_by_role("button", name="Save and train").click()
    expect(told.get_by_text("somebody removed this edit while you wrote")).to_be_visible()
    assert back.get("/v1/edits/legs").status_code == 404
    told.get_by_role("button", name="Save mine all the same").click()
    expect(second.get_by_text("Saved.", exact=True)).to_be_visible(timeout=PATIENCE)
    assert target(back) == "ten"


def test_what_another_tab_brought_back_or_put_in_its_place_is_left_alone(pages, back):
    before = back.editor.store.revision
    back.good(back.http.delete("/v1/edits/legs"))
    back.good(back.http.patch("/v1/edits/book", json={"enabled": False}))  # now it must be trained
    page, other = (pages.open("edits/legs") for _ in range(2))
    for one in (page, other):
        one.get_by_role("button", name="Bring it back").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("All other edits stay as they are")).to_be_visible()
    back.edit({"prompt": LEGS.prompt, "target": "six", "id": "other"})
    dialog.get_by_role("button", name="Bring it back").click()
    expect(dialog.get_by_text("so nothing was done")).to_be_visible()
    expect(dialog.get_by_text("answers this question now")).to_be_visible()  # it is asked, with the other edit named
    assert back.good(back.get("/v1/edits/other"))["target"] == "six"

    back.good(back.post("/v1/store/rollback", {"to": before}, params={"wait": 60}))
    revision = back.editor.store.revision
    other.get_by_role("dialog").get_by_role("button", name="Bring it back").click()
    expect(other.get_by_text("Somebody brought this edit back meanwhile")).to_be_visible()
    expect(other.get_by_role("button", name="Change it")).to_be_visible()  # it is read anew
    assert (target(back), back.editor.store.revision) == (LEGS.target, revision)
