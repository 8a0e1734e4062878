"""What of the machine a command uses."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from certiprune.core.errors import InputError
from certiprune.core.memory import allowance, parse_memory


@dataclass(frozen=True)
class Share:
    """What one of several worker processes may use.

    Attributes:
        threads: CPU threads; None leaves them to torch.
        memory: bytes; None for 60 % of what is free whenever it is asked.
    """

    threads: int | None
    memory: int | None


def shares(jobs: int, threads: int | None, memory: str | None) -> Share:
    """What each of ``jobs`` processes (one: this one) gets of the whole command's ``threads`` and ``memory``.

    Raises:
        InputError: one of them is below 1 or no amount, or there are more jobs than threads.
    """
    if jobs < 1:
        raise InputError(f"--jobs {jobs} must be at least 1")
    if threads is not None and threads < 1:
        raise InputError(f"--threads {threads} must be at least 1")
    allowed = None if memory is None else parse_memory(memory, elsewhere=jobs > 1)
    if jobs == 1:
        return Share(threads, allowed)
    together = cores() if threads is None else threads
    if jobs > together:
        has = f"this machine has {together}" if threads is None else f"--threads gives {together}"
        raise InputError(f"--jobs {jobs} needs at least {jobs} CPU threads; {has}")
    return Share(together // jobs, allowance(allowed, elsewhere=True) // jobs)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(threads: int | None) -> None:
    """Let torch use ``threads`` CPU threads (see ``shares``); None leaves it to torch."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def importing() -> Iterator[None]:
    """For the slow imports: what they make stays, so looking for garbage in it, then and later, is lost time."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
