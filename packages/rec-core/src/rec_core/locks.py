"""Locks on files between processes. A lock goes with its process, also when that is killed."""

from __future__ import annotations

import errno
import os
import time


def lock(fd: int, *, wait: float = 0.0) -> bool:
    """Lock an open file for this process; closing ``fd`` lets it go.

    Where another process has it, tries for ``wait`` seconds (``inf``: until it is free) and then raises
    :class:`BlockingIOError`. False, with nothing locked, on a file system that has no locks (some network mounts).
    """
    until = time.monotonic() + wait
    while True:
        try:
            return _try(fd)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.02)


def _try(fd: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError(error.errno, error.strerror) from error
        return False
    return True
