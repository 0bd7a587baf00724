"""Another thread that asks a model while the test changes its edits: tests wait for its answers, never for time."""

import threading
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 300  # seconds after which a test gives up; no test needs them on a machine that works


class KeepsAsking:
    """Calls ``ask`` again and again in another thread until the ``with`` block ends; ``answers`` has the results."""

    def __init__(self, ask, holds=3):
        self.ask, self.holds = ask, holds
        self.answers, self.changed, self.stop = [], threading.Condition(), threading.Event()

    def __enter__(self):
        self.pool = ThreadPoolExecutor(1)
        self.asking = self.pool.submit(self._run)
        return self

    def _run(self):
        try:
            while not self.stop.is_set():
                answer = self.ask()
                with self.changed:
                    self.answers.append(answer)
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.stop.set()
                self.changed.notify_all()

    def wait_for_an_answer(self):
        """Return when a call that began after this one has been answered."""
        with self.changed:
            enough = len(self.answers) + 2  # the next answer may be to a call that began before
            assert self.changed.wait_for(lambda: len(self.answers) >= enough or self.stop.is_set(), PATIENCE)

    def hold(self, *_):
        """Hold an edit until a question has been answered: a progress callback, which does so the first few times."""
        if self.holds:
            self.holds -= 1
            self.wait_for_an_answer()

    def __exit__(self, *raised):
        self.stop.set()
        try:
            self.asking.result()
        finally:
            self.pool.shutdown()


def each_thread_gets_its_own_answers(editor, parts, answer, times):
    """Ask each part of ``(rows, edits)`` in a thread of its own, all at once: answers and routes are those of one."""
    expected = [answer(editor, rows) for rows, _ in parts]
    barrier = threading.Barrier(len(parts))

    def ask(number):
        rows, edits = parts[number]
        for _ in range(times):
            barrier.wait(PATIENCE)
            assert answer(editor, rows) == expected[number]
            assert [route.edit for route in editor.last_routes] == edits

    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(ask, number) for number in range(len(parts))]:
            done.result()
