"""Law 8: an interrupted commit is not complete, and what was acknowledged is there."""

import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from certiprune.store import Records

WRITER = """
import sys
from pathlib import Path
from certiprune.store import OutcomeRow, Records
from certiprune.verify.outcome import Reason, Stage, Verdict
with Records.open(Path(sys.argv[1])) as records:
    for i in range(100_000):
        verdict = Verdict.CERTIFIED, Reason.NONE, Stage.CROWN
        rows = [OutcomeRow(ladder, 0, i, 1, 1, *verdict, 0.5, 0, 0.1) for ladder in "ab"]
        records.commit_stage(f"image/{i}", 0.1, rows=rows)
        print(i, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 60])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path, lines):
    path = tmp_path / "results.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(lines)]
        writer.kill()
        seen += [int(line) for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    with Records.open(path, read_only=True) as records:
        first, second = ([row.idx for row in records.outcomes(ladder)] for ladder in "ab")
        stages = {stage.name for stage in records.stages()}
    assert first[: len(seen)] == seen
    assert len(first) <= len(seen) + 1, "at most the transaction in flight is more than was acknowledged"
    assert first == second == list(range(len(first)))
    assert stages == {f"image/{i}" for i in first}
    with Records.open(path) as records:
        records.put_meta({"resumed": True})


def test_a_file_left_in_the_middle_of_a_transaction_reads_as_before_it(tmp_path):
    path, crashed = tmp_path / "results.sqlite", tmp_path / "crashed.sqlite"
    with Records.open(path) as records:
        records.put_meta({f"key{i}": "old " * 200 for i in range(100)})
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # so that half of the pages reach the file before the commit
    connection.execute("BEGIN")
    connection.execute("UPDATE meta SET value = replace(value, 'old', 'new')")
    shutil.copy(path, crashed)
    shutil.copy(f"{path}-journal", f"{crashed}-journal")
    connection.execute("ROLLBACK")
    connection.close()
    assert b"new new" in crashed.read_bytes(), "the crash is a real one"
    with Records.open(crashed, read_only=True) as records:
        assert set(records.meta().values()) == {"old " * 200}
