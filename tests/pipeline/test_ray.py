"""A sweep on a real cluster: a worker that is killed loses nothing, and nothing is counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from facts import assert_equal_runs
from sweeping import TINY, Inline, kill_in_dense

from certiprune.experiment import sweep
from certiprune.experiment.sweep import run as runs
from certiprune.experiment.sweep import tasks
from certiprune.store import SweepLayout

HERE = Path(__file__).parent
EPOCHS = 60
LONGER = TINY.replace("epochs: 2", f"epochs: {EPOCHS}")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster in other processes, because Ray warns of what is no error here."""
    command = [sys.executable, str(HERE / "ray_cluster.py")]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = next((line.split()[1] for line in process.stdout if line.startswith("address ")), None)
        assert said is not None
        yield said


def test_a_killed_worker_loses_nothing(tmp_path: Path, address: str) -> None:
    file, there = tmp_path / "sweep.yaml", tmp_path / "cluster"
    file.write_text(LONGER)
    found = tasks(sweep.grid(sweep.load(file)), SweepLayout(there))
    command = [sys.executable, "-m", "certiprune", "sweep", str(file), "--out", str(there), "--ray", address]
    said, killed_after = kill_in_dense(command, found[0].folder)
    assert 3 <= killed_after < EPOCHS
    assert said.count(f"{found[0].name}: begun") == 1 and f"{len(found)} of {len(found)} tasks done" in said
    here = tmp_path / "here"
    assert runs.run(sweep.load(file), here, Inline()) == []
    for task in found:
        assert_equal_runs(task.folder, here / task.name)


def test_no_cluster_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(TINY)
    command = [
        sys.executable,
        "-m",
        "certiprune",
        "sweep",
        str(file),
        "--out",
        str(tmp_path / "s"),
        "--ray",
        "auto",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no Ray cluster at auto" in done.stderr.splitlines()[-1]


def test_what_no_node_has_is_said_and_not_waited_for(tmp_path: Path, address: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(TINY)
    command = [sys.executable, "-m", "certiprune", "sweep", str(file), "--ray", address]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "wide"), "--threads", "64"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--threads 64: no node of the cluster has more than" in done.stderr.splitlines()[-1]
    file.write_text(TINY.replace("set:", "set:\n  device: cuda"))
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "gpu")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "device cuda: no node of the cluster has a GPU" in done.stderr
