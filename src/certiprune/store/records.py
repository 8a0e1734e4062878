"""The results of a run: one SQLite file, which is the truth about them.

Every call that writes is one transaction, and what it wrote survives a kill or a power cut once the call has
returned (rollback journal, ``synchronous = EXTRA``: one file, which also works on network drives). Writing a
row again replaces it, so a stage that was cut off can simply be done again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from certiprune.core.errors import InputError
from certiprune.store import codec
from certiprune.store.layout import DENSE
from certiprune.store.rows import (
    TABLES,
    EpochRow,
    ExampleRow,
    LayerRow,
    OutcomeRow,
    RoundRow,
    Row,
    StageRow,
)

VERSION = 3
"""The number of the tables' form, in the file's ``user_version``; it changes with any of the columns."""
WAIT = 30.0
"""Seconds to wait for another process that is just writing."""

R = TypeVar("R", bound=Row)


class Records:
    """An open results file; use it as a context manager, or call ``close``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """For ``Records.open``, which checks the file first."""
        self.path = path
        self._connection = connection

    @staticmethod
    def open(path: Path, *, read_only: bool = False) -> Records:
        """The results file at ``path``; a new one is made unless ``read_only``.

        Raises:
            InputError: the file is missing (``read_only``), damaged, of another schema version or of another
                program, or its folder cannot be written.
        """
        if read_only and not path.is_file():
            raise InputError(f"there are no results at {path}; name the folder of a run")
        # Even a reader opens for writing where it may, because a file that a killed writer left in the middle
        # of a transaction has to be rolled back before it can be read.
        mode = "rw" if read_only else "rwc"
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=WAIT,
            )
        except sqlite3.Error as error:
            raise InputError(f"cannot open the results at {path}: {error}") from error
        try:
            _prepare(connection, path, read_only=read_only)
        except sqlite3.Error as error:
            connection.close()
            raise InputError(f"{path} is no readable results file: {error}") from error
        except BaseException:
            connection.close()
            raise
        return Records(path, connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, *rows: Row) -> None:
        """Store ``rows``, of any tables, in one transaction; rows with the same key are replaced.

        Raises:
            InputError: the file cannot be written.
            TypeError, ValueError: a row holds a value that is not of its declared type.
        """
        with self._transaction() as connection:
            _insert(connection, rows)

    def put_meta(self, values: Mapping[str, Any]) -> None:
        """Store JSON ``values`` by key (``digest``, ``schema``, ``config``, ...) in one transaction."""
        with self._transaction() as connection:
            pairs = [(key, json.dumps(value)) for key, value in values.items()]
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)

    def commit_stage(
        self, name: str, seconds: float, payload: Mapping[str, Any] | None = None, *, rows: Iterable[Row] = ()
    ) -> None:
        """Mark stage ``name`` as finished and store its ``rows``, all in one transaction.

        Raises:
            InputError: the file cannot be written.
        """
        self.add(*rows, StageRow(name, seconds, payload or {}))

    def stage(self, name: str) -> StageRow | None:
        """The row of stage ``name`` if it is finished."""
        found = self._read(StageRow, name=name)
        return found[0] if found else None

    def stage_done(self, name: str) -> bool:
        return self.stage(name) is not None

    def meta(self) -> dict[str, Any]:
        """All meta values by key."""
        with self._reading() as connection:
            return {
                key: json.loads(value) for key, value in connection.execute("SELECT * FROM meta ORDER BY key")
            }

    def stages(self) -> list[StageRow]:
        return self._read(StageRow)

    def epochs(self, ladder: str | None = None, round: int | None = None) -> list[EpochRow]:
        """The epochs of one network, of one ladder or of all, by ladder, round and epoch."""
        return self._read(EpochRow, ladder=ladder, round=round)

    def rounds(self, ladder: str | None = None) -> list[RoundRow]:
        """The networks, by ladder (``dense`` first) and round."""
        return self._read(RoundRow, ladder=ladder)

    def layers(
        self, ladder: str | None = None, round: int | None = None, kind: str | None = None
    ) -> list[LayerRow]:
        """Layers by ladder, round, kind and position."""
        return self._read(LayerRow, ladder=ladder, round=round, kind=kind)

    def outcomes(self, ladder: str | None = None, round: int | None = None) -> list[OutcomeRow]:
        """Outcomes by ladder, round and the image's number."""
        return self._read(OutcomeRow, ladder=ladder, round=round)

    def examples(self, ladder: str | None = None, round: int | None = None) -> list[ExampleRow]:
        """Examples by ladder, round and the image's number."""
        return self._read(ExampleRow, ladder=ladder, round=round)

    def _read(self, row: type[R], **wanted: str | int | None) -> list[R]:
        """The rows whose columns have the ``wanted`` values (None: any), in the order of their keys."""
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "TRUE"
        order = ", ".join(f"ladder <> '{DENSE}', {key}" if key == "ladder" else key for key in row.key)
        query = f"SELECT {', '.join(codec.COLUMNS[row])} FROM {row.table} WHERE {where} ORDER BY {order}"
        with self._reading() as connection:
            return [codec.decode(row, values) for values in connection.execute(query, tuple(given.values()))]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise InputError(f"the results at {self.path} cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what the block writes; on disk when the block has ended."""
        try:
            with _atomically(self._connection):
                yield self._connection
        except sqlite3.OperationalError as error:
            raise InputError(f"the results at {self.path} cannot be written: {error}") from error


@contextmanager
def _atomically(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has itself rolled back after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    for row in rows:
        columns = codec.COLUMNS[type(row)]
        marks = ", ".join("?" for _ in columns)
        query = f"INSERT OR REPLACE INTO {row.table} ({', '.join(columns)}) VALUES ({marks})"
        connection.execute(query, codec.encode(row))


def _prepare(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    """Make the tables of a new file, check an old one."""
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise InputError(f"the results at {path} are damaged: {state}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA synchronous = EXTRA")
        with _atomically(connection):
            _create(connection)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version not in (0, VERSION):
        raise InputError(
            f"the results at {path} have schema version {version}, and this certiprune reads {VERSION}: "
            "use the certiprune that wrote them, or run again in another folder"
        )
    if version == 0 or not tables >= {"meta", *(row.table for row in TABLES)}:
        raise InputError(f"{path} holds no results of certiprune")


def _create(connection: sqlite3.Connection) -> None:
    """The tables and the version number of an empty file; nothing if there is anything in it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version or tables:
        return
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    for row in TABLES:
        connection.execute(codec.schema(row))
    connection.execute(f"PRAGMA user_version = {VERSION}")
