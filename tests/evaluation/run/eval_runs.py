"""`meloedit eval` on tiny models saved to a folder, with data of each kind of task."""

import json

import pytest
from typer.testing import CliRunner

from meloedit.cli.app import app
from meloedit.evaluation.tasks.datasets import TOPICS

NAMES = ["Ada", "Brun", "Caro", "Dora", "Egon", "Fred", "Gina", "Hugo", "Ivan", "Jana"]
ROWS = [
    {
        "id": f"f{i}",
        "prompt": f"Where was {name} born?",
        "target": target,
        "target_true": "Rome",
        "subject": name,
        "rephrases": [f"In which town was {name} born?", f"{name} was born where?"],
        "near": [f"How old is {name}?"],
        "portability": [{"prompt": f"In which country was {name} born?", "answers": ["Peru", "peru"]}],
    }
    for i, (name, target) in enumerate(zip(NAMES, ["Lima", "Oslo", "Bern", "Kiel", "Pisa"] * 2, strict=True))
]
FAR = [{"question": f"how many {thing} are there", "answer": ["7"]} for thing in ("rivers", "legs", "books", "kings")]
QUICK = ["--set", "melo.calibration_prompts=200", "--set", "melo.lr=0.1", "--set", "melo.min_target_probability=0.5"]
QUICK += ["--set", "melo.min_similarity=0.7", "--set", "melo.train_batch_size=2", "--set", "melo.judge=none"]
QUICK += ["--set", "melo.min_answer_probability=0.0", "--set", "melo.rewordings=0"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


_PATHS = {}


@pytest.fixture(scope="session")
def files(tmp_path_factory, make_model, make_source, tokenizer):
    """The paths of a causal model, a classifier, and data of each kind; written once for all modules."""
    if not _PATHS:
        _PATHS.update(write_files(tmp_path_factory.mktemp("eval"), make_model, make_source, tokenizer))
    return _PATHS


def write_files(root, make_model, make_source, tokenizer):
    """Write models and data to a folder; return their paths by name."""
    make_model("llama").save_pretrained(root / "llama")
    tokenizer.save_pretrained(root / "llama")
    cases = [
        {"case_id": f"c{i}", "text": f"{word} " * 90, "issue_area_id": 1 + i % 3, "is_primary": True, "year": year}
        for i, (word, year) in enumerate(
            (f"case of {name} in {place}", year)
            for name in NAMES
            for place, year in (("Lima", 1980), ("Bern", 1985), ("Oslo", 1995))
        )
    ]
    titles = [f"This is a Wikipedia passage about {name}. " for name in NAMES]
    wise = [{"prompt": t + "First.", "target_new": "He was old.", "bio_index": i} for i, t in enumerate(titles)]
    lives = [
        {"index": i, "concept": name, "gpt3_sentences": ["He lived.", "He died."], "annotation": ["accurate"] * 2}
        for i, name in enumerate(NAMES)
    ]
    names = {"id2label": dict(enumerate(TOPICS)), "label2id": {t: i for i, t in enumerate(TOPICS)}}
    classifier, own = make_source("bert", num_labels=len(TOPICS), **names)
    own.model_max_length = 64
    classifier.save_pretrained(root / "bert")
    own.save_pretrained(root / "bert")
    mquake = [
        {
            "case_id": i,
            "requested_rewrite": [
                {
                    "prompt": "{} lives in",
                    "subject": name,
                    "target_new": {"str": "Lima"},
                    "target_true": {"str": "Rome"},
                    "question": f"Where does {name} live?",
                }
            ],
            "questions": [f"In which country does {name} live?"],
            "answer": "Italy",
            "new_answer": "Peru",
            "new_answer_alias": ["PE"],
            "new_single_hops": [{"question": f"Where does {name} live?"}, {"question": "Where is Lima?"}],
        }
        for i, name in enumerate(NAMES)
    ]
    return {
        "llama": str(root / "llama"),
        "bert": str(root / "bert"),
        "zsre": write(root / "zsre.jsonl", ROWS),
        "nq": write(root / "nq.jsonl", FAR),
        "web": write(root / "web.jsonl", [{"text": "a web page about many things " * 12 + str(i)} for i in range(4)]),
        "scotus": write(root / "scotus.jsonl", cases),
        "wise": write(root / "wise.jsonl", wise),
        "lives": write(root / "lives.jsonl", lives),
        "mquake": write(root / "mquake.jsonl", mquake),
    }


def run(*args):
    return CliRunner().invoke(app, ["eval", *map(str, args)])


def evaluated(*args):
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def zsre(files, out, *more):
    return [
        "--task", "zsre", "--data", files["zsre"], "--data", files["nq"], "--model", files["llama"], "--out", out,
        "--edits", 4, *more,
    ]  # fmt: skip


TIMES = {"edits_per_minute", "answer_time_ratio"}


def scores(folder):
    methods = result_of(folder)["methods"]
    return {name: {key: own[key] for key in own if key not in TIMES} for name, own in methods.items()}
