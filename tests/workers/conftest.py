"""What the tests of workers share: a tiny model in a folder, and runs on it."""

from support import worker_runs

folder, run = worker_runs.folder, worker_runs.run
