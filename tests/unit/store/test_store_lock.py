import subprocess
import sys

import pytest

from certiprune.core.errors import InputError
from certiprune.store import occupy
from certiprune.store.commit import TEMPORARY

HOLDER = """
import sys, time
from pathlib import Path
from certiprune.store.lock import occupy
with occupy(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_occupied_once_and_is_free_afterwards(tmp_path):
    root = tmp_path / "new" / "run"
    with occupy(root) as layout:
        assert layout.root == root
        with (
            pytest.raises(InputError, match=r"process \d+ on .* is already running in .*run; wait"),
            occupy(root),
        ):
            pass
    with occupy(root):
        pass


def test_an_exception_frees_the_folder(tmp_path):
    with pytest.raises(RuntimeError), occupy(tmp_path):
        raise RuntimeError
    with occupy(tmp_path):
        pass


def test_a_killed_process_frees_the_folder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            with pytest.raises(InputError, match=f"process {other.pid} on"), occupy(tmp_path):
                pass
        finally:
            other.kill()
    with occupy(tmp_path) as layout:
        assert layout.lock.exists()


def test_leftovers_of_killed_writers_are_removed_and_the_rest_stays(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    leftover = tmp_path / "checkpoints" / f"{TEMPORARY}0123-model.safetensors"
    leftover.write_text("half")
    (tmp_path / "report.html").write_text("whole")
    with occupy(tmp_path):
        assert not leftover.exists()
        assert (tmp_path / "report.html").exists()


def test_a_file_in_the_place_of_the_folder_is_explained(tmp_path):
    (tmp_path / "run").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot use the folder .*run: .*; choose another one"),
        occupy(tmp_path / "run"),
    ):
        pass
