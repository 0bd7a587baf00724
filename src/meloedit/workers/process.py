"""The process of a spawned worker.

It has one end of a pipe, and what comes through it is unpickled: the process that started it has the other end, and
nobody else. An error that is not the user's ends the process, and its last line on stderr says why.
"""

from __future__ import annotations

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


def main(descriptor: int) -> None:
    """Serve until the other end of the pipe is closed; ``descriptor`` is this end."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Connection(descriptor))
