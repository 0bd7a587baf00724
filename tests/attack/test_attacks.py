"""A small version of every attack; ``python -m tests.attack`` runs the large one."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from support.store_cases import posix

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "cli"):
    sys.path.insert(0, str(folder))

from attack_faults import faults  # noqa: E402
from attack_flips import flips  # noqa: E402
from attack_fuzz import files, lines  # noqa: E402
from attack_fuzz import stores as made_up_stores
from attack_hostile import FAMILY, hostile  # noqa: E402
from attack_kills import kills  # noqa: E402
from attack_limits import full_disk, limits, read_only, writers  # noqa: E402
from sqlite_shim import library  # noqa: E402

pytest_plugins = ["cli_fixtures"]
pytestmark = posix
QUICK = ["trigger", "generated column", "edit of 100,000 wordings", "block without a factor", "100,000 keys"]
"""The hostile stores of the normal tier."""
shimmable = pytest.mark.usefixtures("_shim")


@pytest.fixture
def _shim():
    """Leave a test out where SQLite's calls cannot be replaced; in CI that is a failure, since nobody would see it."""
    if library() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("this Python's SQLite hides its symbols")


@pytest.fixture(scope="session")
def source(stores):
    return stores / "full.melo"


def none_failed(tally, least):
    assert tally.failures == []
    assert tally.tries >= least


def test_flips_and_cuts(source, tmp_path):
    none_failed(flips(source, tmp_path, 15, 1, aimed=False), 15)
    tally = flips(source, tmp_path, 25, 2, aimed=True)
    none_failed(tally, 25)
    assert tally.outcomes["refused"] > 3, "the others fell on unused bytes"


@shimmable
def test_each_write_and_fsync_fails_once(tmp_path):
    tally = faults(tmp_path, ["disable"], killing=False)
    none_failed(tally, 50)
    assert tally.outcomes["not stored"] > 40


def test_hostile_stores(source, tmp_path):
    none_failed(hostile(source, tmp_path, QUICK, ["rm", "ask"]), 10)


def test_made_up_files_and_command_lines(source, tmp_path):
    none_failed(files(tmp_path, 20, 3), 15)
    none_failed(made_up_stores(source, tmp_path, 15, 3), 10)
    none_failed(lines(source, tmp_path, 8, 3), 8)


def test_several_writers_and_a_file_that_may_not_grow(source, tmp_path):
    none_failed(writers(source, tmp_path, 8, 2), 12)
    none_failed(limits(source, tmp_path, 2, 4), 2)


def test_kills(source, tmp_path):
    none_failed(kills(source, tmp_path, 2, 5), 2)


@pytest.mark.slow
def test_everything_at_length(source, tmp_path):
    none_failed(kills(source, tmp_path, 54, 6), 54)
    none_failed(flips(source, tmp_path, 400, 6, aimed=False), 400)
    none_failed(flips(source, tmp_path, 400, 6, aimed=True), 400)
    none_failed(hostile(source, tmp_path), len(FAMILY))
    none_failed(limits(source, tmp_path, 20, 6), 20)
    none_failed(full_disk(source, tmp_path, 20, 6), 1)
    none_failed(files(tmp_path, 1000, 6), 900)
    none_failed(made_up_stores(source, tmp_path, 300, 6), 250)
    none_failed(lines(source, tmp_path, 400, 6), 390)
    none_failed(writers(source, tmp_path, 50), 100)
    tmp_path.chmod(0o755)
    none_failed(read_only(source, tmp_path), 6)


@pytest.mark.slow
@shimmable
def test_each_write_and_fsync_of_every_change_fails_once(tmp_path):
    none_failed(faults(tmp_path), 500)
    shutil.rmtree(tmp_path, ignore_errors=True)
