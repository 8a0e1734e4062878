"""Files that are either the old ones or the new ones, whole, whenever the process or the machine stops.

Write a temporary file beside the final one, flush it to disk, rename it over the final one, flush the folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".partial-"
"""How the names of temporary files begin."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes ``path`` when the block ends without an exception.

    The temporary file has the suffix of ``path``, because some writers choose their format by it. Once the
    block is left, the file survives a crash of the machine. If the block raises, the old file stays and the
    temporary one goes; a killed process leaves its temporary file to ``clean``. Missing folders are made. Where
    ``path`` is a link, it stays one, and the file that it leads to is replaced.

    Raises:
        OSError: the disk is full, the folder cannot be written, ``path`` is there and no file, or the block wrote none.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        # Renamed over a device, a file would take its place for everyone.
        raise OSError(errno.EINVAL, "is there and no file that can be replaced", str(path))
    _make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Make ``content`` the whole content of ``path``, atomically; what is no file, such as a pipe, is written to."""
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(content)
        return
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Make ``content``, in UTF-8, the whole content of ``path``, atomically; line ends stay."""
    write_bytes(path, content.encode())


def clean(folder: Path) -> list[Path]:
    """Remove the temporary files that killed processes left in ``folder`` and below it; returns their paths.

    Only for a process that has the folder to itself (see ``lock.occupy``): it would take the files of a
    living writer too.
    """
    stale = sorted(path for path in folder.rglob(f"{TEMPORARY}*") if path.is_file())
    for path in stale:
        path.unlink()
    return stale


def remove(*folders: Path) -> None:
    """Remove each of ``folders`` that is there, with all in it.

    Raises:
        OSError: something cannot be removed: it would be gone on with in the place of starting over.
    """
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _make_folder(folder: Path) -> None:
    """``mkdir -p`` whose new entries are on disk when it returns."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    """Wait until the file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
