"""Edits trained by processes of this machine, one of which is killed: the store is that of a serial run, bit by bit."""

import random
import threading
import time
from dataclasses import dataclass, field

import pytest
from support.prompts import EDITS, SETTINGS
from support.stores import contents

from meloedit import Editor, MeloConfig
from meloedit.workers.crew import Crew
from meloedit.workers.executors import Spawn
from meloedit.workers.spawn import SpawnBackend

pytestmark = pytest.mark.slow
ROUNDS = 20


@dataclass
class Killed(Spawn):
    """Processes, one of which is killed after some seconds."""

    after: float = 0.0
    kills: list = field(default_factory=list)

    def crew(self, job, threads, gpu):
        backend = SpawnBackend(job, threads)
        start, workers = backend.start, []
        backend.start = lambda place: workers.append(start(place)) or workers[-1]

        def kill():
            time.sleep(self.after)
            living = [worker for worker in workers if worker.process.poll() is None]
            if living:
                random.choice(living).process.kill()
                self.kills.append(self.after)

        threading.Thread(target=kill, daemon=True).start()
        return Crew(backend, self.workers)


def test_one_of_two_processes_killed_at_a_random_moment_twenty_times(folder, tmp_path):
    def run(name, executor):
        config = MeloConfig(**SETTINGS, train_batch_size=1)
        with Editor.create(folder, config=config, store=tmp_path / name) as editor:
            editor.prepare()
            began = time.monotonic()
            reports = editor.edit(EDITS, executor=executor)
            seconds = time.monotonic() - began
            assert [report.status for report in reports] == ["stored"] * len(EDITS)
            return contents(editor), seconds

    serial, _ = run("serial", None)
    whole, seconds = run("whole", Spawn(2))
    assert whole == serial
    kills = []
    for number in range(ROUNDS):
        executor = Killed(2, after=random.uniform(0, seconds))
        assert run(f"killed-{number}", executor)[0] == serial, executor.after
        kills += executor.kills
    assert len(kills) > ROUNDS // 2  # the others came when all was done
