"""A disk that is full, files that may not grow, folders that are read-only, and two writers."""

import os
import random
import subprocess
import time
from contextlib import contextmanager

from attack_common import Tally, clear, command, file_limit, fresh, in_child, portrait
from attack_kills import COMMANDS, arguments

from meloedit.errors import StoreError
from meloedit.store import Store, verify


def limits(source, home, count, seed):
    """Run commands while files may grow so far and no further (``ulimit -f``)."""
    tally, chance, path = Tally("ulimit -f"), random.Random(seed), home / "limited.melo"
    size, before = source.stat().st_size, portrait(source)
    for number in range(count):
        name = list(COMMANDS)[number % len(COMMANDS)]
        fresh(source, path)
        limit = chance.choice([0, 512, 4096, size, size + chance.randrange(40_000), chance.randrange(size)])

        def work(name=name, limit=limit):
            with file_limit(limit):
                return command(*arguments(name, path))()

        _record(tally, name, path, before, *_run(work, home))
    return tally


@contextmanager
def small_disk(folder, megabytes):
    """Mount a small file system in memory; yields whether that is allowed here."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True)
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=False)


def full_disk(source, home, count, seed):
    """Run commands on a disk with a little room, or none."""
    tally, chance, before = Tally("a full disk (tmpfs)"), random.Random(seed), portrait(source)
    size = source.stat().st_size
    with small_disk(home / "disk", 2 + size // 1_000_000) as mounted:
        if not mounted:
            tally.outcomes["not allowed here"] += 1
            return tally
        path = home / "disk" / "full.melo"
        for number in range(count):
            name = list(COMMANDS)[number % len(COMMANDS)]
            (home / "disk" / "filler").unlink(missing_ok=True)
            fresh(source, path)
            room = os.statvfs(path.parent)
            left = chance.choice([0, 1, 4, 16, 64, 256]) * 1024
            with open(home / "disk" / "filler", "wb") as filler:
                filler.write(bytes(max(0, room.f_bavail * room.f_frsize - left)))
            result = _run(command(*arguments(name, path)), home)
            (home / "disk" / "filler").unlink()
            _record(tally, name, path, before, *result)
    return tally


def read_only(source, home):
    """Run commands on a store, and in a folder, that may only be read."""
    tally, before = Tally("read-only"), portrait(source)
    for what in ("file", "folder"):
        for name in ("rm", "disable", "rollback"):
            folder = home / f"read-only-{what}"
            folder.mkdir(exist_ok=True)
            path = fresh(source, folder / "kept.melo")
            (path if what == "file" else folder).chmod(0o444 if what == "file" else 0o555)
            work = command(*arguments(name, path))

            def as_nobody(work=work):
                if os.geteuid() == 0:
                    os.setuid(65534)
                return work()

            result = _run(as_nobody, home)
            folder.chmod(0o755)
            path.chmod(0o644)
            _record(tally, name, path, before, *result)
    return tally


def _run(work, home):
    out = home / "out.txt"
    out.unlink(missing_ok=True)
    code, _ = in_child(work, out=out)
    return code, out.read_text(errors="replace") if out.exists() else ""


def _record(tally, name, path, before, code, said):
    """Check that a command that failed changed nothing, and that the store is whole."""
    try:
        assert verify(path) == [], verify(path)
        found = portrait(path)
        stored = len(found[2]) > len(before[2])
        assert found[2][: len(before[2])] == before[2], "the past has changed"
        assert code in (0, 1), f"it ends with {code}: {said[-300:]!r}"
        assert code == 0 or "Traceback" not in said, said[-500:]
        assert stored or code == 1, "it says that it is done, and nothing is stored"
        tally.outcomes["stored" if stored else "refused"] += 1
    except Exception as error:
        tally.outcomes["broken"] += 1
        tally.failures.append(f"{name}: {error!r}")


def writers(source, home, count, processes=3):
    """Let processes change one store at the same time: each change is stored or refused, and none is lost."""
    tally, path = Tally("several writers at once"), home / "shared.melo"
    fresh(source, path)
    first = Store.open(path).revision

    def work(own):
        done = refused = 0
        while done + refused < count:
            try:
                store = Store.open(path)
                store.set_enabled(["book"], not store.get("book").enabled)
                done += 1
            except StoreError as error:
                if "\n" in str(error) or not ("being written" in str(error) or "changed since" in str(error)):
                    raise
                refused += 1
            time.sleep(0.001 * own)
        (home / f"done.{own}").write_text(f"{done} {refused}")
        return 0

    pids = []
    for own in range(processes):
        if (pid := os.fork()) == 0:
            try:
                os._exit(work(own))
            except BaseException as error:
                (home / f"done.{own}").write_text(repr(error))
                os._exit(1)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    said = [(home / f"done.{own}").read_text() for own in range(processes)]
    if any(codes):
        tally.failures.append(f"a writer fails: {said}")
        return tally
    done, refused = (sum(int(text.split()[i]) for text in said) for i in (0, 1))
    tally.outcomes["stored"], tally.outcomes["refused"] = done, refused
    if Store.open(path).revision != first + done or verify(path):
        tally.failures.append(f"{done} changes were stored, and the store has {Store.open(path).revision - first}")
    clear(path)
    return tally
