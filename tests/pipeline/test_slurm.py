"""Sweeps as jobs of Slurm, of which a few scripts play the part."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from facts import assert_equal_runs
from sweeping import MEANS, PART, TINY, kill_in_dense

from certiprune.cli.entry import status
from certiprune.core.errors import InputError
from certiprune.experiment import sweep
from certiprune.experiment.sweep import run as runs
from certiprune.experiment.sweep.executors import on_slurm, slurm_job
from certiprune.experiment.sweep.executors.base import Ended
from certiprune.experiment.sweep.executors.local import Processes
from certiprune.experiment.sweep.executors.on_slurm import OnSlurm
from certiprune.experiment.sweep.plan import Task
from certiprune.store import RunLayout, SweepLayout

EPOCHS = 60
LONGER = PART.replace("epochs: 2", f"epochs: {EPOCHS}")
needed = pytest.mark.skipif(find_spec("submitit") is None, reason="submitit is not installed")
Patch = pytest.MonkeyPatch


class Cluster:
    """What its jobs are."""

    def __init__(self, jobs: Path) -> None:
        self.jobs = jobs

    def scripts(self) -> list[str]:
        return [
            (self.jobs / str(n + 1) / "script").read_text() for n in range(len(list(self.jobs.iterdir())))
        ]

    def states(self) -> list[str]:
        return [(self.jobs / str(n + 1) / "state").read_text() for n in range(len(list(self.jobs.iterdir())))]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: Patch) -> Iterator[Cluster]:
    from submitit import SlurmJob

    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        words = [sys.executable, str(Path(__file__).with_name("fake_slurm.py")), name]
        (commands / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (commands / name).chmod(0o755)
    # Of other tests' jobs with the same numbers it remembers the ends.
    monkeypatch.setattr(SlurmJob, "watcher", type(SlurmJob.watcher)())
    # No file system here shows results late.
    monkeypatch.setattr(SlurmJob, "_results_timeout_s", 0)
    monkeypatch.setenv("FAKE_SLURM", str(jobs))
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    yield Cluster(jobs)
    subprocess.run(["scancel", *(folder.name for folder in jobs.iterdir())], check=True)


def planned(folder: Path) -> list[Task]:
    return sweep.tasks(sweep.grid(sweep.parse(PART)), SweepLayout(folder))


def test_the_command_without_submitit_or_slurm(
    tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(TINY)
    typed = ["sweep", str(file), "--out", str(tmp_path / "s"), "--slurm", "partition=cpu"]
    monkeypatch.setenv("PATH", "")
    if find_spec("submitit"):
        assert status(typed) == 2
        assert "there is no Slurm here" in capsys.readouterr().err
    monkeypatch.setattr(on_slurm, "find_spec", lambda name: None)
    assert status(typed) == 2
    assert "submitit is not installed; install certiprune[slurm]" in capsys.readouterr().err
    assert status([*typed, "--ray", "auto"]) == 2
    assert "--ray and --slurm cannot be given together" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@needed
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "'' must be options of sbatch such as partition=cpu,time=240"),
        ("cpu", "'cpu' must be options"),
        ("partition=", "'partition=' must be options"),
        ("time=5,partitoin=cpu", "partitoin cannot be given; did you mean partition?"),
        ("nodes=2", "nodes cannot be given"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        OnSlurm(options, tmp_path, None, MEANS)


@needed
def test_options_reach_sbatch(tmp_path: Path, cluster: Cluster) -> None:
    dense, *_ = planned(tmp_path)
    on_gpu = Task("x", "x", dense.sweep, dense.experiment.model_copy(update={"device": "cuda"}), tmp_path)
    executor = OnSlurm("partition=held,exclude=a,b,mem-per-cpu=2G", tmp_path, 2, MEANS)
    assert not (tmp_path / "slurm").exists()
    for task in (dense, on_gpu):
        assert executor.room()
        executor.submit(task)
    assert not executor.room() and executor.news(0) == []
    cpu, gpu = cluster.scripts()
    for line in ("partition=held", "exclude=a,b", "mem-per-cpu=2G", "cpus-per-task=1", "nodes=1"):
        assert f"#SBATCH --{line}\n" in cpu
    assert "#SBATCH --time" not in cpu and "srun" in cpu and "--cpus-per-task=1 " in cpu
    assert "gres" not in cpu and "#SBATCH --gres=gpu:1\n" in gpu
    executor.close()
    assert cluster.states() == ["CANCELLED by 0"] * 2


@needed
@pytest.mark.parametrize(
    ("partition", "state", "jobs"),
    [
        ("dying", "NODE_FAIL", on_slurm.RETRIES + 1),
        ("preempting", "PREEMPTED", on_slurm.RETRIES + 1),
        ("cancelling", "CANCELLED by 0", 1),
        ("nowhere", "invalid partition specified: nowhere", 0),
    ],
)
def test_every_task_has_one_end(
    tmp_path: Path, cluster: Cluster, partition: str, state: str, jobs: int
) -> None:
    executor = OnSlurm(f"partition={partition}", tmp_path, None, MEANS)
    tasks = planned(tmp_path)[:2]
    for task in tasks:
        executor.submit(task)
    ends = [end for _ in range(10) for end in executor.news(0.01)]
    assert len(cluster.scripts()) == jobs * len(tasks)
    assert all(isinstance(end, Ended) and state in end.error for end in ends)
    assert sorted(end.task.name for end in ends) == sorted(task.name for task in tasks)


@needed
def test_a_task_is_given_up_only_where_its_jobs_commit_nothing(tmp_path: Path, cluster: Cluster) -> None:
    (task, *_) = planned(tmp_path)
    records = RunLayout(task.folder).records
    records.parent.mkdir(parents=True)
    executor = OnSlurm("partition=dying", tmp_path, None, MEANS)
    executor.submit(task)
    for second in range(2 * on_slurm.RETRIES):
        records.touch()
        os.utime(records, (second, second))
        assert executor.news(0) == []
    assert [end for _ in range(10) for end in executor.news(0)] != []


@needed
def test_jobs_of_a_killed_sweep_are_cancelled_and_those_of_others_are_not(
    tmp_path: Path, cluster: Cluster
) -> None:
    (task, *_) = planned(tmp_path)
    for folder in (tmp_path / "mine", tmp_path / "other"):
        OnSlurm("partition=held", folder, None, MEANS).submit(task)
    # Who has submitted nothing cancels nothing: a process that is refused, because another runs the sweep.
    OnSlurm("partition=held", tmp_path / "other", None, MEANS).close()
    assert cluster.states() == ["PENDING", "PENDING"]
    OnSlurm("partition=held", tmp_path / "mine", None, MEANS).submit(task)
    assert cluster.states() == ["CANCELLED by 0", "PENDING", "PENDING"]


@needed
def test_a_sweep_within_a_job_hands_nothing_of_it_down(
    tmp_path: Path, cluster: Cluster, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")
    OnSlurm("partition=held", tmp_path / "s", None, MEANS).submit(planned(tmp_path / "s")[0])
    assert (cluster.jobs / "1" / "inherited").read_text() == ""


@needed
def test_ctrl_c_cancels_the_jobs(tmp_path: Path, cluster: Cluster, monkeypatch: Patch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    executor = OnSlurm("partition=held", tmp_path / "s", None, MEANS)
    monkeypatch.setattr(on_slurm.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.run(sweep.parse(PART), tmp_path / "s", executor)
    assert cluster.states() == ["CANCELLED by 0"]


@needed
def test_a_fresh_sweep_leaves_nothing_of_earlier_jobs(tmp_path: Path, cluster: Cluster) -> None:
    found = sweep.parse(PART)
    out = tmp_path / "s"
    for fresh in (False, True):
        executor = OnSlurm("partition=nowhere", out, None, MEANS)
        assert len(runs.run(found, out, executor, fresh=fresh)) == len(planned(out))
        left = SweepLayout(out).slurm / "1_submitted.pkl"
        assert not left.exists()
        left.touch()


@pytest.mark.parametrize(
    ("said", "memory"),
    [
        ({"SLURM_MEM_PER_NODE": "4096"}, 2 << 30),
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_PER_TASK": "4"}, 2 << 30),
        ({}, None),
    ],
)
def test_a_job_keeps_within_its_memory(
    tmp_path: Path, monkeypatch: Patch, said: dict[str, str], memory: int | None
) -> None:
    means = []
    monkeypatch.setattr(slurm_job, "perform", lambda task, given, watch: means.append(given))
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert slurm_job.work(planned(tmp_path)[0], MEANS) == ""
    assert means[0].memory == memory if memory else means[0].memory > 0


@needed
@pytest.mark.slow
def test_a_killed_job_loses_nothing(tmp_path: Path, cluster: Cluster) -> None:
    file, there, here = tmp_path / "sweep.yaml", tmp_path / "cluster", tmp_path / "here"
    file.write_text(LONGER)
    found = sweep.tasks(sweep.grid(sweep.load(file)), SweepLayout(there))
    command = [sys.executable, "-m", "certiprune", "sweep", str(file), "--out", str(there)]
    command += ["--slurm", "partition=cpu,time=10", "--jobs", "2"]
    said, killed_after = kill_in_dense(command, found[0].folder)
    assert 3 <= killed_after < EPOCHS
    # The job that was last has said its result and may have been cancelled while it ended.
    assert len(cluster.states()) == len(found) + 1 and cluster.states().count("FAILED") == 1
    assert said.count(f"{found[0].name}: begun") == 1 and f"{len(found)} of {len(found)} tasks done" in said
    assert runs.run(sweep.load(file), here, Processes(2, MEANS)) == []
    for task in found:
        assert_equal_runs(task.folder, here / task.name)


@needed
@pytest.mark.slow
def test_a_failing_task_is_said_once_and_the_rest_go_on(tmp_path: Path, cluster: Cluster) -> None:
    dense, cell, other = planned(tmp_path / "s")
    cell.folder.mkdir(parents=True)
    (cell.folder / "experiment.yaml").write_text("mine: 1")
    (tmp_path / "s" / "sweep.yaml").write_text(sweep.config.dump(sweep.parse(PART)))
    ends = list[str]()

    def watch(board: object, news: runs.News) -> None:
        if isinstance(news, Ended):
            ends.append(news.task.name)

    executor = OnSlurm("partition=cpu", tmp_path / "s", None, MEANS)
    ((task, why),) = runs.run(sweep.parse(PART), tmp_path / "s", executor, watch=watch)
    assert task.name == cell.name and "belongs to no run here" in why
    assert sorted(ends) == sorted([dense.name, cell.name, other.name])
    assert len(cluster.scripts()) == 3
