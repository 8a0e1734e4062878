"""Tasks on a Ray cluster (extra ``ray``). The sweep's folder must lie on storage that all nodes see.

Each task is a Ray task that reserves as many CPUs as it has threads, and a GPU where its device is one. Where a worker
or a node dies, Ray runs its task again elsewhere, and that goes on with what is committed.
"""

from __future__ import annotations

import contextlib
import importlib
from importlib.util import find_spec
from typing import Any, cast

from certiprune.core.errors import InputError
from certiprune.experiment.events import Event
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.perform import Means, perform, reason, shared
from certiprune.experiment.sweep.plan import Task

RETRIES = 5
"""How often a task is run again whose worker has died."""


class OnRay:
    """Tasks on the cluster at ``address`` (as for ``ray.init``), up to ``jobs`` at a time. See ``Executor``."""

    def __init__(self, address: str, jobs: int | None, means: Means) -> None:
        """Connect to the cluster.

        Raises:
            InputError: Ray is not installed, there is no cluster, or no node of it has as many CPUs as a task needs.
        """
        if find_spec("ray") is None:
            raise InputError("Ray is not installed; install certiprune[ray]")
        # Untyped, so that types are checked in the same way with and without it.
        self._ray = ray = cast(Any, importlib.import_module("ray"))
        self._jobs, self._means = jobs, means
        self._running: dict[Any, Task] = {}
        self._refused: list[Told | Ended] = []
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster at {address}: {' '.join(str(error).split())}") from error
        most = self._most("CPU")
        if most < means.threads:
            raise InputError(f"--threads {means.threads}: no node of the cluster has more than {most:g} CPUs")
        self._perform = ray.remote(num_cpus=means.threads, max_retries=RETRIES)(_perform)
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(_News).remote()

    def room(self) -> bool:
        # Nodes may join and leave. What is beyond them would only wait in Ray in the place of waiting here.
        fit = max(1, int(self._ray.cluster_resources().get("CPU", 0) // self._means.threads))
        return len(self._running) < (fit if self._jobs is None else min(fit, self._jobs))

    def submit(self, task: Task) -> None:
        # Ray hides every GPU from tasks that reserve none.
        gpus = int(task.experiment.device.startswith("cuda"))
        if self._most("GPU") < gpus:
            # Ray would wait for one without a word.
            self._refused.append(
                Ended(task, f"device {task.experiment.device}: no node of the cluster has a GPU")
            )
            return
        reference = self._perform.options(num_gpus=gpus).remote(task, self._means, self._board)
        self._running[reference] = task

    def news(self, seconds: float) -> list[Told | Ended]:
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        names = {task.name: task for task in self._running.values()}
        found: list[Told | Ended] = []
        # The news are lost if the actor's node dies.
        with contextlib.suppress(self._ray.exceptions.RayError):
            told = self._ray.get(self._board.take.remote(), timeout=seconds)
            found += [Told(names[name], event) for name, event in told if name in names]
        return found + [self._ended(reference) for reference in ended]

    def _most(self, resource: str) -> float:
        """What the node with the most of it has, busy or not."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return max((float(node.get(resource, 0)) for node in nodes), default=0.0)

    def _ended(self, reference: Any) -> Ended:
        task = self._running.pop(reference)
        try:
            return Ended(task, self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            return Ended(task, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")

    def close(self) -> None:
        # Ends the tasks of this connection, and only these.
        self._ray.shutdown()


class _News:
    """Events on their way to the sweep; an actor."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []

    def put(self, name: str, event: Event) -> None:
        self._events.append((name, event))

    def take(self) -> list[tuple[str, Event]]:
        events, self._events = self._events, []
        return events


def _perform(task: Task, means: Means, board: Any) -> str:
    """Runs on a node; returns why the task is not done, or nothing."""
    try:
        perform(task, shared(means), lambda event: board.put.remote(task.name, event))
    except Exception as error:
        return reason(error)
    return ""
