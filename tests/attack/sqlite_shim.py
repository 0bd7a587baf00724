"""A shim around SQLite's own file system layer: it counts every write, truncation and fsync, and lets one of them fail.

The functions that SQLite calls for its files are replaced in memory, by ctypes; no library is preloaded. It works where
Python's sqlite3 module shows the symbols of the SQLite that it uses.
"""

import _sqlite3
import ctypes
import os
import signal
from contextlib import contextmanager

OK, FULL = 0, 13
FAILURES = {"write": (FULL, 778), "truncate": (1546,), "sync": (1034,)}
"""What fails, and with which results: a full disk, an error of the disk."""


class Methods(ctypes.Structure):
    """sqlite3_io_methods, as far as it is looked at."""

    _fields_ = [
        ("version", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("close", "read", "write", "truncate", "sync")),
        ("rest", ctypes.c_void_p * 13),
    ]


class File(ctypes.Structure):
    """sqlite3_file."""

    _fields_ = [("methods", ctypes.POINTER(Methods))]


class Vfs(ctypes.Structure):
    """sqlite3_vfs, up to xOpen."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
    ]


OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(File), ctypes.c_int, ctypes.c_void_p
)
CALLS = {
    "write": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64),
    "truncate": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64),
    "sync": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
}


def library():
    """Return the SQLite that Python uses, or ``None`` if its symbols are not to be had."""
    try:
        found = ctypes.CDLL(_sqlite3.__file__)
        found.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
    except (OSError, AttributeError):
        return None
    return found


class Shim:
    """Counts the calls, and does something at one of them.

    Attributes:
        calls: the kinds of the calls so far, in their order.
        at: the number of the call that fails, from 0; -1: none.
        how: ``"fail"``: the call returns ``code``; ``"kill"``: the process is killed before it; ``"half"``: the process
            is killed when half of the bytes are written.
        lasting: whether all calls after that one fail, too.
    """

    def __init__(self):
        self.calls, self.at, self.how, self.code, self.lasting = [], -1, "fail", None, False
        self._kept, self._by_address = [], {}

    def struck(self, kind):
        """Note a call; return whether it is the one."""
        self.calls.append(kind)
        number = len(self.calls) - 1
        return number == self.at or (self.lasting and 0 <= self.at < number)

    def result(self, kind):
        """Return the error of a call, or end the process."""
        if self.how != "fail":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.code if self.code in FAILURES[kind] else FAILURES[kind][-1]

    def methods(self, pointer):
        """Return a copy of the methods of a file in which writes, truncations and fsyncs come here first."""
        address = ctypes.addressof(pointer.contents)
        if address in self._by_address:
            return self._by_address[address]
        copy = Methods()
        ctypes.memmove(ctypes.byref(copy), pointer, ctypes.sizeof(Methods))
        for kind, call in CALLS.items():
            setattr(copy, kind, ctypes.cast(self._instead(kind, call, getattr(copy, kind)), ctypes.c_void_p).value)
        self._by_address[address] = copy
        self._by_address[ctypes.addressof(copy)] = copy
        return copy

    def _instead(self, kind, call, address):
        real = call(address)

        def wrapped(file, *values):
            if self.struck(kind):
                if kind == "write" and self.how == "half":
                    real(file, values[0], values[1] // 2, values[2])
                return self.result(kind)
            return real(file, *values)

        function = call(wrapped)
        self._kept += [real, function]
        return function


@contextmanager
def shimmed():
    """Put the shim in place for every file that SQLite opens in a ``with`` block."""
    vfs = library().sqlite3_vfs_find(None).contents
    address, shim = vfs.open, Shim()
    real = OPEN(address)

    def opened(own, name, file, flags, out):
        result = real(own, name, file, flags, out)
        if result == OK and file.contents.methods:
            file.contents.methods = ctypes.pointer(shim.methods(file.contents.methods))
        return result

    function = OPEN(opened)
    vfs.open = ctypes.cast(function, ctypes.c_void_p).value
    try:
        yield shim
    finally:
        vfs.open = address
