"""Edits trained by workers are those that this process makes, bit by bit. The workers are threads of this process, each
with a model of its own; tests of processes are slow and stand beside."""

import pytest
import torch
from support.prompts import BOOK, EDITS, FACTS, SETTINGS
from support.stores import contents
from support.worker_jobs import ThreadBackend

from meloedit import Editor, MeloConfig
from meloedit.errors import EditError, MeloEditError
from meloedit.paper.config import PaperConfig
from meloedit.workers.crew import Crew
from meloedit.workers.executors import Ray, Spawn
from meloedit.workers.training import TrainingJob


class Threads:
    """An executor of threads; ``spoil`` changes the job."""

    model = threads = None
    workers = 2

    def __init__(self, spoil=lambda job: job):
        self._spoil = spoil

    def crew(self, job, threads, gpu):
        return Crew(ThreadBackend(self._spoil(job)), self.workers)


class Breaks:
    """A job whose worker breaks with every part that has the edit of this id."""

    def __init__(self, job, edit_id):
        self._job, self._id = job, edit_id

    def open(self):
        do = self._job.open()

        def broken(part, tell):
            if self._id in [name for name, _ in part]:
                raise RuntimeError("no memory is left")
            return do(part, tell)

        return broken


@pytest.fixture
def make(folder, tmp_path):
    """Make an editor on the tiny model, two edits to a part."""

    def made(name, config=None):
        return Editor.create(folder, config=config or MeloConfig(**SETTINGS, train_batch_size=2), store=tmp_path / name)

    return made


def test_what_is_stored_is_what_this_process_stores(make):
    told, kept = [], []
    for name, executor in (("local", "local"), ("threads", Threads())):
        with make(name) as editor:
            parts = list(editor.edit_in_parts(FACTS, progress=lambda *now: told.append(now), executor=executor))
            assert [[(r.id, r.status) for r in part] for part in parts] == [
                [("book", "stored"), ("capital", "stored")],
                [("legs", "stored")],
            ]
            kept.append(contents(editor))
            assert told[-1] == ("editing", 3, 3) and editor.ask(BOOK.prompt)[0].text == "Jorge"
    assert kept[0] == kept[1]


def test_in_paper_mode_the_edits_of_a_part_share_one_block(make):
    config = PaperConfig(radius=0.25, edits_per_block=2, lr=0.1, steps=4, key_layer="model.layers.1.mlp.down_proj")
    kept = []
    for name, executor in (("serial", None), ("threads", Threads())):
        with make(name, config) as editor:
            editor.edit(EDITS, executor=executor)
            assert len(editor.engine.router.bank) == 2
            kept.append(contents(editor))
    assert kept[0] == kept[1]


def test_a_part_that_breaks_its_workers_is_reported_and_the_others_are_stored(make, caplog):
    executor = Threads(lambda job: Breaks(job, "book"))
    with make("broken") as editor:
        reports = editor.edit(FACTS, executor=executor)
        assert [report.status for report in reports] == ["failed", "failed", "stored"]
        assert "the last one: RuntimeError: no memory is left" in reports[0].reason
        assert caplog.text.count("is done again") == 2
        reports = editor.edit(FACTS, executor=Threads())  # the same call again does the rest
        assert [report.status for report in reports] == ["stored", "stored", "skipped"]


def test_stopped_between_parts_what_was_committed_stays(make):
    with make("stopped") as editor:
        with pytest.raises(KeyboardInterrupt):
            for _ in editor.edit_in_parts(FACTS, executor=Threads()):
                raise KeyboardInterrupt
        assert [stored.edit.id for stored in editor] == ["book", "capital"]


def test_another_base_model_is_refused_before_anything_is_stored(make, make_model, tokenizer, tmp_path):
    torch.manual_seed(5)
    other = make_model()
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.add_(1)
    other.save_pretrained(tmp_path / "other"), tokenizer.save_pretrained(tmp_path / "other")
    executor = Threads()
    executor.model = str(tmp_path / "other")
    with make("refused") as editor:
        with pytest.raises(
            MeloEditError, match=r"loaded another model by the name .*say what the base model is loaded"
        ):
            editor.edit(BOOK, executor=executor)
        executor.model = str(tmp_path / "nowhere")
        with pytest.raises(MeloEditError, match="no model at"):
            editor.edit(BOOK, executor=executor)
        assert not len(editor)


def test_a_model_given_loaded_needs_a_name(make_editor):
    editor = make_editor()
    with pytest.raises(MeloEditError, match=r"as in executor=Spawn\(model=...\)"):
        editor.edit(BOOK, executor="spawn")
    editor.unload()


def test_wrong_executors_are_one_line(llama):
    wrong = {
        "no executor 'threads'; there are: local, spawn, ray": "threads",
        "executor must be local, spawn, ray": 5,
    }
    for message, executor in wrong.items():
        with pytest.raises(EditError if executor == 5 else MeloEditError, match=message):
            llama.edit(BOOK, executor=executor)
    for count in (0, -1, True, "2", 1.5):
        with pytest.raises(MeloEditError, match="workers must be a positive whole number"):
            Spawn(workers=count)
    with pytest.raises(MeloEditError, match="threads must be"):
        Ray(threads=0)


def test_a_job_says_how_the_model_was_loaded(make):
    with make("job") as editor:
        job = TrainingJob.of(editor.engine, "base", 1, open)
        assert job.options["dtype"] is torch.float32 and job.options["attn_implementation"]
        assert "device_map" not in job.options and job.device == "" and job.generation is not None
