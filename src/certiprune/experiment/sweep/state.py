"""How far each run of a sweep is, by what its records say and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from certiprune.core.errors import CertipruneError
from certiprune.experiment.sweep.plan import Task
from certiprune.store import Records, RunLayout


@dataclass(frozen=True)
class Found:
    """What the records of a task's run say.

    Attributes:
        seconds: of each stage that is committed, by name.
        threads: how many the run was begun with; None where it has not begun.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    threads: int | None = None


def find(task: Task) -> Found:
    """What is there of ``task``: nothing where its folder holds no run, a damaged one, or that of another experiment.

    What is wrong with a folder is said by the task when it is run.
    """
    path = RunLayout(task.folder).records
    if not path.is_file():
        return Found()
    try:
        with Records.open(path, read_only=True) as records:
            meta = records.meta()
            if meta.get("digest") != task.experiment.digest():
                return Found()
            return Found({row.name: row.seconds for row in records.stages()}, meta["environment"]["threads"])
    except CertipruneError:
        return Found()
