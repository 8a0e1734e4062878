"""Memory: what is free, what a user allows, and keeping what was used for its next use."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from pathlib import Path

from certiprune.core.errors import InputError

_FALLBACK = 4 << 30
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) *(%|[KMGT])(?:i?B)?", re.IGNORECASE)
_UNIT = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LEAST = 1 << 20
_SHARE = 0.6


def parse_memory(text: str | int, *, elsewhere: bool = False) -> int:
    """Bytes of memory, written as ``4G``, ``800M`` (powers of 1024) or as a share of what is free now, ``60%``.

    A number of bytes is taken as it is; in a text a number needs a unit, since 4 could mean anything. A share is of
    what is free to this process, or with ``elsewhere`` to others.

    Raises:
        InputError: the text is no amount of memory, the share is above 100 %, or it is less than 1 MiB.
    """
    if isinstance(text, int):
        amount = text
    else:
        match = _AMOUNT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"{text!r} is no amount of memory; write it like 4G, 800M or 60%")
        number, unit = float(match[1]), match[2].upper()
        if unit == "%" and number > 100:
            raise InputError(f"{text!r} is more memory than all that is free; write it like 4G, 800M or 60%")
        all_free = free(elsewhere=elsewhere)
        amount = int(number / 100 * all_free) if unit == "%" else int(number * _UNIT[unit])
    if amount < _LEAST:
        raise InputError(f"{text!r} is too little memory to work with; at least 1M is needed")
    return amount


def allowance(limit: int | None, *, elsewhere: bool = False) -> int:
    """Bytes that a search may hold, with ``elsewhere`` in other processes: ``limit``, or 60 % of what is free here."""
    return int(_SHARE * free(elsewhere=elsewhere)) if limit is None else limit


def free(*, elsewhere: bool = False) -> int:
    """Bytes of memory that are free now (4 GiB where the system does not say), within the control group's limit.

    What this process has kept (``keep_freed``) is free to it, but not to others: they are asked with ``elsewhere``.
    """
    return min(_free_here(), _free_in_group()) + (0 if elsewhere else _kept())


def keep_freed() -> None:
    """From now on this process keeps memory that it no longer uses for its next use (with glibc; else nothing).

    Tensors of many megabytes come and go all the time. By default each is asked of the system anew, which hands it
    out page by page, all zeroed: several times as slow as what is then computed in it.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, _MOST)


# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _MOST = -1, -4, (1 << 31) - 1


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``; ``fordblks``: bytes that the process has and does not use."""

    _fields_ = (("before", ctypes.c_size_t * 8), ("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t))


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo
        library.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    except (OSError, TypeError, AttributeError):
        return None
    return library


def _kept() -> int:
    library = _glibc()
    return 0 if library is None else int(library.mallinfo2().fordblks)


def _free_here() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return _FALLBACK
    return _FALLBACK


def _free_in_group(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit leaves; more than any machine has where there is no limit."""
    for limit, used, detail, cached in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            found = re.search(rf"^{cached} (\d+)$", (folder / detail).read_text(), re.MULTILINE)
        except (OSError, ValueError):
            continue
        # Pages of files that were read are counted as used, and are given back when they are needed.
        return max(0, left + (int(found[1]) if found else 0))
    return 1 << 62
