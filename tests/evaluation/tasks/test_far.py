"""Far prompts of NQ-open and the web."""

from task_rows import NQ, fact, file_of

from meloedit.evaluation.tasks.data_files import open_data_file
from meloedit.evaluation.tasks.far import read_nq
from meloedit.evaluation.tasks.registry import load_task
from meloedit.evaluation.tasks.task import Question


def test_far_prompts(tmp_path):
    nq = file_of(tmp_path, NQ, {"question": "Was it Bo?", "answer": ["no"]}, name="nq.jsonl")
    web = file_of(tmp_path, {"text": "\n".join(map(str, range(50)))}, {"text": "short"}, name="web.jsonl")
    task = load_task("zsre", [web, nq, file_of(tmp_path, fact())])
    assert sorted((far.kind, far.prompt) for far in task.far) == [
        ("nq", "Was it Bo?"),
        ("nq", "who was first"),
        ("nq dressed", "Was it Bo?"),
        ("nq dressed", "Who was first?"),
        ("web", " ".join(map(str, range(32)))),
        ("web", "short"),
    ]
    plain, dressed = ([far.prompt for far in task.far if far.kind == kind] for kind in ("nq", "nq dressed"))
    assert [prompt.lower().rstrip("?") for prompt in plain] == [prompt.lower().rstrip("?") for prompt in dressed]


def test_nq_questions_get_their_question_mark(tmp_path):
    path = file_of(tmp_path, {"question": "who was first", "answer": ["Ann", "Anna"]}, NQ | {"question": "who ?"})
    assert read_nq(open_data_file(path, "zsre")) == [
        Question("who was first?", ("Ann", "Anna")),
        Question("who?", ("Ann", "Anna")),
    ]
