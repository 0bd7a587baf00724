"""The process of a spawned worker: ``python -m meloedit.workers.process DESCRIPTOR``.

The descriptor is its end of a pipe from the process that started it. What comes through it is unpickled: nobody else
has the other end. An error that is not the user's ends the process, and its last line on stderr says why.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ..errors import MeloEditError
from .crew import Do, Done, Job, Ready, Refused, Told


def serve(connection: Connection[Any, Any]) -> None:
    """Do the job that comes first, then every task."""
    job: Job = connection.recv()
    try:
        do: Do = job.open()
    except MeloEditError as error:
        connection.send(Refused(error))
        return
    connection.send(Ready())
    while True:
        task = connection.recv()
        try:
            result = do(task, lambda number: connection.send(Told(number)))
        except MeloEditError as error:
            connection.send(Refused(error))
        else:
            connection.send(Done(result))


def main() -> None:
    """Serve until the other end is closed."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
