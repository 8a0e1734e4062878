"""Rows to SQLite's values and back, by the declared type of each field."""

from __future__ import annotations

import io
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

import numpy as np

from certiprune.store.rows import TABLES, Row
from certiprune.verify.outcome import Reason, Stage, Verdict

Value = None | int | float | str | bytes
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Codec:
    """How one type is stored: the column's SQL type, and the ways there and back."""

    sql: str
    encode: Callable[[Any], Value]
    decode: Callable[[Any], Any]


def schema(row: type[Row]) -> str:
    """The statement that creates the table of ``row``."""
    columns = ", ".join(f"{name} {codec.sql}" for name, codec in COLUMNS[row].items())
    return f"CREATE TABLE {row.table} ({columns}, PRIMARY KEY ({', '.join(row.key)}))"


def encode(row: Row) -> tuple[Value, ...]:
    """The values of ``row`` in the order of its columns.

    Raises:
        TypeError, ValueError: a value is not of the declared type.
    """
    return tuple(codec.encode(getattr(row, name)) for name, codec in COLUMNS[type(row)].items())


def decode(row: type[R], values: tuple[Value, ...]) -> R:
    """The row of the given values, equal to the one that was encoded.

    Raises:
        TypeError, ValueError: the values are not those of such a row.
    """
    kinds = COLUMNS[row].items()
    return row(**{name: codec.decode(value) for (name, codec), value in zip(kinds, values, strict=True)})


def _to_npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _from_npy(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content), allow_pickle=False)


_JSON = Codec("TEXT NOT NULL", lambda value: json.dumps(dict(value)), json.loads)
CODECS: Mapping[Any, Codec] = {
    int: Codec("INTEGER NOT NULL", operator.index, int),
    # NULL is allowed because SQLite stores a NaN as one.
    float: Codec("REAL", float, lambda value: math.nan if value is None else float(value)),
    str: Codec("TEXT NOT NULL", str, str),
    Verdict: Codec("TEXT NOT NULL", lambda value: Verdict(value).value, Verdict),
    Reason: Codec("TEXT NOT NULL", lambda value: Reason(value).value, Reason),
    Stage: Codec("TEXT NOT NULL", lambda value: Stage(value).value, Stage),
    Mapping[str, Any]: _JSON,
    Mapping[str, float]: _JSON,
    np.ndarray: Codec("BLOB NOT NULL", _to_npy, _from_npy),
    np.ndarray | None: Codec(
        "BLOB",
        lambda value: None if value is None else _to_npy(value),
        lambda value: None if value is None else _from_npy(value),
    ),
}
COLUMNS: Mapping[type, Mapping[str, Codec]] = {
    row: {field.name: CODECS[get_type_hints(row)[field.name]] for field in fields(row)} for row in TABLES
}
"""The codec of each column of each table, in order."""
