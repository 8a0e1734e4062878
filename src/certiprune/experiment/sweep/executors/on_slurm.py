"""Tasks as jobs of Slurm (extra ``slurm``). The sweep's folder must lie on storage that all nodes see.

A job that dies (killed, out of time, its node lost) is submitted again, and goes on with what is committed. There is
no news of a job before its end.
"""

from __future__ import annotations

import getpass
import hashlib
import importlib
import os
import re
import subprocess
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from certiprune.core.errors import InputError, hint
from certiprune.experiment.sweep.executors import slurm_job
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.perform import Means
from certiprune.experiment.sweep.plan import Task
from certiprune.store import RunLayout, SweepLayout

RETRIES = 3
"""After how many more jobs that die with nothing committed a task is given up."""
# Of submitit's, those of one word that leave a job one process on one node.
_OPTIONS = [
    *("partition", "time", "account", "qos", "mem", "mem_per_cpu", "mem_per_gpu", "cpus_per_task", "gres"),
    *("constraint", "exclude", "nodelist", "exclusive", "mail_type", "mail_user", "wckey"),
]


class OnSlurm:
    """Tasks as jobs with ``options`` such as ``partition=cpu,time=240``, up to ``jobs`` at a time. See ``Executor``."""

    def __init__(self, options: str, folder: Path, jobs: int | None, means: Means) -> None:
        """Find Slurm. ``folder`` is the sweep's; nothing is written to it before the first task.

        Raises:
            InputError: submitit is not installed, an option is wrong, or there is no Slurm.
        """
        if find_spec("submitit") is None:
            raise InputError("submitit is not installed; install certiprune[slurm]")
        # Untyped, so that types are checked in the same way with and without it.
        self._submitit = cast(Any, importlib.import_module("submitit"))
        # Without a time the partition's own holds, in the place of submitit's five minutes.
        given: dict[str, Any] = {"time": None, "cpus_per_task": means.threads} | _parsed(options)
        layout = SweepLayout(folder.absolute())
        try:
            self._executor = self._submitit.SlurmExecutor(layout.slurm)
        except RuntimeError as error:
            raise InputError("there is no Slurm here (no srun); give the command where there is") from error
        # By their name jobs are found that a killed process has left, too.
        name = f"certiprune-{hashlib.sha256(str(layout.root.resolve()).encode()).hexdigest()[:12]}"
        # Recent versions of srun do not take the number of CPUs over from sbatch.
        cpus = f"--cpus-per-task={given['cpus_per_task']}"
        self._executor.update_parameters(**given, job_name=name, srun_args=[cpus])
        self._jobs, self._means, self._gres = jobs, means, given.get("gres")
        self._all, self._begun = (f"--user={getpass.getuser()}", f"--name={name}"), False
        # Of each job its task, when that had last committed something, and how many have died since.
        self._running: dict[Any, tuple[Task, int, int]] = {}
        self._refused: list[Told | Ended] = []

    def room(self) -> bool:
        return self._jobs is None or len(self._running) < self._jobs

    def submit(self, task: Task) -> None:
        if not self._begun:
            # The sweep's folder is ours now, so that who submitted these jobs runs no more.
            _cancel(*self._all)
            self._begun = True
        self._submit(task, died=0)

    def _submit(self, task: Task, died: int) -> None:
        gpu = "gpu:1" if task.experiment.device.startswith("cuda") else None
        self._executor.update_parameters(gres=self._gres or gpu)
        # A job that submits jobs would hand its own settings down to them.
        inside, committed = "SLURM_JOB_ID" in os.environ, _committed(task)
        try:
            with self._submitit.helpers.clean_env() if inside else nullcontext():
                job = self._executor.submit(slurm_job.work, task, self._means)
        except RuntimeError as error:
            self._refused.append(Ended(task, f"not submitted: {' '.join(str(error).split())}"))
        else:
            self._running[job] = (task, committed, died)

    def news(self, seconds: float) -> list[Told | Ended]:
        # Slurm tells nobody anything.
        time.sleep(seconds)
        found = list[Told | Ended]()
        for job in list(self._running):
            # A preempted job may never come back, and submitit would wait for it.
            if (preempted := job.state == "PREEMPTED") or job.done():
                found += self._after(job, *self._running.pop(job), preempted)
        found, self._refused = found + self._refused, []
        return found

    def _after(self, job: Any, task: Task, committed: int, died: int, preempted: bool) -> list[Told | Ended]:
        """What there is to say of a job that runs no more; nothing where its task is submitted again."""
        errors, log = self._submitit.core.utils, job.paths.stderr
        try:
            if not preempted:
                return [Ended(task, job.result())]
        except errors.FailedJobError:
            return [Ended(task, f"its job {job.job_id} could not do it; see {log}")]
        except errors.UncompletedJobError:
            pass
        died = died + 1 if _committed(task) == committed else 0
        if died > RETRIES or job.state.startswith("CANCELLED"):
            return [Ended(task, f"its job {job.job_id} ended as {job.state}; see {log}")]
        # Slurm may begin it again by itself.
        _cancel(job.job_id)
        self._submit(task, died)
        return []

    def close(self) -> None:
        if self._begun:
            _cancel(*self._all)


def _parsed(options: str) -> dict[str, str]:
    found = dict[str, str]()
    # Values may hold commas, too: partition=a,b
    for word in re.split(r",(?=[\w-]+=)", options):
        key, _, value = (part.strip() for part in word.partition("="))
        if not key or not value:
            raise InputError(f"--slurm {options!r} must be options of sbatch such as partition=cpu,time=240")
        if (name := key.replace("-", "_")) not in _OPTIONS:
            raise InputError(f"--slurm: {key} cannot be given; {hint(name, _OPTIONS)}")
        found[name] = value
    return found


def _cancel(*which: str) -> None:
    # It complains of jobs that have ended.
    subprocess.run(["scancel", *which], capture_output=True, check=False)


def _committed(task: Task) -> int:
    """When the task's run has last committed something."""
    records = RunLayout(task.folder).records
    return records.stat().st_mtime_ns if records.is_file() else 0
