"""Jobs that need no model, so that a worker's process starts at once; workers import them by name."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from meloedit.errors import EditError, MeloEditError
from meloedit.workers.crew import Done, Lost, Ready, Refused, Told


@dataclass(frozen=True)
class Squares:
    """Returns squares; some numbers do something else first."""

    seconds: float = 0.0
    opening: str = ""
    trace: str = ""

    def open(self):
        if self.opening == "refused":
            raise MeloEditError("there is no such model")
        if self.opening == "broken":
            raise RuntimeError("no memory\nleft")
        return self.do

    def do(self, number, tell):
        if number == -1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == -2:
            raise EditError("minus two is no edit")
        if number == -3:
            raise ValueError("minus three breaks it")
        if self.trace:
            with open(self.trace, "a") as file:
                file.write(f"{number}\n")
        tell(number)
        time.sleep(self.seconds)
        return number * number


class ThreadWorker:
    """A worker that is a thread of this process: what it does is what a process does, without its imports."""

    def __init__(self, job):
        self.events, self._tasks = SimpleQueue(), SimpleQueue()
        threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def _work(self, job):
        do: Any = None
        while True:
            try:
                do = do or self._opened(job)
                if (task := self._tasks.get()) is None:
                    return
                self.events.put(Done(do(task, lambda number: self.events.put(Told(number)))))
            except MeloEditError as error:
                self.events.put(Refused(error))
                if do is None:
                    return
            except Exception as error:
                self.events.put(Lost(f"{type(error).__name__}: {error}"))
                return

    def _opened(self, job):
        do = job.open()
        self.events.put(Ready())
        return do

    def give(self, task):
        self._tasks.put(task)

    def stop(self):
        self._tasks.put(None)


class ThreadBackend:
    """Threads as workers."""

    def __init__(self, job):
        self._job = job

    def start(self, place):
        return ThreadWorker(self._job)

    def events(self, workers, seconds):
        found = []
        for worker in workers:
            try:
                found.append((worker, worker.events.get_nowait()))
            except Empty:
                pass
        if not found:
            time.sleep(0.002)
        return found

    def close(self):
        pass
