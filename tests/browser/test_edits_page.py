"""The pages Edits and History: find, switch off, change, undo one change alone, compare, go back."""

from playwright.sync_api import expect
from support.prompts import FACTS

from .pages import PATIENCE

BOOK, CAPITAL, LEGS = FACTS


def change(served, method, edit_id, **fields):
    served.good(served.http.request(method, f"/v1/edits/{edit_id}", **fields))


def state(served, edit_id):
    """Whether an edit answers; None if there is none."""
    response = served.get(f"/v1/edits/{edit_id}")
    return response.json()["enabled"] if response.status_code == 200 else None


def undo(page, what):
    """Undo the change that says so, in the history of the edit that the page shows."""
    entry = page.get_by_role("list", name="Changes of this edit").get_by_role("listitem").filter(has_text=what)
    entry.first.get_by_role("button", name="Undo").click()
    page.get_by_role("dialog").get_by_role("button", name="Undo").click()


def bring_back(page):
    """Bring back the edit that the page shows."""
    page.get_by_role("button", name="Bring it back").click()
    page.get_by_role("dialog").get_by_role("button", name="Bring it back").click()
    expect(page.get_by_text("The edit is back.")).to_be_visible(timeout=PATIENCE)


def test_edits_are_searched_sorted_and_switched(pages, back):
    most = max(one["hits"] for one in back.get("/v1/edits").json()["data"])  # other tests ask, too
    page = pages.open("edits")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(1 + 4)
    page.get_by_role("button", name="Answered").click()  # the most asked first
    expect(rows.nth(1)).to_contain_text(f"{most} times")
    page.get_by_role("button", name="Answered").click()
    expect(rows.nth(1)).not_to_contain_text(f"{most} times")
    page.get_by_label("Search").fill("SPIDER")
    expect(rows).to_have_count(1 + 1)
    page.get_by_role("button", name=f"Switch off: {LEGS.prompt}").click()
    expect(page.get_by_text("is switched off")).to_be_visible()
    assert state(back, "legs") is False
    page.get_by_label("Search").fill("")
    page.get_by_label("State").select_option("Off")
    expect(rows).to_have_count(1 + 1)
    page.get_by_label("Search").fill("nothing has this")
    expect(page.get_by_text("No edit fits")).to_be_visible()


def test_one_change_is_undone_and_later_ones_stay(pages, back):
    change(back, "DELETE", "book")
    change(back, "PATCH", "capital", json={"enabled": False})
    page = pages.open("edits/book")
    expect(page.get_by_text("This edit is not in the store now")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(BOOK.prompt)
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)  # of what is gone there is one way back
    bring_back(page)
    expect(page.get_by_role("button", name="Switch off")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(BOOK.prompt)
    assert (state(back, "book"), state(back, "capital")) == (True, False)
    assert back.good(back.ask(BOOK.prompt))["choices"][0]["message"]["content"] == BOOK.target

    pages.go(page, "edits/capital")
    undo(page, "Switched off")  # it is the latest change of this edit, and not of the store
    expect(page.get_by_text("Undone. The edit is switched on again.")).to_be_visible()
    assert (state(back, "book"), state(back, "capital")) == (True, True)


def test_what_going_back_took_out_is_brought_back(pages, back):
    before = back.editor.store.revision
    change(back, "DELETE", "book")
    back.good(back.post("/v1/store/rollback", {"to": before}, params={"wait": 60}))
    back.good(back.post("/v1/store/rollback", {"to": before + 1}, params={"wait": 60}))
    page = pages.open("edits/book")
    expect(page.get_by_role("heading", level=1)).to_have_text(BOOK.prompt)
    expect(page.get_by_text(f"Went back to revision {before}: this edit is again what it was then")).to_be_visible()
    gone = f"Went back to revision {before + 1}: this edit was not there then, so it was taken out"
    expect(page.get_by_text(gone)).to_be_visible()
    bring_back(page)
    assert state(back, "book") is True


def test_another_tab_was_faster(pages, back):
    page = pages.open("edits/legs")
    change(back, "POST", "legs/quiet", json={"prompts": ["How many legs has a chair?"]})
    page.get_by_role("button", name="Switch off").click()
    expect(page.get_by_text("Somebody changed this edit meanwhile")).to_be_visible()
    expect(page.get_by_text("How many legs has a chair?", exact=True)).to_be_visible()  # it is read anew
    assert state(back, "legs") is True
    change(back, "PATCH", "capital", json={"enabled": False})  # another edit is nothing to stop at
    page.get_by_role("button", name="Switch off").click()
    expect(page.get_by_role("button", name="Switch on")).to_be_visible()
    page.get_by_role("button", name="Switch on").click()  # nor is what this tab did
    expect(page.get_by_role("button", name="Switch off")).to_be_visible()
    change(back, "DELETE", "legs")
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("Somebody removed this edit meanwhile")).to_be_visible()
    expect(page.get_by_text("This edit is not in the store now")).to_be_visible()


def test_what_cannot_be_opened_is_said(pages):
    page = pages.open("edits/jobs")  # the address of something else
    said = page.get_by_text("This edit cannot be opened here; use the command line: meloedit show")
    expect(said).to_be_visible()
    page.route("**/v1/edits/book", lambda route: route.fulfill(status=404, json={"error": {"message": "none"}}))
    pages.go(page, "edits/book")
    expect(page.get_by_role("heading", name="History of this edit")).to_be_visible()
    expect(said).to_be_visible()
    expect(page.get_by_text("not in the store")).to_have_count(0)
    page.unroute_all()


def test_an_edit_is_changed(pages, back):
    page = pages.open("edits/legs")
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Change an edit")
    expect(page.get_by_label("Question", exact=True)).to_have_value(LEGS.prompt)
    page.get_by_label("Answer", exact=True).fill("six")
    page.get_by_role("button", name="Check it first").click()
    page.get_by_role("button", name="Save and train").click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible(timeout=PATIENCE)
    stored = back.good(back.get("/v1/edits/legs"))
    assert (stored["prompt"], stored["target"]) == (LEGS.prompt, "six")


def test_two_revisions_are_compared_and_one_is_brought_back(pages, back):
    before = back.editor.store.revision
    change(back, "DELETE", "book")
    page = pages.open("history")
    page.get_by_label(f"Compare revision {before}", exact=True).check()
    page.get_by_label(f"Compare revision {before + 1}", exact=True).check()
    page.get_by_role("button", name=f"Compare {before} and {before + 1}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Removed")).to_be_visible()
    expect(dialog.get_by_text(BOOK.prompt)).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name=f"Go back to revision {before}", exact=True).click()
    expect(dialog.get_by_text("Added")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    assert state(back, "book") is None  # it asks first
    page.get_by_role("button", name=f"Go back to revision {before}", exact=True).click()
    dialog.get_by_role("button", name="Go back").click()
    expect(page.get_by_text(f"the edits are those of revision {before} again")).to_be_visible(timeout=PATIENCE)
    assert state(back, "book") is True
