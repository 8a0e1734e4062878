"""``certiprune sweep``: many experiments as one job."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certiprune.cli.interrupt import on_interrupt
from certiprune.cli.report import sweep_page
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.experiment.sweep import Sweep
    from certiprune.experiment.sweep.executors.base import Executor


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The sweep, a YAML file (docs/sweeps.md).")],
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; by default runs/NAME.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Tasks at a time: 1 by default, with --ray as many as fit, with --slurm all."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads of each job: by default the cores shared between all; with --ray or --slurm 1."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where the datasets' files are.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: remove what an earlier sweep left in the folder.")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--stop", help="Begin other tasks after one has failed, or do not.")
    ] = True,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Run on a Ray cluster, such as auto; the folder must be shared."
        ),
    ] = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            metavar="OPTIONS",
            help="Run as jobs of Slurm with these options, such as partition=cpu,time=240; the folder must be shared.",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only list what there is to do.")] = False,
) -> None:
    """Run every training with every pruning and every seed of a sweep file, or go on where that was interrupted.

    Cells share their dense networks. Each cell is an ordinary run with a page of its own, and the sweep has one over
    all of them. What failed is said at the end, with status 1, and is tried again by the same command.

    \b
    Example:
      certiprune sweep sweep.yaml --out runs/sweep --jobs 4
    """
    for name, number in (("--jobs", jobs), ("--threads", threads)):
        if number is not None and number < 1:
            raise InputError(f"{name} {number} must be at least 1")
    if ray is not None and slurm is not None:
        raise InputError("--ray and --slurm cannot be given together; leave one out")
    from certiprune.experiment.sweep import config

    found, folder = config.load(file), out or Path("runs") / file.stem
    if plan:
        print("\n".join(_plan(found, folder, str(file))))  # noqa: T201
        return
    from certiprune.cli.sweep_view import View
    from certiprune.experiment.sweep import run as runs

    executor = _executor(folder, jobs, threads, None if data is None else data.absolute(), ray, slurm)
    again = _again(file, folder, jobs=jobs, threads=threads, data=data, ray=ray, slurm=slurm)
    with on_interrupt(f"what is finished is kept; go on with: {again}"), View() as view:
        failures = runs.run(
            found,
            folder,
            executor,
            watch=view.show,
            fresh=fresh,
            threads=threads,
            keep_going=keep_going,
            name=str(file),
        )
    try:
        print(f"The report: {sweep_page(folder)}")  # noqa: T201
    except InputError as error:
        if not failures:
            raise
        # Where everything failed there is nothing to report, and the failures say why.
        print(f"certiprune: no report: {error}", file=sys.stderr)  # noqa: T201
    for task, reason in failures:
        print(f"certiprune: failed: {task.name}: {reason}", file=sys.stderr)  # noqa: T201
    if failures:
        print("certiprune: the same command (without --fresh) tries again what failed", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1)


def _executor(
    folder: Path,
    jobs: int | None,
    threads: int | None,
    data: Path | None,
    ray: str | None,
    slurm: str | None,
) -> Executor:
    from certiprune.experiment.sweep.perform import Means

    if ray is not None:
        from certiprune.experiment.sweep.executors.on_ray import OnRay

        return OnRay(ray, jobs, Means(threads or 1, data))
    if slurm is not None:
        from certiprune.experiment.sweep.executors.on_slurm import OnSlurm

        return OnSlurm(slurm, folder, jobs, Means(threads or 1, data))
    from certiprune.cli.machine import cores
    from certiprune.core.memory import allowance
    from certiprune.experiment.sweep.executors.local import Processes

    jobs = jobs or 1
    # Each job would take the same free memory for its own.
    memory = None if jobs == 1 else allowance(None, elsewhere=True) // jobs
    return Processes(jobs, Means(threads or max(1, cores() // jobs), data, memory))


def _again(file: Path, folder: Path, **options: object) -> str:
    """The command that goes on with what this one has begun."""
    words = ["certiprune", "sweep", str(file), "--out", str(folder)]
    for name, value in options.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _plan(found: Sweep, folder: Path, name: str) -> list[str]:
    """A line a task: what it is, what it waits for, and how far it is."""
    from certiprune.experiment import pipeline
    from certiprune.experiment.sweep import grid, state, tasks
    from certiprune.store import SweepLayout

    planned = grid(found, name=name)
    todo = tasks(planned, SweepLayout(folder))
    dense = sum(task.needs is None for task in todo)
    width = max(len(task.name) for task in todo)
    lines = [f"{len(planned)} cells, {dense} dense networks, {len(todo)} tasks"]
    for task in todo:
        stages = [stage.name for stage in pipeline.stages(task.experiment)]
        done = sum(stage in state.find(task).seconds for stage in stages)
        after = f", after {task.needs}" if task.needs else ""
        lines.append(f"{task.name:{width}}  {done} of {len(stages)} stages done; {task.text}{after}")
    return lines
