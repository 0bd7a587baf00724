"""Run the commands and read what they print."""

import json
import os
import signal
import sys
from contextlib import contextmanager

from support.store_cases import child
from typer.testing import CliRunner

from meloedit.cli.app import app, main

SETTINGS = ["--false-activation", "0.02", "--min-similarity", "0.7", "--set", "calibration_prompts=200"]
SETTINGS += ["--judge", "none", "--set", "lr=0.1", "--set", "min_target_probability=0.5"]
SETTINGS += ["--set", "min_answer_probability=0", "--set", "rewordings=0"]  # tiny models train until they answer
FACTS = [
    {"id": "book", "prompt": "Who wrote the book of sand?", "target": "Jorge"},
    {"id": "capital", "prompt": "What is the capital of Peru?", "target": "Lima"},
    {"id": "legs", "prompt": "How many legs has a spider?", "target": "eight", "metadata": {"source": "zoo"}},
]
MELOEDIT = [sys.executable, "-c", "from meloedit.cli.app import main; main()"]


def run(*args, stdin=None):
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, prog_name="meloedit")


def good(*args, stdin=None):
    """Run a command that must succeed, and return what it printed."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def good_json(*args, stdin=None):
    return json.loads(good(*args, "--json", stdin=stdin))


def bad(*args, stdin=None):
    """Run a command that must fail with one line on stderr, and return that line."""
    result = run(*args, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").rstrip("\n")


@contextmanager
def program(*args, out, err, first=lambda: None):
    """Run the program in a forked process, in which torch need not start again; give its pid.

    Args:
        args: of the command line.
        out: the file that its stdout goes to.
        err: that of its stderr.
        first: what the process does before it begins.
    """

    def work():
        first()
        for file, number in ((out, 1), (err, 2)):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["meloedit", *map(str, args)]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        sys.stdout.flush(), sys.stderr.flush()  # as the interpreter does when it ends
        os._exit(code)

    with child(work) as pid:
        yield pid


def write(path, *lines):
    path.write_text("".join(f"{text if isinstance(text, str) else json.dumps(text)}\n" for text in lines))
    return path
