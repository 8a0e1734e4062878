"""``certiprune verify``: verdicts on a file of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certiprune.cli.interrupt import on_interrupt
from certiprune.cli.words import same_file
from certiprune.core.epsilon import parse_epsilon
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.cli.rows import Row, Table
    from certiprune.verify.outcome import Outcome


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
        Path | None,
        typer.Option(
            "--csv", help="Write a row per image as it is decided; go on with the rows that are there."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: forget the rows that are there.")
    ] = False,
    retry_unknown: Annotated[
        bool, typer.Option("--retry-unknown", help="Decide again what the rows that are there call unknown.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Annotated[int, typer.Option(help="Worker processes that share the images.")] = 1,
    threads: Annotated[int | None, typer.Option(help="CPU threads, of all jobs together.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory for the search, of all jobs together: 4G, 800M, or 60% of what is free."),
    ] = None,
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
    if csv_file is None and (fresh or retry_unknown):
        raise InputError(
            f"{'--fresh' if fresh else '--retry-unknown'} is about the rows of --csv FILE: name it"
        )
    if csv_file is not None and (same_file(csv_file, model) or same_file(csv_file, images)):
        raise InputError(f"--csv {csv_file} is what is asked about; name another file")
    if not model.exists():
        raise InputError(f"{model}: no such model file; give an ONNX file or a checkpoint (.safetensors)")
    from certiprune.cli.machine import shares

    shares(jobs, threads, memory)
    from certiprune.cli import images as files
    from certiprune.cli.jobs import Work, alone, shared
    from certiprune.cli.question import question
    from certiprune.cli.rows import table

    given = files.read(images)
    chosen = given.cut(start, end)
    if radius is None and chosen.eps is None:
        raise InputError(f"{images} holds no eps: give --eps, such as --eps 2/255")
    numbers = range(start, start + len(chosen.x))
    with (
        on_interrupt(_kept(csv_file)),
        table(
            csv_file,
            lambda: question(model, given, radius),
            fresh=fresh,
            forget=lambda row: retry_unknown and row.verdict == "unknown" and row.index in numbers,
        ) as rows,
    ):
        left = [number for number in numbers if number not in rows.before]
        before = [rows.before[number] for number in numbers if number in rows.before]
        workers = min(jobs, len(left))
        share = shares(max(1, workers), threads, memory)
        work = Work(model, images, numbers.start, numbers.stop, radius, timeout, nodes, device, share)
        # With nothing left to do the model is not even loaded.
        found = alone(work, chosen, left) if left and workers == 1 else shared(work, left, workers)
        with closing(found):
            decided = _watch(found, before, len(numbers), rows, csv_file)
    print("\n".join(summary(decided)))  # noqa: T201


def _kept(csv_file: Path | None) -> str:
    if csv_file is None:
        return "with --csv FILE what is decided is kept"
    return f"the rows decided so far are in {csv_file}; the same command (without --fresh) goes on"


def _watch(
    found: Iterator[Row], before: Sequence[Row], count: int, rows: Table, csv_file: Path | None
) -> list[Row]:
    """Write and show what is found; returns it behind what was decided before."""
    from certiprune.cli.progress import Meter

    decided = list(before)
    with Meter() as meter:
        if before:
            unknown = sum(row.verdict == "unknown" for row in before)
            again = f" ({unknown} unknown; --retry-unknown decides them again)" if unknown else ""
            left = count - len(before)
            then = f"going on with {left}" if left else "nothing is left to do"
            meter.line(f"{csv_file} holds {len(before)} of the {count} images{again}; {then}")
        meter.update("verify", len(decided), count, _certified(decided))
        for row in found:
            rows.write(row)
            decided.append(row)
            meter.update("verify", len(decided), count, _certified(decided))
    return decided


def _certified(decided: Sequence[Row]) -> str:
    return f"{sum(row.verdict == 'certified' for row in decided)} certified" if decided else ""


def summary(decided: Sequence[Row | Outcome]) -> list[str]:
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
