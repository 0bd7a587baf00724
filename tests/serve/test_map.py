"""The map: edits, kept prompts and posted ones in two dimensions."""

import math
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from serve_helpers import serving
from support.prompts import FACTS, OTHERS

from meloedit.oversight import neighbourhoods

pytest_plugins = ["serve_fixtures"]


def at(one):
    return one["x"], one["y"]


def test_edits_and_prompts_are_placed(served):
    for text in (FACTS[0].prompt, FACTS[1].prompt, FACTS[1].prompt):
        served.ask(text)
    drawn = served.good(served.get("/v1/store/map"))
    assert (drawn["total"], drawn["kept"], drawn["judged"]) == (3, True, False)
    edits = {one["id"]: one for one in drawn["edits"]}
    assert set(edits) == {"book", "capital", "legs"} and edits["book"]["target"] == "Jorge"
    assert len({at(one) for one in edits.values()}) == 3 and all(one["radius"] > 0 for one in edits.values())
    assert 0 < drawn["shares"][1] <= drawn["shares"][0] and sum(drawn["shares"]) <= 1 + 1e-9
    shown = {one["edit"]: one for one in drawn["prompts"]}
    assert shown["capital"]["times"] >= 2 and shown["capital"]["source"] == "kept" and shown["capital"]["time"] > 1e9
    assert math.dist(at(shown["capital"]), at(edits["capital"])) < edits["capital"]["radius"]
    assert served.good(served.get("/v1/store/map")) == drawn  # the same traffic gives the same map
    assert served.good(served.get("/v1/store/map", params={"recent": 0}))["prompts"] == []
    few = served.good(served.get("/v1/store/map", params={"edits": 2}))
    assert len(few["edits"]) == 2 and few["total"] == 3


def test_posted_prompts_are_put_on_the_same_map(served):
    before = served.good(served.get("/v1/store/map"))
    prompts = [FACTS[2].prompt, OTHERS[1], "!?", [{"role": "user", "content": FACTS[2].prompt}]]
    drawn = served.good(served.post("/v1/store/map", {"prompts": prompts}))
    assert drawn["edits"] == before["edits"] and drawn["shares"] == before["shares"]
    posted = [one for one in drawn["prompts"] if one["source"] == "posted"]
    assert [one["prompt"] for one in posted] == prompts
    assert [one["edit"] for one in posted] == ["legs", None, None, "legs"]
    assert (posted[2]["reason"], at(posted[2])) == ("no prompt", (None, None))
    assert at(posted[0]) == pytest.approx(at(posted[3]))
    legs = next(one for one in drawn["edits"] if one["id"] == "legs")
    assert math.dist(at(posted[0]), at(legs)) < legs["radius"] < math.dist(at(posted[1]), at(legs))
    assert served.good(served.get("/v1/store/map"))["prompts"] == before["prompts"]  # nothing was kept
    assert served.bad(served.post("/v1/store/map", {"prompts": []}), 400)
    assert served.bad(served.post("/v1/store/map", {"prompts": ["a"] * 257}), 400)


def test_without_the_extra_a_map_by_umap_is_refused_and_not_offered(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    by = {"params": {"projection": "umap"}}
    told = "a map by UMAP needs umap-learn: pip install 'meloedit[umap]'"
    assert served.bad(served.get("/v1/store/map", **by), 400) == told
    assert served.bad(served.post("/v1/store/map", {"prompts": [OTHERS[0]]}, **by), 400) == told
    drawn = served.good(served.get("/v1/store/map"))
    assert (drawn["projection"], drawn["projections"]) == ("pca", ["pca"])
    assert served.bad(served.get("/v1/store/map", params={"projection": "tsne"}), 400)


class FirstTwo:
    """Stands for UMAP: draws the first two numbers of each point."""

    fits = 0

    def __init__(self, **settings):
        assert settings["random_state"] is not None and settings["n_jobs"] == 1

    def fit(self, points):
        FirstTwo.fits += 1
        self.embedding_ = points[:, :2]
        return self

    def transform(self, points):
        return points[:, :2]


def test_a_map_by_umap_is_shaped_by_edits_and_kept_prompts_alone(served, monkeypatch):
    library = ModuleType("umap")
    library.UMAP, library.__spec__ = FirstTwo, ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", library)
    by = {"params": {"projection": "umap", "recent": 0}}
    assert "needs at least 10" in served.bad(served.get("/v1/store/map", **by), 400)
    monkeypatch.setattr(neighbourhoods, "LEAST", 3)
    drawn = served.good(served.get("/v1/store/map", **by))
    assert (drawn["projection"], drawn["projections"], drawn["shares"]) == ("umap", ["pca", "umap"], None)
    assert [one["radius"] for one in drawn["edits"]] == [None] * 3 and len({at(one) for one in drawn["edits"]}) == 3
    posted = served.good(served.post("/v1/store/map", {"prompts": [FACTS[2].prompt, OTHERS[0]]}, **by))
    assert posted["edits"] == drawn["edits"] and FirstTwo.fits == 1  # the latest fit is remembered
    assert at(posted["prompts"][0]) != at(posted["prompts"][1])


def test_few_edits_none_at_all_and_no_kept_prompts(make_editor, tmp_path):
    editor = make_editor(store=tmp_path / "new.melo")
    with serving(editor) as served:
        empty = served.good(served.get("/v1/store/map"))
        assert (empty["edits"], empty["prompts"], empty["shares"], empty["kept"]) == ([], [], [0, 0], False)
        alone = served.good(served.post("/v1/store/map", {"prompts": ["Is it late?", "?"]}))
        assert [one["edit"] for one in alone["prompts"]] == [None, None]
        served.edit({"prompt": FACTS[0].prompt, "target": "Jorge", "id": "book", "variants": [FACTS[2].prompt]})
        drawn = served.good(served.post("/v1/store/map", {"prompts": ["Is it late?", "?"]}))
        (book,) = drawn["edits"]
        assert len(book["wordings"]) == 1 and at(book["wordings"][0]) != at(book)
        served.good(served.http.patch("/v1/edits/book", json={"enabled": False}))
        disabled = served.good(served.get("/v1/store/map"))["edits"]
        assert [one["enabled"] for one in disabled] == [False]
    editor.unload()


@pytest.mark.slow
def test_paper_mode_has_a_map_too(make_paper):
    facts = [{"prompt": one.prompt, "target": one.target, "id": one.id} for one in FACTS]
    editor = make_paper("gpt2", facts)
    with serving(editor) as served:
        drawn = served.good(served.post("/v1/store/map", {"prompts": [FACTS[0].prompt], "form": "raw"}))
        assert len(drawn["edits"]) == 3 and not drawn["judged"]
        book = next(one for one in drawn["edits"] if one["id"] == "book")
        assert drawn["prompts"][0]["edit"] == "book" and at(drawn["prompts"][0]) == pytest.approx(at(book), abs=1e-3)
    editor.unload()
