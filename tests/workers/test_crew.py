"""Crews of real processes, on a job that needs no model: order, deaths, refusals, leaving off."""

import itertools
import os
import random
import time

import pytest
from support.worker_jobs import Squares

from meloedit.errors import EditError, MeloEditError
from meloedit.workers import crew as crews
from meloedit.workers.crew import Crew, Done, Lost, Refused, Told
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
    made, tasks, told, begun = backend(seconds=0.05), list(range(12)), [], itertools.count(1)
    rng, events = random.Random(), made.events
    kills = set(rng.sample(range(1, len(tasks) - 2), 2))  # tasks are left, so the dead are followed by others

    def killing(workers, seconds):  # in the crew's thread: this one may come late, when all is done
        found = events(workers, seconds)
        for _, event in found:
            if isinstance(event, Told) and next(begun) in kills:
                rng.choice([worker for worker in made.workers if not gone(worker)]).process.kill()
        return found

    made.events = killing
    outcomes = list(Crew(made, 2).run(tasks, lambda number, done: told.append((number, done))))
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
    assert caplog.text.count("is done again") == 4
    assert [worker.process.returncode for worker in made.workers].count(1) == 3  # those that -3 broke
    assert len(made.workers) in (6, 7, 8)  # six died; at the end one or two are there, or none if the last one died


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
    made = backend(seconds=60)
    outcomes = Crew(made, 2).run([-2, 1, 2, 3])
    assert isinstance(next(outcomes), Refused)  # the others take a minute each
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 5 and all(map(gone, made.workers))


def test_workers_do_not_run_far_ahead_of_who_takes_the_outcomes(backend, monkeypatch, tmp_path):
    monkeypatch.setattr(crews, "AHEAD", 2)
    trace, end = tmp_path / "trace", time.monotonic() + 60
    outcomes = Crew(backend(trace=str(trace)), 1).run(list(range(6)))
    assert next(outcomes) == Done(0)
    while len(trace.read_text().split()) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)  # the crew looks more than twice whether it may go on
    assert trace.read_text().split() == ["0", "1", "2"]
    assert list(outcomes) == [Done(number * number) for number in range(1, 6)]


def test_a_worker_ends_when_the_process_that_started_it_is_gone(backend):
    made = backend()
    worker = made.start(0)
    worker.connection.close()
    assert worker.process.wait(60) == 0
    worker.stop()
    assert not os.path.exists(f"/proc/{worker.process.pid}")
