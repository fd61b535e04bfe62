"""The one way in which the agent opens files that a script could have made: beneath a folder, no symlinks, regular files only.

openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS), or, where the kernel has none, a walk with O_NOFOLLOW.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

OPENAT2 = 437
RESOLVE = 0x08 | 0x04 | 0x02
FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


class Refused(Exception):
    """What lies there is not a plain file beneath the folder; `str()` says what it is."""


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_without_openat2 = False


def open_file(folder: int, path: str, flags: int = os.O_RDONLY) -> tuple[int, os.stat_result]:
    """A descriptor of the regular file `path` beneath the folder descriptor, and its facts. Raises: Refused, OSError."""
    file = _open(folder, path, flags | FLAGS)
    facts = os.fstat(file)
    if not stat.S_ISREG(facts.st_mode):
        os.close(file)
        raise Refused(_kind(facts.st_mode))
    return file, facts


def open_folder(folder: int, path: str) -> int:
    """A descriptor of a folder beneath the folder descriptor. Raises: Refused, OSError."""
    return _open(folder, path, os.O_RDONLY | os.O_DIRECTORY | FLAGS)


def open_root(path: str | os.PathLike[str]) -> int:
    """A descriptor of a folder that the agent itself made."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _open(folder: int, path: str, flags: int) -> int:
    global _without_openat2
    try:
        if not _without_openat2:
            return _openat2(folder, path, flags)
    except OSError as problem:
        if problem.errno in (errno.ELOOP, errno.EXDEV):
            raise Refused("a symbolic link") from None
        if problem.errno not in (errno.ENOSYS, errno.EPERM):
            raise _told(problem) from None
        _without_openat2 = problem.errno == errno.ENOSYS
    return _walk(folder, path, flags)


def _openat2(folder: int, path: str, flags: int) -> int:
    how = _How(flags, 0, RESOLVE)
    file = int(_libc.syscall(OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)))
    if file < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return file


def _walk(folder: int, path: str, flags: int) -> int:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise Refused("a path that leads out of its folder")
    here = os.dup(folder)
    try:
        for part in parts[:-1]:
            there = os.open(part, os.O_RDONLY | os.O_DIRECTORY | FLAGS, dir_fd=here)
            os.close(here)
            here = there
        return os.open(parts[-1], flags, dir_fd=here)
    except OSError as problem:
        raise _told(problem) from None
    finally:
        os.close(here)


def _told(problem: OSError) -> Exception:
    """ELOOP and ENOTDIR come from links with O_NOFOLLOW, ENXIO from a socket or a FIFO without a reader."""
    if problem.errno in (errno.ELOOP, errno.ENOTDIR):
        return Refused("a symbolic link")
    if problem.errno in (errno.ENXIO, errno.ENODEV):
        return Refused("a FIFO, socket or device")
    return problem


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return name
    return "a device"
