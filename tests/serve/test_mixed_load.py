"""Many clients at once while edits come and go: each answer is that of a quiet editor of its revision, alone."""

import itertools
import os
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from serve_helpers import MODEL, PATIENCE, serving
from support.prompts import FACTS, OTHERS

from meloedit import Editor
from meloedit.store import Store

EXTRA = [
    {"id": f"x{i}", "prompt": text, "target": target}
    for i, (text, target) in enumerate(
        [("Which day follows Monday?", "Tuesday"), ("Who painted the ceiling?", "Michel")]
    )
]
PROMPTS = (
    [fact.prompt for fact in FACTS] + OTHERS + [one["prompt"] for one in EXTRA] + ["Name the tallest of all trees."]
)


class Load:
    """Clients that ask until a time is over and there was enough of all, and one that changes edits meanwhile."""

    def __init__(self, served, clients, seconds, least=(30, 5)):
        self.served, self.end, self.least = served, time.monotonic() + seconds, least
        self.clients, self.answers, self.lost, self.seconds = clients, {}, [], []
        self.changes = self.streams = 0
        self.lock = threading.Lock()

    @property
    def over(self):
        enough = len(self.seconds) >= self.least[0] and self.changes >= self.least[1]
        return time.monotonic() > self.end and (enough or bool(self.lost) or time.monotonic() > self.end + PATIENCE)

    def ask(self, number):
        chance = random.Random(number)
        with httpx.Client(base_url=self.served.url, timeout=120) as http:
            while not self.over:
                prompt, stream = chance.choice(PROMPTS), chance.random() < 0.3
                body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 10}
                began = time.monotonic()
                response = http.post("/v1/chat/completions", json=body | {"stream": True} if stream else body)
                took = time.monotonic() - began
                with self.lock:
                    if response.status_code == 200 and not stream:
                        answer = response.json()
                        melo, text = answer["melo"], answer["choices"][0]["message"]["content"]
                        self.answers.setdefault((melo["revision"], prompt, melo["edit"]), set()).add(text)
                        self.seconds.append(took)
                    elif response.status_code != 200 or "[DONE]" not in response.text:
                        self.lost.append(response.text)
                    else:
                        self.streams += 1

    def change(self):
        chance = random.Random(7)
        with httpx.Client(base_url=self.served.url, timeout=120) as http:
            for number in itertools.count():
                if self.over:
                    return
                one = chance.choice(EXTRA)
                kind = chance.choice(["add", "remove", "disable", "enable", "quiet"])
                if kind == "add":
                    response = http.post("/v1/edits", json=one, params={"wait": 100})
                elif kind == "remove":
                    response = http.delete(f"/v1/edits/{one['id']}")
                elif kind == "quiet":
                    quiet = {"prompts": [f"Who wrote volume {number % 20} of the book?"]}
                    response = http.post("/v1/edits/book/quiet", json=quiet)
                else:
                    response = http.patch(f"/v1/edits/{chance.choice(FACTS).id}", json={"enabled": kind == "enable"})
                assert response.status_code in (200, 404), response.text
                self.changes += response.status_code == 200

    def run(self):
        with ThreadPoolExecutor(self.clients + 1) as pool:
            changing = pool.submit(self.change)
            for asking in [pool.submit(self.ask, number) for number in range(self.clients)]:
                asking.result()
            changing.result()


def quiet_answers(editor, path, answers):
    """Ask each revision alone, in an editor that nobody else uses; yield what was answered and what is right."""
    store = Store.open(path)
    with Editor(editor.unload(), editor.tokenizer, store=store) as alone:
        for revision, group in itertools.groupby(sorted(answers, key=repr), key=lambda key: key[0]):
            alone.rollback(revision)
            for key in group:
                (right,) = alone.ask([key[1]], form="chat", max_new_tokens=10)
                yield key, {text.strip() for text in answers[key]}, right


@pytest.mark.parametrize(
    ("clients", "seconds"), [(8, 0), pytest.param(32, 600, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_every_answer_is_that_of_a_quiet_editor_of_its_revision(make_editor, tmp_path, clients, seconds):
    path = tmp_path / "a.melo"
    editor = make_editor(edits=FACTS, store=path)
    with serving(editor, max_batch=16, max_waiting=200) as served:
        if seconds:  # what is allocated once is not counted below
            Load(served, clients, seconds / 10).run()
        load = Load(served, clients, seconds)
        before = psutil.Process(os.getpid()).memory_info().rss
        began = time.monotonic()
        load.run()
        took = time.monotonic() - began
        grown = psutil.Process(os.getpid()).memory_info().rss - before
    assert not load.lost and load.changes >= load.least[1] and len(load.seconds) >= load.least[0]
    assert len({key[0] for key in load.answers}) > 1
    checked = 0
    for key, texts, right in quiet_answers(editor, path, load.answers):
        assert texts == {right.text} and key[2] == right.route.edit, key
        checked += 1
    assert checked == len(load.answers)
    ordered = sorted(load.seconds)
    p50, p99 = statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))]
    sys.stderr.write(
        f"\n{len(ordered)} whole answers, {load.streams} streams, {load.changes} changes, {checked} kinds of answers, "
        f"p50 {p50:.3f} s, p99 {p99:.3f} s, {len(ordered) / took:.1f} a second, memory {grown / 1e6:+.0f} MB\n"
    )
    assert grown < 60e6 or not seconds
