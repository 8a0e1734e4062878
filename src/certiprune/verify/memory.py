"""How much memory the search may take."""

from __future__ import annotations

from pathlib import Path

_SHARE = 0.6
_FALLBACK = 4 << 30


def allowance(limit: int | None) -> int:
    """Bytes that a search may hold: ``limit``, or 60 % of what is free on this machine."""
    return int(_SHARE * free()) if limit is None else limit


def free() -> int:
    """Bytes of memory that are free now (4 GiB where the system does not say)."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return _FALLBACK
    return _FALLBACK
