import signal
import subprocess
import sys
from pathlib import Path

import pytest

from certiprune.store import atomic, write_bytes, write_text
from certiprune.store.commit import TEMPORARY, clean

KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from certiprune.store.commit import atomic
with atomic(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the new cont")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "table.csv"
    write_text(path, "old\r\n")
    assert path.read_bytes() == b"old\r\n"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["table.csv"]


def test_the_temporary_file_has_the_suffix_and_the_folder_of_the_final_one(tmp_path):
    with atomic(tmp_path / "x.safetensors") as temporary:
        assert (temporary.suffix, temporary.parent) == (".safetensors", tmp_path)
        temporary.write_text("x")


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="stop"), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_block_that_wrote_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "x"):
        pass
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_the_old_file_and_its_leftovers_are_cleaned(tmp_path):
    path = tmp_path / "a" / "x.json"
    write_text(path, "old")
    done = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (leftover,) = clean(tmp_path)
    assert leftover.name.startswith(TEMPORARY)
    assert names(path.parent) == ["x.json"]
    assert clean(tmp_path) == []
