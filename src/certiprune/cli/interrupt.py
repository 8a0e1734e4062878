"""Ctrl-C with a word about how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """Ctrl-C; the text says what is kept and how to go on. Typer would swallow a ``KeyboardInterrupt``."""


@contextmanager
def on_interrupt(hint: str) -> Iterator[None]:
    """Ctrl-C in the block raises ``Interrupted`` with ``hint``."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(hint) from error
