"""Crews of real processes, on a job that needs no model: order, deaths, refusals, leaving off."""

import os
import random
import time

import pytest
from support.worker_jobs import Squares

from meloedit.errors import EditError, MeloEditError
from meloedit.workers import crew as crews
from meloedit.workers.crew import Crew, Done, Lost, Refused
from meloedit.workers.spawn import SpawnBackend


@pytest.fixture
def backend():
    """Make a backend that remembers its workers."""

    def make(**settings):
        made = SpawnBackend(Squares(**settings), 1)
        start, made.workers = made.start, []
        made.start = lambda place: made.workers.append(start(place)) or made.workers[-1]
        return made

    return make


def gone(worker):
    return worker.process.poll() is not None


def test_outcomes_come_in_order_whoever_is_killed(backend):
    made, tasks, told = backend(seconds=0.05), list(range(12)), []
    rng = random.Random()
    kills = set(rng.sample(range(1, len(tasks)), 2))

    def tell(number, done):
        told.append((number, done))
        if len(told) in kills:
            rng.choice([worker for worker in made.workers if not gone(worker)]).process.kill()

    outcomes = list(Crew(made, 2).run(tasks, tell))
    assert outcomes == [Done(task * task) for task in tasks]
    assert {number for number, _ in told} == set(tasks) and all(number == done for number, done in told)
    assert len(made.workers) > 2 and all(map(gone, made.workers))


def test_what_kills_or_breaks_its_worker_three_times_is_lost_and_the_rest_goes_on(backend, caplog):
    made = backend()
    outcomes = list(Crew(made, 2).run([3, -1, 4, -3, -2, 5]))
    assert [outcome for outcome in outcomes if isinstance(outcome, Done)] == [Done(9), Done(16), Done(25)]
    killed, broken, refused = outcomes[1], outcomes[3], outcomes[4]
    assert isinstance(killed, Lost) and killed.reason == "killed by SIGKILL"
    assert isinstance(broken, Lost) and broken.reason == "ValueError: minus three breaks it"
    assert isinstance(refused, Refused) and str(refused.error) == "minus two is no edit"
    assert isinstance(refused.error, EditError)
    assert len(made.workers) in (7, 8) and caplog.text.count("is done again") == 4


@pytest.mark.parametrize(
    ("opening", "starts", "message"),
    [("refused", 2, "^there is no such model$"), ("broken", 3, "^no worker can be started: left$")],
)
def test_a_job_that_cannot_begin_is_one_line(backend, opening, starts, message):
    made = backend(opening=opening)
    with pytest.raises(MeloEditError, match=message):
        list(Crew(made, 2).run([1, 2, 3]))
    assert len(made.workers) >= starts and all(map(gone, made.workers))


def test_leaving_off_ends_the_workers_at_once(backend):
    made = backend(seconds=0.01)
    outcomes = Crew(made, 2).run([1, 2, *[60] * 4])
    assert next(outcomes) == Done(1)
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 5 and all(map(gone, made.workers))


def test_workers_do_not_run_far_ahead_of_who_takes_the_outcomes(backend, monkeypatch, tmp_path):
    monkeypatch.setattr(crews, "AHEAD", 2)
    outcomes = Crew(backend(trace=str(tmp_path / "trace")), 1).run(list(range(6)))
    assert next(outcomes) == Done(0)
    time.sleep(0.7)
    assert (tmp_path / "trace").read_text().split() == ["0", "1", "2"]
    assert list(outcomes) == [Done(number * number) for number in range(1, 6)]


def test_a_worker_ends_when_the_process_that_started_it_is_gone(backend):
    made = backend()
    worker = made.start(0)
    worker.connection.close()
    assert worker.process.wait(10) == 0
    worker.stop()
    assert not os.path.exists(f"/proc/{worker.process.pid}")
