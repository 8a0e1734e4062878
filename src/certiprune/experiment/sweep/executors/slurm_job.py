"""What a job of Slurm does, on its node."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from certiprune.experiment.events import unwatched
from certiprune.experiment.sweep.perform import Means, perform, reason, shared
from certiprune.experiment.sweep.plan import Task


def work(task: Task, means: Means) -> str:
    """Returns why the task is not done, or nothing."""
    # Told to end it ends, for what is done is committed. submitit would go on, or make a failure of it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        perform(task, shared(replace(means, memory=means.memory or _memory(means.threads))), unwatched)
    except Exception as error:
        return reason(error)
    return ""


def _memory(threads: int) -> int | None:
    """Half of what Slurm says that the job has, in bytes; the rest is for torch and for training."""
    said = os.environ
    each = int(said.get("SLURM_MEM_PER_CPU", 0)) * int(said.get("SLURM_CPUS_PER_TASK", threads))
    return (int(said.get("SLURM_MEM_PER_NODE", 0)) or each) * (1 << 19) or None
