"""``certiprune verify``: verdicts on a file of images."""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from certiprune.cli.interrupt import on_interrupt
from certiprune.core.epsilon import parse_epsilon
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.verify.outcome import Outcome

Write = Callable[["Outcome"], None]
COLUMNS = ("index", "label", "predicted", "verdict", "reason", "stage", "lower", "nodes", "seconds")


def verify(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="An ONNX file, or a checkpoint of certiprune's own.")
    ],
    images: Annotated[
        Path, typer.Option(help="An .npz file: x [n, c, h, w] in [0, 1], y [n], eps if wanted.")
    ],
    eps: Annotated[str | None, typer.Option(help="Radius in input units, such as 0.1 or 2/255.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one image may take.")] = 300.0,
    nodes: Annotated[int | None, typer.Option(help="Subproblems that one image may take.")] = None,
    start: Annotated[int, typer.Option(help="The first image, counted from 0.")] = 0,
    end: Annotated[int | None, typer.Option(help="The image after the last.")] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a row per image as it is decided.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
) -> None:
    """Decide for each image whether any change of its pixels by up to eps changes the model's answer.

    "certified" is a proof, "falsified" comes with a counterexample that was run through the model,
    "misclassified" needs no change at all, and "unknown" says what ran out.

    \b
    Example:
      certiprune verify model.onnx --images images.npz --eps 2/255 --csv verdicts.csv
    """
    # Everything that can be wrong without the model is looked at before the slow imports.
    radius = None if eps is None else parse_epsilon(eps)
    if not timeout > 0:
        raise InputError(f"--timeout {timeout:g} must be a number of seconds above 0")
    if not model.exists():
        raise InputError(f"{model}: no such model file; give an ONNX file or a checkpoint (.safetensors)")
    from certiprune.cli import images as files

    chosen = files.read(images).cut(start, end)
    if radius is None and chosen.eps is None:
        raise InputError(f"{images} holds no eps: give --eps, such as --eps 2/255")
    from certiprune import api
    from certiprune.cli.machine import use_threads

    use_threads(threads)
    found = api.outcomes(
        model,
        chosen.x,
        chosen.y,
        eps=chosen.eps if radius is None else radius,  # type: ignore[arg-type]
        timeout=timeout,
        nodes=nodes,
        device=device,
        indices=range(start, start + len(chosen.x)),
    )
    kept = (
        f"the rows decided so far are in {csv_file}"
        if csv_file
        else "with --csv FILE what is decided is kept"
    )
    with on_interrupt(kept), _rows(csv_file) as write:
        decided = _watch(found, len(chosen.x), write)
    print("\n".join(summary(decided)))  # noqa: T201


def _watch(found: Iterator[Outcome], count: int, write: Write) -> list[Outcome]:
    from certiprune.cli.progress import Meter

    decided: list[Outcome] = []
    with Meter() as meter:
        meter.update("verify", 0, count)
        for outcome in found:
            write(outcome)
            decided.append(outcome)
            certified = sum(o.verdict == "certified" for o in decided)
            meter.update("verify", len(decided), count, f"{certified} certified")
    return decided


@contextlib.contextmanager
def _rows(path: Path | None) -> Iterator[Write]:
    """A function that writes an outcome to ``path`` and flushes it, or that does nothing."""
    if path is None:
        yield _no_row
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        yield _row_writer(file)


def _no_row(outcome: Outcome) -> None:
    del outcome


def _row_writer(file: TextIO) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    file.flush()

    def write(outcome: Outcome) -> None:
        values = {name: getattr(outcome, name) for name in COLUMNS} | {"seconds": f"{outcome.seconds:.4f}"}
        writer.writerow([str(values[name]) for name in COLUMNS])
        file.flush()

    return write


def summary(decided: Sequence[Outcome]) -> list[str]:
    """What was found, a line each; certified accuracy from below and, counting the unknown, from above."""
    count = len(decided)
    verdicts = Counter(str(outcome.verdict) for outcome in decided)
    reasons = Counter(str(outcome.reason) for outcome in decided if outcome.reason)
    lines = [f"{count} images, {sum(outcome.seconds for outcome in decided):.1f} s"]
    for verdict in ("certified", "falsified", "misclassified", "unknown"):
        why = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
        lines.append(
            f"{verdict:>14} {verdicts[verdict]}{f'  ({why})' if verdict == 'unknown' and why else ''}"
        )
    low = verdicts["certified"] / count
    high = low + verdicts["unknown"] / count
    exact = verdicts["unknown"] == 0
    lines.append(
        f"certified accuracy {low:.1%}" if exact else f"certified accuracy between {low:.1%} and {high:.1%}"
    )
    return lines
