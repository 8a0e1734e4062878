"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certiprune.core.errors import InputError
from certiprune.store.commit import clean
from certiprune.store.layout import RunLayout


class Busy(InputError):
    """Another process works in the folder."""


@contextmanager
def occupy(root: Path) -> Iterator[RunLayout]:
    """The folder ``root``, made if it is missing, for this process alone until the block ends.

    What killed processes left half written is removed first.

    Raises:
        Busy: another process works in the folder. InputError: it cannot be made, written or locked.
    """
    layout = RunLayout(root)
    with alone(root, layout.lock):
        clean(root)
        yield layout


@contextmanager
def alone(root: Path, lock: Path) -> Iterator[None]:
    """Hold ``lock``, a file in the folder ``root``, which is made if it is missing, until the block ends.

    The lock is the operating system's, on an open file: it ends with the process and its forked children however they
    end, so a lock file that lies around means nothing.

    Raises:
        Busy: another process holds it. InputError: the folder cannot be made, written or locked.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"cannot use the folder {root}: {error.strerror}; choose another one") from error
    try:
        _lock(handle, root)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
        raise Busy(
            f"{holder or 'another process'} is already running in {root}; wait for it or use another folder"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot lock {root}: {error.strerror}; choose a folder on a file system with locks"
        ) from error
    # For the error text of whoever comes next; the lock itself does not depend on it.
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
