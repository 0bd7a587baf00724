"""The table of a report: who is best, how numbers are shown, which metrics there are."""

import math

import pytest

from meloedit.evaluation.report.read import StoredEstimate
from meloedit.evaluation.report.table import METRICS, TableRow, make_table, parts, show


def test_the_contest():
    def row(name, value, ci=None):
        return TableRow(name, {"locality_far": StoredEstimate(value, ci), "kl_far": StoredEstimate(value, ci)})

    table = make_table(
        [
            row("none", 2.0),
            row("melo", 0.5, (0.4, 0.6)),
            row("grace", 0.9, (0.85, 0.95)),
            row("rag", 0.9, (0.88, 0.92)),
            row("ft", 0.84, (0.8, 0.89)),
            row("lora", math.nan, (math.nan, math.nan)),
            TableRow("else", {"other metric": StoredEstimate(None)}),
        ]
    )
    marks = [[cell["mark"] for cell in line["cells"]] for line in table["rows"]]
    assert marks == [["", "", ""], ["", "best", ""], *[["best", "", ""]] * 2, ["close", "", ""], *[["", "", ""]] * 2]
    assert table["sentences"] == ["Same answer, far: grace and rag are best (0.900), ahead of melo (0.500)."]
    assert [cell["text"] for cell in table["rows"][5]["cells"]] == ["NaN", "NaN", "–"]
    assert [cell["text"] for cell in table["rows"][6]["cells"]] == ["–", "–", "null"]
    assert [group["name"] for group in table["groups"]] == ["locality", "other"]
    assert table["groups"][-1]["columns"][0]["label"] == "other metric"


def test_one_method_alone_is_not_the_best():
    table = make_table(
        [TableRow("none", {"generality": StoredEstimate(0.1)}), TableRow("grace", {"generality": StoredEstimate(0.9)})]
    )
    assert [line["cells"][0]["mark"] for line in table["rows"]] == ["", ""]
    assert table["sentences"] == []


@pytest.mark.parametrize(
    ("value", "share", "text"),
    [
        (1.0, True, "1.000"),
        (0.9996, True, "0.9996"),
        (0.0003, True, "0.0003"),
        (0.0, True, "0.000"),
        (12345.6, False, "12,346"),
        (0.00123, False, "0.00123"),
        (math.inf, True, "∞"),
        (-math.inf, False, "−∞"),
        (math.nan, True, "NaN"),
        (None, True, "null"),
    ],
)
def test_numbers(value, share, text):
    assert show(value, share) == text


def test_no_metric_is_forgotten():
    groups = list(dict.fromkeys(known.group for known in METRICS.values()))
    assert groups == ["edits", "generality", "locality", "routing", "cost"]
    assert len({known.label for known in METRICS.values()}) == len(METRICS) == 65


def test_parts_of_the_prompts_have_tables_of_their_own():
    one = StoredEstimate(0.5)
    rows = [
        TableRow("melo", {"reaches_close": one, "reaches_close@en": one, "auc@de": one, "fires_same_relation@en": one}),
        TableRow("rag", {"reaches_close@en": StoredEstimate(0.9)}),
    ]
    assert [[column["label"] for column in group["columns"]] for group in make_table(rows)["groups"]] == [
        ["reach, close"]
    ]
    found = parts(rows)
    assert list(found) == ["en", "de"]
    assert [row.method for row in found["de"]] == ["melo"] and list(found["de"][0].figures) == ["auc"]
    assert [list(row.figures) for row in found["en"]] == [["reaches_close", "fires_same_relation"], ["reaches_close"]]
    assert make_table(found["en"])["rows"][1]["cells"][0]["mark"] == "best"
