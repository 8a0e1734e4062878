"""Worker processes: spawned, deaf to Ctrl-C, and gone when the process that started them is, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_SECONDS_TO_END = 5.0


def start(work: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A new process that runs ``work(pipe, *arguments)``, and this end of the pipe.

    The process should call ``end_with_parent`` first. ``work`` and its arguments are pickled.
    """
    # Not forked: torch's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with _deaf_to_interrupts():
        process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C, which a terminal sends to all: the parent ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_with_parent() -> None:
    """From now on this worker ends when the process that started it has ended."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def stop(workers: Sequence[tuple[BaseProcess, Connection]]) -> None:
    """End all of ``workers`` and wait until they are gone."""
    for process, pipe in workers:
        pipe.close()
        process.terminate()
    for process, _ in workers:
        process.join(_SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()


def ending(process: BaseProcess, advice: str) -> str:
    """How a worker has ended that was not to end; ``advice`` is for the case that it took too much memory."""
    process.join(_SECONDS_TO_END)
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with status {code}"
    how = f"was ended by {signal.Signals(-code).name}"
    return f"{how}, perhaps by the system for want of memory: {advice}" if code == -signal.SIGKILL else how
