"""The page Traffic: hits with their table, near misses that are decided, and a dry run over a log."""

import json

from support.prompts import FACTS, OTHERS

BOOK, CAPITAL, LEGS = FACTS


def test_hits_stand_in_a_table_beside_the_chart(pages, served):
    page = pages.open("traffic")
    hits = served.good(served.get("/v1/store/hits"))["data"]
    row = page.get_by_role("table", name="Answers by edit").get_by_role("row", name=CAPITAL.prompt)
    count = sum(one["count"] for one in hits if one["edit"] == "capital")
    assert count >= 2 and row.get_by_role("cell").last.inner_text() == str(count)
    page.get_by_text("The chart's figures as a table").click()
    page.get_by_label("Time", exact=True).select_option("Last 24 hours")
    times = page.get_by_role("table", name="Answers by time and edit")
    assert times.get_by_role("cell").last.inner_text() == str(sum(one["count"] for one in hits))


def test_an_answered_question_is_silenced(pages, back):
    text = BOOK.prompt + " It is late."
    assert back.ask(text).json()["melo"]["edit"] == "book"
    page = pages.open("traffic")
    page.get_by_role("button", name="Answered by edits").click()
    line = page.get_by_role("listitem").filter(has_text=text)
    line.get_by_role("button", name="Wrong: keep silent on it").click()
    line.get_by_text("stays silent on this question").wait_for()
    assert back.ask(text).json()["melo"] == {"revision": back.service.revision, "edit": None, "reason": "quiet"}
    pages.reload(page)
    page.get_by_role("button", name="Answered by edits").click()
    assert not page.get_by_text(text).count()  # it is decided


LOG = "\n".join(
    [
        LEGS.prompt,
        json.dumps({"prompt": OTHERS[0]}),
        json.dumps({"messages": [{"role": "user", "content": CAPITAL.prompt}, {"role": "assistant", "content": "?"}]}),
        LEGS.prompt,
        '{"question": "who"}',
        "",
    ]
)


def test_a_log_is_tried(pages, back):
    page = pages.open("traffic")
    page.get_by_role("button", name="Try them").click()
    page.get_by_text("Paste some questions first").wait_for()
    page.get_by_label("Questions", exact=True).fill(LOG)
    page.get_by_role("button", name="Try them").click()
    page.get_by_text("3 different questions: edits would answer 2").wait_for()
    page.get_by_text("Line 5 is left out").wait_for()
    found = page.get_by_role("list", name="Questions that edits would answer, or nearly")
    assert "2 times" in found.get_by_role("listitem").filter(has_text=LEGS.prompt).inner_text()
    line = found.get_by_role("listitem").filter(has_text=CAPITAL.prompt)
    line.get_by_role("button", name="Wrong: keep silent on it").click()
    line.get_by_text("is what edit 'capital' was made for").wait_for()  # the server's own line


def test_of_a_long_log_the_rest_is_named(pages, served):
    page = pages.open("traffic")
    page.route("**/v1/scan", lambda route: route.fulfill(status=503, json={"error": {"message": "busy"}}))
    put = "(area, text) => { area.value = text; area.dispatchEvent(new Event('input', { bubbles: true })) }"
    log = "\n".join(f"Question {i}" for i in range(10_001))
    page.get_by_label("Questions", exact=True).evaluate(put, log)  # typed, so many lines take the browser long
    page.get_by_role("button", name="Try them").click()
    page.get_by_text("The first 10,000 of 10,001 questions are tried").wait_for()
    page.get_by_text("Stopped. Of 10,000").wait_for()
    page.unroute_all()


def test_nobody_asks_for_an_edit_that_was_removed(pages, back):
    back.good(back.http.delete("/v1/edits/capital"))
    page = pages.open("traffic")
    assert page.get_by_role("table", name="Answers by edit").get_by_text("capital (removed)").count() == 1
    assert not [address for address in pages.asked if address.endswith("/v1/edits/capital")]
