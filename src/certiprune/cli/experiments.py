"""``certiprune demo``, ``run`` and ``train``: experiments, whole or in part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certiprune.cli.interrupt import on_interrupt
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.experiment.events import Event

Source = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="A YAML file, or a preset such as demo, fashion-mini or mnist-0.3/ibp (`certiprune presets` lists them).",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start over: remove what an earlier run left in the folder.")
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Where the dataset's files are.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Board = Annotated[
    bool,
    typer.Option("--tensorboard", help="Also write the metrics of training for TensorBoard, in the folder."),
]


def demo(
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("demo-run"),
    fresh: Fresh = False,
    # More threads would not speed up networks so small, and one gives the same numbers whatever the cores are.
    threads: Threads = 1,
) -> None:
    """Train a small network on handwritten digits, prune it twice, verify each network and write a report.

    Takes under two minutes on two cores.

    \b
    Example:
      certiprune demo --out demo-run
    """
    _run("demo", out, fresh, None, threads, f"certiprune demo --out {out}")


def run(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default runs/NAME.")] = None,
    fresh: Fresh = False,
    data: DataFolder = None,
    threads: Threads = None,
    tensorboard: Board = False,
) -> None:
    """Run an experiment, or go on with one that was interrupted: train, prune, verify, report.

    \b
    Example:
      certiprune run fashion-mini --out runs/fashion-mini
    """
    folder = _folder(source, out)
    again = f"certiprune run {source} --out {folder}{' --tensorboard' if tensorboard else ''}"
    _run(source, folder, fresh, data, threads, again, tensorboard)


def train(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default runs/NAME.")] = None,
    fresh: Fresh = False,
    data: DataFolder = None,
    threads: Threads = None,
    tensorboard: Board = False,
) -> None:
    """Train the dense network of an experiment and stop there; `run` with the same folder goes on from it.

    \b
    Example:
      certiprune train demo --out runs/demo
    """
    folder = _folder(source, out)
    from certiprune.experiment import load, pipeline
    from certiprune.store import DENSE, RunLayout

    experiment = load.load(source)
    _watched(
        lambda watch: pipeline.run(
            experiment,
            folder,
            progress=watch,
            fresh=fresh,
            data_folder=data,
            threads=threads,
            until=f"{DENSE}/0/train",
            tensorboard=tensorboard,
        ),
        f"certiprune train {source} --out {folder}{' --tensorboard' if tensorboard else ''}",
    )
    print(RunLayout(folder).round(DENSE, 0).model)  # noqa: T201


def _folder(source: str, out: Path | None) -> Path:
    if not source.strip():
        raise InputError("name an experiment: a YAML file or a preset")
    if out is not None:
        return out
    from certiprune.experiment import presets

    preset = source in presets.names() and not Path(source).is_file()
    return Path("runs") / (source if preset else Path(source).stem)


def _run(
    source: str,
    out: Path,
    fresh: bool,
    data: Path | None,
    threads: int | None,
    again: str,
    tensorboard: bool = False,
) -> None:
    from certiprune.experiment import load, pipeline

    experiment = load.load(source)
    _watched(
        lambda watch: pipeline.run(
            experiment,
            out,
            progress=watch,
            fresh=fresh,
            data_folder=data,
            threads=threads,
            tensorboard=tensorboard,
        ),
        again,
    )
    from certiprune import report
    from certiprune.cli.rounds import table

    page = report.write(out)
    print("\n".join(table(out)))  # noqa: T201
    print(f"The report: {page}")  # noqa: T201


def _watched(work: Callable[[Callable[[Event], None]], object], again: str) -> None:
    """Do ``work`` with its progress shown; Ctrl-C says how to go on."""
    from certiprune.cli.progress import Meter

    with on_interrupt(f"what is finished is kept; go on with: {again}"), Meter() as meter:

        def watch(event: Event) -> None:
            if event.skipped:
                meter.line(f"{event.stage}: done before")
            else:
                meter.update(event.stage, event.done, event.total, event.text)

        work(watch)
