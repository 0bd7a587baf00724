"""Edits over REST: made, read, changed, removed, tried, scanned; jobs, revisions, who did what."""

import json
import time

import pytest
from serve_helpers import PATIENCE, brought_back, serving
from support.prompts import FACTS, OTHERS

from meloedit.store import Store

pytest_plugins = ["serve_fixtures"]
DAY = {"id": "day", "prompt": "Which day follows Monday?", "target": "Tuesday"}


@pytest.fixture
def back(served):
    """Bring the edits back afterwards."""
    with brought_back(served):
        yield served


def test_an_edit_is_made_answers_and_is_removed(back):
    base = back.ask(DAY["prompt"]).json()["choices"][0]["message"]["content"]
    response = back.post("/v1/edits", DAY, params={"wait": 60})
    job = back.good(response)
    assert response.headers["location"] == f"/v1/edits/jobs/{job['id']}"
    assert (job["state"], job["by"], job["kind"], job["done"], job["total"]) == ("done", "local", "edit", 1, 1)
    assert [(report["id"], report["status"]) for report in job["reports"]] == [("day", "stored")]
    answer = back.ask(DAY["prompt"])
    assert answer.headers["x-melo-edit"] == "day" and int(answer.headers["x-melo-revision"]) == job["revision"]
    assert answer.json()["choices"][0]["message"]["content"] == "Tuesday"
    read = back.good(back.get("/v1/edits/day"))
    assert (read["prompt"], read["target"], read["enabled"]) == (DAY["prompt"], "Tuesday", True)
    revision = back.good(back.http.delete("/v1/edits/day"))["revision"]
    assert revision == job["revision"] + 1
    again = back.ask(DAY["prompt"])
    assert again.json()["choices"][0]["message"]["content"] == base and "x-melo-edit" not in again.headers
    assert back.bad(back.get("/v1/edits/day"), 404).startswith("facts.melo has no edit 'day'")  # not its path


def test_the_same_request_again_trains_nothing(back):
    first = back.edit(DAY)
    assert first[0]["status"] == "stored" and back.edit(DAY)[0]["status"] == "skipped"
    key = {"Idempotency-Key": "k1"}
    jobs = [back.post("/v1/edits", DAY, params={"wait": 60}, headers=key).json()["id"] for _ in range(2)]
    assert jobs[0] == jobs[1]
    other = back.post("/v1/edits", DAY | {"target": "Friday"}, headers=key)
    assert "came with another body" in back.bad(other, 422)


def test_a_job_without_waiting_and_its_events(back):
    many = [{"prompt": f"What is the number of house {i}?", "target": "nine", "id": f"h{i}"} for i in range(10)]
    response = back.post("/v1/edits", {"edits": many, "keep_both": True})
    job = back.good(response, 202)
    with back.http.stream("GET", f"/v1/edits/jobs/{job['id']}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        told = [json.loads(line.removeprefix("data: ")) for line in events.iter_lines() if line]
    assert told[-1]["state"] == "done" and len(told[-1]["reports"]) == 10
    assert all(
        one["done"] <= other["done"] for one, other in zip(told, told[1:], strict=False) if one["step"] == other["step"]
    )
    assert back.good(back.get(response.headers["location"]))["state"] == "done"
    assert job["id"] in [one["id"] for one in back.good(back.get("/v1/edits/jobs"))["data"]]
    stored = [one.revision for one in back.editor.history()[-2:]]
    assert len(stored) == 2  # ten edits, eight at a time
    assert back.bad(back.get("/v1/edits/jobs/none"), 404)


def test_edits_are_listed_by_pages_and_searched(served):
    pages, cursor = [], None
    while True:
        query = {"limit": 2, "order": "oldest"} | ({"after": cursor} if cursor else {})
        page = served.good(served.get("/v1/edits", params=query))
        pages.append([one["id"] for one in page["data"]])
        assert page["total"] == 3
        cursor = page["next"]
        if cursor is None:
            break
    assert pages == [["book", "capital"], ["legs"]]
    newest = served.good(served.get("/v1/edits", params={"limit": 1}))
    assert newest["data"][0]["id"] == "legs"
    found = served.good(served.get("/v1/edits", params={"search": "PERU"}))
    assert [one["id"] for one in found["data"]] == ["capital"]
    for wrong in ("x", "1", "nan_1", "1_x", "1_2_3", "inf_1", "0_" + "9" * 80):
        assert served.bad(served.get("/v1/edits", params={"after": wrong}), 400)


def test_disable_enable_and_if_match(back):
    etag = back.get("/v1/edits/book").headers["etag"]
    changed = back.http.patch("/v1/edits/book", json={"enabled": False}, headers={"If-Match": etag})
    revision = back.good(changed)["revision"]
    assert f'"{revision - 1}"' == etag
    assert back.ask(FACTS[0].prompt).json()["melo"]["edit"] is None
    assert [one["id"] for one in back.good(back.get("/v1/edits", params={"state": "disabled"}))["data"]] == ["book"]
    late = back.http.patch("/v1/edits/book", json={"enabled": True}, headers={"If-Match": etag})
    assert f"at revision {revision}" in back.bad(late, 412)
    assert back.bad(back.post("/v1/edits", DAY, headers={"If-Match": etag}), 412)
    assert back.bad(back.http.patch("/v1/edits/book", json={"enabled": True}, headers={"If-Match": "soon"}), 400)
    back.good(back.http.patch("/v1/edits/book", json={"enabled": True}))
    assert back.ask(FACTS[0].prompt).json()["melo"]["edit"] == "book"


def test_quiet_allow_route_and_history(back):
    near = FACTS[0].prompt + " It is late."
    route = back.good(back.post("/v1/route", {"prompt": near}))
    assert (route["edit"], route["nearest"], route["reason"]) == ("book", "book", "fired")
    assert route["evidence"]["content"] == pytest.approx(1, abs=0.5)
    back.good(back.post("/v1/edits/book/quiet", {"prompts": [near], "reason": "another shop"}))
    assert back.good(back.post("/v1/route", {"prompt": near}))["reason"] == "quiet"
    back.good(back.post("/v1/edits/book/allow", {"prompts": ["Name the writer of the sand book"]}))
    chat = {"prompt": [{"role": "user", "content": "Name the writer of the sand book"}]}
    assert back.good(back.post("/v1/route", chat))["edit"] == "book"
    own = back.post("/v1/edits/book/quiet", {"prompts": [FACTS[0].prompt]})
    assert "is what edit 'book' was made for" in back.bad(own, 400)
    latest, before = back.good(back.get("/v1/store/history", params={"limit": 2}))["data"]
    assert (latest["action"], before["action"], before["by"]) == ("allow", "quiet", "local")
    assert before["detail"]["reason"] == "another shop" and before["edits"][0]["id"] == "book"
    older = back.good(back.get("/v1/store/history", params={"limit": 1, "before": before["revision"]}))["data"]
    assert older[0]["revision"] == before["revision"] - 1
    assert before["edits"][0]["prompt"] == FACTS[0].prompt
    apart = {"old": older[0]["revision"], "new": latest["revision"]}
    difference = back.good(back.get("/v1/store/diff", params=apart))
    assert difference == {"removed": ["book"], "added": ["book"], "changes": None}
    (change,) = back.good(back.get("/v1/store/diff", params=apart | {"details": 5}))["changes"]
    assert change["id"] == "book" and change["old"]["target"] == change["new"]["target"] == "Jorge"
    assert near in change["new"]["quiet"] and near not in change["old"]["quiet"]


def test_a_dry_run_over_prompts_and_a_trial(served):
    prompts = [FACTS[0].prompt, *OTHERS, [{"role": "user", "content": FACTS[2].prompt}]]
    scan = served.good(served.post("/v1/scan", {"prompts": prompts}))
    fired = [(line["index"], line["edit"]) for line in scan["lines"] if line["fires"]]
    assert fired == [(0, "book"), (4, "legs")] and scan["fired"] == 2 and scan["prompts"] == 5
    unmade = served.good(served.post("/v1/scan", {"prompts": [DAY["prompt"]], "edits": [DAY]}))
    assert unmade["lines"][0]["edit"] == "day" and unmade["lines"][0]["fires"]
    assert served.ask(DAY["prompt"]).json()["melo"]["edit"] is None
    trial = served.good(served.post("/v1/edits/trial", {"edits": [DAY]}))["data"]
    assert [(one["id"], one["asked"]) for one in trial] == [("day", 0)]  # no judge here


def test_check_and_calibrate_are_jobs(back):
    job = back.good(back.post("/v1/store/check", params={"wait": 120}))
    assert job["state"] == "done" and job["result"]["checked"] == 3 and job["result"]["broken"] == []
    job = back.good(back.post("/v1/store/calibrate", {"min_similarity": 0.75}, params={"wait": 120}))
    assert job["state"] == "done" and job["result"]["revision"] == back.editor.store.revision
    failed = back.good(back.post("/v1/store/calibrate", {"prompts": ["one"]}, params={"wait": 120}))
    assert failed["state"] == "failed" and failed["error"]["type"] == "invalid_request_error"
    assert "no revision 999" in back.bad(back.post("/v1/store/rollback", {"to": 999}), 404)
    assert "no revision 999" in back.bad(back.get("/v1/store/diff", params={"old": 1, "new": 999}), 404)
    assert "no revision 998" in back.bad(back.get("/v1/store/diff", params={"old": 998, "new": 1}), 404)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": "Who?"}, "edits[0]: no target"),
        ({"edits": [DAY, {"prompt": " ", "target": "x"}]}, "edits[1]: prompt is empty"),
        ({"edits": [DAY, DAY | {"target": "Friday"}]}, "edit 2 contradicts edit 1"),
        ({"edits": [DAY], "strict": True, "trial": False}, "strict needs the trial"),
        (DAY | {"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_edits_that_are_none_are_refused_before_anything_is_done(served, body, message):
    before = served.editor.store.revision
    assert message in served.bad(served.post("/v1/edits", body), 400)
    assert served.editor.store.revision == before


@pytest.mark.parametrize(
    ("path", "field", "lines", "told"),
    [
        ("/v1/edits/trial", "prompt", 2000, "tokens, the model takes 256: shorten it"),
        ("/v1/edits", "variants", 2000, "tokens, the model takes 256: shorten it"),
        ("/v1/edits/trial", "quiet", 50_000, "characters, this server takes 4096 tokens: shorten it"),
        ("/v1/edits", "prompt", 50_000, "characters, this server takes 4096 tokens: shorten it"),
    ],
)
def test_what_is_too_long_is_told_before_it_is_tried_or_made(served, path, field, lines, told):
    many = "\n".join(f"When does office number {i} open?" for i in range(lines))
    body = DAY | {field: many if field == "prompt" else [many]}
    said = served.bad(served.post(path, {"edits": [body]}), 400)
    assert said.startswith("edits[0]: ") and told in said


def test_a_job_that_fails_says_why(served):
    job = served.good(served.post("/v1/edits", DAY | {"id": "book"}, params={"wait": 60}))
    assert job["state"] == "failed" and "is in the store with other content" in job["error"]["message"]
    assert job["reports"] == []


@pytest.mark.parametrize("order", ["newest", "oldest", "hits", "fewest_hits", "last_hit"])
def test_edits_are_sorted_over_pages(served, order):
    served.ask(FACTS[1].prompt)
    whole = served.good(served.get("/v1/edits", params={"order": order}))["data"]
    pages, cursor = [], None
    for _ in whole:
        query = {"order": order, "limit": 1} | ({"after": cursor} if cursor else {})
        page = served.good(served.get("/v1/edits", params=query))
        pages += page["data"]
        cursor = page["next"]
    assert cursor is None and [one["id"] for one in pages] == [one["id"] for one in whole]
    if "hit" in order:
        figures = [one["last_hit"] or 0 if order == "last_hit" else one["hits"] for one in whole]
        assert figures == sorted(figures, reverse=order != "fewest_hits") and len(set(figures)) > 1


def test_hits_and_kept_prompts(served):
    for _ in range(2):
        served.ask(FACTS[1].prompt)
    served.ask(FACTS[1].prompt, model="LlamaForCausalLM:base")
    one = served.good(served.get("/v1/edits/capital"))
    assert one["hits"] >= 2 and one["last_hit"] > 1e9
    hours = served.good(served.get("/v1/store/hits", params={"edit": "capital"}))["data"]
    assert sum(hour["count"] for hour in hours) == one["hits"]
    kept = served.good(served.get("/v1/store/prompts", params={"edit": "capital"}))
    assert kept["kept"] and kept["data"][0]["fired"] and FACTS[1].prompt in json.dumps(kept["data"][0]["prompt"])


def test_no_prompt_is_kept_by_default_and_edits_can_be_hidden(make_editor, tmp_path):
    editor = make_editor(edits=FACTS[:1], store=tmp_path / "a.melo")
    with serving(editor, show_edits=False) as served:
        answer = served.ask(FACTS[0].prompt)
        assert answer.json()["choices"][0]["message"]["content"] == "Jorge"
        assert "melo" not in answer.text.lower() and not [name for name in answer.headers if "melo" in name]
        stream = served.ask(FACTS[0].prompt, stream=True)
        assert "melo" not in stream.text and "[DONE]" in stream.text
        assert served.good(served.get("/v1/store/prompts")) == {"kept": False, "data": []}
        assert served.good(served.get("/v1/edits/book"))["hits"] == 2
    assert FACTS[0].prompt.encode() not in (tmp_path / "a.melo.hits").read_bytes()
    editor.unload()


def test_what_is_served_and_its_figures(served):
    store = served.good(served.get("/v1/store"))
    assert (store["edits"], store["enabled"], store["mode"], store["calibrated"]) == (3, 3, "default", True)
    assert served.good(served.get("/health")) == {"status": "ok"}
    assert served.good(served.get("/ready")) == {"status": "ready"}
    figures = served.get("/metrics").text
    assert "meloedit_edits 3.0" in figures and 'meloedit_routes_total{reason="fired"}' in figures
    assert 'meloedit_requests_total{endpoint="/v1/chat/completions",status="200"}' in figures
    assert FACTS[0].prompt not in figures and "Jorge" not in figures


@pytest.mark.parametrize("odd", ["\n", "jobs", "jobs/1", "trial", "..", "a/./b", "book/quiet", "/a"])
def test_an_id_that_no_address_names_is_refused(odd, served):
    said = served.bad(served.post("/v1/edits", DAY | {"id": odd}), 400)
    assert said.startswith("edits[0]: ") and said.endswith("cannot be the last part of an address: choose another id")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/store/calibrate", {"edits": 5}),
        ("/v1/store/rollback", {"to": 1, "edit": "book"}),
        ("/v1/edits/book/quiet", {"prompts": ["x"], "ids": ["y"]}),
    ],
)
def test_a_change_refuses_a_field_that_it_does_not_know(path, body, served):
    assert served.bad(served.post(path, body), 400).endswith("Extra inputs are not permitted")


def test_a_body_that_is_no_edit_is_told_of_in_plain_words(served):
    assert served.bad(served.post("/v1/edits", DAY | {"id": 5}), 400) == "id: Input should be a valid string"
    http = {"headers": {"content-type": "application/json"}, "content": "{"}
    said = served.bad(served.http.post("/v1/edits", **http), 400)
    assert said == "the body is no JSON, from character 1 on"
    text = {"headers": {"content-type": "text/plain"}, "content": "hello"}
    assert served.bad(served.http.post("/v1/edits", **text), 400).startswith("send JSON, with the header Content-Type")


def test_what_another_process_stores_answers(back):
    store = Store.open(back.editor.store.path)
    store.set_enabled(["book"], False)
    end = time.monotonic() + PATIENCE
    while back.good(back.get("/v1/store"))["revision"] != store.revision and time.monotonic() < end:
        time.sleep(0.1)
    assert "x-melo-edit" not in back.ask(FACTS[0].prompt).headers
    assert back.good(back.http.patch("/v1/edits/book", json={"enabled": True}))["revision"] == store.revision + 1
    assert back.ask(FACTS[0].prompt).headers["x-melo-edit"] == "book"


def test_a_store_that_another_file_replaced_is_told_and_what_answers_goes_on(make_editor, tmp_path):
    editor, other = make_editor(edits=FACTS[:1], store=tmp_path / "a.melo"), make_editor(store=tmp_path / "b.melo")
    other.unload()
    with serving(editor) as served:
        assert served.good(served.get("/ready")) == {"status": "ready"}
        (tmp_path / "b.melo").replace(tmp_path / "a.melo")
        end = time.monotonic() + PATIENCE
        while served.get("/ready").status_code != 503 and time.monotonic() < end:
            time.sleep(0.05)
        assert served.get("/ready").status_code == 503
        assert served.ask(FACTS[0].prompt).headers["x-melo-edit"] == "book"
        served.bad(served.http.delete("/v1/edits/book"), 409)
    editor.unload()
