"""How much memory the search may take."""

from __future__ import annotations

from certiprune.core.memory import free

_SHARE = 0.6


def allowance(limit: int | None) -> int:
    """Bytes that a search may hold: ``limit``, or 60 % of what is free on this machine."""
    return int(_SHARE * free()) if limit is None else limit
