"""Rows of every format of data files, and what tests ask of a task."""

import json

MEND = {
    "subject": "Ada",
    "src": "Where was Ada born?",
    "rephrase": "Ada's place of birth?",
    "alt": "Oslo",
    "answers": ["Rome", "Roma"],
    "loc": "nq question: who won",
    "portability": {"Recalled Relation": "(a, b, c)", "New Question": "Her country?", "New Answer": "Norway"},
}
KNOWEDIT = {
    "subject": "Ada",
    "prompt": "Where was Ada born?",
    "target_new": "Oslo",
    "ground_truth": [["Rome", "Roma"], []],
    "rephrase_prompt": "Ada's place of birth?",
    "generate_prompt": ["Ada comes from where?", "Ada's place of birth?", ""],
    "locality": {
        "Relation_Specificity": [{"prompt": "Ada wrote", "ground_truth": ["odes"]}],
        "Forgetfulness": [{"prompt": "no"}],
    },
    "portability": {
        "Reasoning": [{"prompt": "Her country?", "ground_truth": [["Norway"], ["Norge"]]}],
        "Subject_Aliasing": [
            {"prompt": "Where was A. born?", "ground_truth": "Oslo"},
            {"prompt": "-", "ground_truth": []},
        ],
    },
}
FLAT = {
    "case_id": 7,
    "prompt": "Ada speaks",
    "target_new": "Thai",
    "ground_truth": "Greek",
    "subject": "Ada",
    "rephrase_prompt": "The words of Ada are",
    "locality_prompt": "Bo speaks",
    "locality_ground_truth": "Greek",
}
FULL = {
    "case_id": 8,
    "requested_rewrite": {
        "prompt": "{} speaks",
        "subject": "Cy {x}",
        "target_new": {"str": "Thai", "id": "Q1"},
        "target_true": {"str": "Greek", "id": "Q2"},
    },
    "paraphrase_prompts": ["Rain. Cy said it in", "Cy talks in"],
    "neighborhood_prompts": ["Bo speaks", "Di speaks"],
    "attribute_prompts": ["Ed speaks"],
    "portability": {"New Question": "Cy's alphabet?", "New Answer": "Thai script"},
}
NQ = {"question": "who was first", "answer": ["Ann", "Anna"]}
CASE = {"case_id": "1995-001", "text": "We hold that", "issue_area_id": 8, "year": 1995, "is_primary": True}
BIO = {
    "index": 3,
    "concept": "ada moor",
    "gpt3_sentences": ["Ada is a poet.", "She was born in 1901."],
    "annotation": ["accurate", "major_inaccurate"],
}
PASSAGE = {
    "prompt": "This is a Wikipedia passage about ada moor. Ada is a poet.",
    "target_new": "She was born in 1899.",
    "bio_index": 3,
    "subject": "ada moor",
    "locality_prompt": "Maps of",
}


def rewrite(prompt="{} is a citizen of", subject="Ada", new="Norway", true="Italy", question="Which country is Ada's?"):
    new, true = {"str": new, "id": "Q1"}, {"str": true, "id": "Q2"}
    return {"prompt": prompt, "subject": subject, "target_new": new, "target_true": true, "question": question}


def case(number, *rewrites, answer="Jonas", alias=("J.", "jonas"), questions=("Who rules there?", "Its head?", "Who?")):
    return {
        "case_id": number,
        "requested_rewrite": list(rewrites or [rewrite()]),
        "questions": list(questions),
        "new_answer": answer,
        "new_answer_alias": list(alias),
    }


def file_of(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def fact(prompt="Who?", target="Ann", **more):
    return {"prompt": prompt, "target": target, **more}


def counts(task):
    return {name: n for name, n in task.cleaning.items() if n and name not in ("rows", "rule")}


def ids(task):
    return [item.edit.id for item in task.items]


def by_id(task):
    return {item.edit.id: item for item in task.items}
