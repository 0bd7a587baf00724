"""Edits trained by processes of this machine, one of which is killed: the store is that of a serial run, bit by bit."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil
import pytest
import torch
from support.prompts import EDITS, SETTINGS
from support.stores import contents
from transformers import BitsAndBytesConfig

from meloedit import Editor, MeloConfig
from meloedit.store import Store
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


def test_one_of_two_processes_killed_at_a_random_moment_twenty_times(run):
    serial, _ = run("serial", None)
    whole, seconds = run("whole", Spawn(2))
    assert whole == serial
    kills = []
    for number in range(ROUNDS):
        executor = Killed(2, after=random.uniform(0, seconds))
        assert run(f"killed-{number}", executor)[0] == serial, executor.after
        kills += executor.kills
    assert len(kills) > ROUNDS // 2  # the others came when all was done


@pytest.mark.parametrize("bits", [{"load_in_8bit": True}, {"load_in_4bit": True}], ids=lambda bits: next(iter(bits)))
def test_a_base_in_few_bits_is_edited_by_a_worker_as_here(bits, make_model, tokenizer, tmp_path):
    make_model(hidden_size=64, intermediate_size=64).save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    settings = BitsAndBytesConfig(**bits, **({"bnb_4bit_compute_dtype": torch.float32} if "4bit" in str(bits) else {}))
    kept = []
    for name, executor in (("serial", None), ("spawn", Spawn(1))):
        config, how = MeloConfig(**SETTINGS), {"quantization_config": settings, "device_map": "cpu"}
        with Editor.create(tmp_path / "wide", config=config, store=tmp_path / name, **how) as editor:
            assert all(report.holds for report in editor.edit(EDITS[:2], executor=executor))
            assert editor.ask(EDITS[0].prompt, max_new_tokens=8)[0].text == EDITS[0].target
            kept.append(contents(editor))
    assert kept[0] == kept[1]


def test_ctrl_c_keeps_what_was_stored_and_ends_the_workers(folder, tmp_path):
    facts, edits = tmp_path / "facts.melo", tmp_path / "edits.jsonl"
    with Editor.create(folder, config=MeloConfig(**SETTINGS, train_batch_size=1), store=facts) as editor:
        editor.prepare()
        before = editor.store.revision
    rows = [{"prompt": f"Which number has the door {i} of the hall?", "target": f"{i} {i + 1}"} for i in range(200)]
    edits.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "meloedit", "edit", str(facts), str(edits), "--executor", "spawn", "--no-trial"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while Store.open(facts).revision < before + 2:
        assert running.poll() is None
        time.sleep(0.2)
    workers = psutil.Process(running.pid).children()
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=300)[1]
    stored = len(Store.open(facts).edits())
    assert running.returncode == 130 and f"{stored} of 200 edits stored in this run" in said and 2 <= stored < 200
    assert "Traceback" not in said and len(workers) == 2 and not any(map(psutil.Process.is_running, workers))
