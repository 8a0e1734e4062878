"""A table of numbers and words on its way to a file."""

from __future__ import annotations

import csv
import importlib
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from certiprune.core.errors import InputError


@dataclass(frozen=True)
class Grid:
    """Rows of values under a header; None, or a number that was not measured, is an empty cell.

    Attributes:
        name: the file's name without its ending.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @staticmethod
    def of(name: str, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> Grid:
        """A grid of any rows, each as long as the header."""
        cells = tuple(tuple(_known(value) for value in row) for row in rows)
        assert all(len(row) == len(header) for row in cells)
        return Grid(name, tuple(header), cells)

    def csv(self) -> str:
        """CSV text; numbers are written so that reading gives the same ones."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return out.getvalue()

    def parquet(self) -> bytes:
        """The bytes of a Parquet file, a column for each name of the header; needs pyarrow (``require_parquet``)."""
        import pyarrow
        import pyarrow.parquet

        columns = [[row[at] for row in self.rows] for at in range(len(self.header))]
        out = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table([_plain(c) for c in columns], names=self.header), out)
        return bytes(out.getvalue().to_pybytes())


def require_parquet() -> None:
    """See that Parquet can be written.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(
            "Parquet files need pyarrow, which is not installed: pip install 'certiprune[parquet]'"
        ) from error


def _known(value: Any) -> Any:
    """``value``, or None where it is a number that was not measured."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(column: list[Any]) -> list[Any]:
    """One type a column, which Parquet needs: words, else numbers with a point where any has one."""
    if any(isinstance(value, str) for value in column):
        return [None if value is None else str(value) for value in column]
    if any(isinstance(value, float) for value in column):
        return [None if value is None else float(value) for value in column]
    return column
