"""The CSV of ``certiprune verify``: a row per image, flushed as it is decided, that a later command goes on with.

Beside ``OUT.csv`` lies ``OUT.csv.run.json``, which says what the rows are about (``question.py``), so that the answers
to two questions are never mixed. It is also what a process locks while it writes.
"""

from __future__ import annotations

import csv
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.verify.outcome import Outcome

COLUMNS = ("index", "label", "predicted", "verdict", "reason", "stage", "lower", "nodes", "seconds")
_VERDICTS = ("certified", "falsified", "misclassified", "unknown")
_MEND = "give --csv another file, or start over with --fresh"


@dataclass(frozen=True)
class Row:
    """What the CSV says of one image: an ``Outcome`` without its counterexample."""

    index: int
    label: int
    predicted: int
    verdict: str
    reason: str
    stage: str
    lower: float
    nodes: int
    seconds: float

    @staticmethod
    def of(outcome: Outcome) -> Row:
        o = outcome
        words = (str(o.verdict), str(o.reason), str(o.stage))
        return Row(o.index, o.label, o.predicted, *words, o.lower, o.nodes, o.seconds)

    @staticmethod
    def parse(line: str) -> Row:
        """The row that a line of the file holds.

        Raises:
            ValueError: it is none.
        """
        index, label, predicted, verdict, reason, stage, lower, nodes, seconds = line.split(",")
        if verdict not in _VERDICTS:
            raise ValueError(f"no verdict: {verdict}")
        numbers = (float(lower), int(nodes), float(seconds))
        return Row(int(index), int(label), int(predicted), verdict, reason, stage, *numbers)

    def cells(self) -> list[str]:
        """The row's texts, in the order of ``COLUMNS``."""
        return [*(str(getattr(self, name)) for name in COLUMNS[:-1]), f"{self.seconds:.4f}"]


class Table:
    """Rows decided before, by index, and the file for new ones (None: nowhere)."""

    def __init__(self, file: TextIO | None, before: Mapping[int, Row]):
        self._file, self.before = file, before

    def write(self, row: Row) -> None:
        """Add a row, which is in the file whatever happens to this process afterwards."""
        if self._file is not None:
            _write(self._file, row.cells())


@contextmanager
def table(
    path: Path | None,
    question: Callable[[], Mapping[str, str]],
    *,
    fresh: bool = False,
    forget: Callable[[Row], bool] = lambda _: False,
) -> Iterator[Table]:
    """The CSV ``path`` with what an earlier command left in it, for this process alone.

    A last line that a kill has torn is dropped. A file that is new and gets no row is removed again.

    Args:
        path: the file; None for none. What is no regular file (a terminal, a pipe) is only written to.
        question: what the rows are about, by name; called only where there is a regular file.
        fresh: start over: forget what is there.
        forget: rows that will be decided again.

    Raises:
        InputError: the file holds something else or the answers to another question, or is being written to.
        OSError: it cannot be read or written.
    """
    if path is None:
        yield Table(None, {})
        return
    if path.is_dir():
        raise InputError(f"{path}: is a folder; --csv needs a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        with path.open("w", newline="", encoding="utf-8") as file:
            _write(file, COLUMNS)
            yield Table(file, {})
        return
    beside = path.with_name(f"{path.name}.run.json")
    made = not path.exists()
    with beside.open("a+", encoding="utf-8") as note:
        _lock(note, path)
        try:
            before = {} if fresh else _gone_on_with(path, note, question, forget)
            if not before:
                _start_over(path, note, question())
            with path.open("a", newline="", encoding="utf-8") as file:
                yield Table(file, before)
        finally:
            if made and path.exists() and path.read_text(encoding="utf-8").count("\n") <= 1:
                path.unlink()
            if not path.exists() or not beside.stat().st_size:
                beside.unlink()


def _write(file: TextIO, cells: list[str] | tuple[str, ...]) -> None:
    csv.writer(file, lineterminator="\n").writerow(cells)
    file.flush()


def _lock(note: TextIO, path: Path) -> None:
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{path}: another process is writing to it; wait for it, or name another file"
        ) from error
    except OSError:
        # Some network file systems have no locks; going without one is as good as it was there before.
        return


def _gone_on_with(
    path: Path,
    note: TextIO,
    question: Callable[[], Mapping[str, str]],
    forget: Callable[[Row], bool],
) -> dict[int, Row]:
    """The rows of ``path`` that stay, by index, after the file was brought to hold just them."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no CSV of verdicts; {_MEND}") from error
    lines = text.split("\n")[:-1]
    if not text.strip():
        return {}
    if lines[:1] != [",".join(COLUMNS)]:
        # A header that a kill has torn is the beginning of nothing.
        if not lines and ",".join(COLUMNS).startswith(text):
            return {}
        raise InputError(f"{path}: is no CSV of verdicts; {_MEND}")
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            row = Row.parse(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: is no row of verdicts; {_MEND}") from error
        if row.index in rows:
            raise InputError(f"{path}, line {number}: image {row.index} is there twice; {_MEND}")
        rows[row.index] = row
    if rows:
        _compare(path, note, question())
    stay = [line for line, row in zip(lines[1:], rows.values(), strict=True) if not forget(row)]
    clean = "".join(f"{line}\n" for line in (lines[0], *stay))
    if clean != text:
        from certiprune.store import write_text

        write_text(path, clean)
    return {index: row for index, row in rows.items() if not forget(row)}


def _compare(path: Path, note: TextIO, asked: Mapping[str, str]) -> None:
    note.seek(0)
    try:
        held = json.load(note)
        differ = [name for name, value in asked.items() if held.get(name) != value]
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: holds rows, and {note.name} does not say of what; {_MEND}") from error
    if differ:
        raise InputError(
            f"{path}: holds the answers to another question ({' and '.join(differ)} differ); {_MEND}"
        )


def _start_over(path: Path, note: TextIO, asked: Mapping[str, str]) -> None:
    # In this order, so that a kill in between leaves no row beside words about another question.
    with path.open("w", newline="", encoding="utf-8") as file:
        note.truncate(0)
        note.write(json.dumps(asked, indent=1) + "\n")
        note.flush()
        _write(file, COLUMNS)
