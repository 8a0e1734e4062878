"""What several commands share: texts of the terminal, and questions about paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of equally many cells as lines whose columns begin below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, which is there."""
    return one.exists() and other.exists() and one.samefile(other)
