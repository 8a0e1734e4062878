"""The study's figures of a sweep: methods beside each other, means over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from certiprune.report import canvas, overtime
from certiprune.report.statistics import AnyTime, OverSeeds, anytime
from certiprune.report.summary import Round
from certiprune.report.sweep.summary import Block, Branch, Method
from certiprune.report.sweep.table import Row

Value = Callable[[Row], OverSeeds | None]


def by_round(block: Block, title: str, value: Value, label: str) -> str | None:
    """A measure against the round, a line for each method, from the dense network that it began with."""
    lines = [(m, [(float(row.number), found) for row, found in points(m, value)]) for m in block.pruned]
    if not any(found for _, found in lines):
        return None
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, 3.1)
        _lines(axes, lines)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("round (0: dense)")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        return _finished(figure, axes, block, title)


def by_sparsity(block: Block, title: str, value: Value) -> str | None:
    """A share of the images against what is left, a line for each method; bars are Student's intervals over seeds."""
    lines = [
        (m, [(100 * row.remaining.mean, found) for row, found in points(m, value)]) for m in block.pruned
    ]
    if not any(found for _, found in lines):
        return None
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, 3.1)
        _lines(axes, lines, factor=100)
        networks = [r for method in block.pruned for branch in method.branches for r in branch.rounds]
        canvas.sparsity_axis(axes, networks)
        axes.set_ylim(0, 103)
        axes.set_ylabel("% of test images")
        return _finished(figure, axes, block, title)


def over_time(block: Block, rows: Sequence[Row]) -> str | None:
    """The dense networks and each method's chosen one by the time limit, the answers of all seeds together."""
    found = {row.method.name: curve for row in rows if (curve := _pooled(row.networks))}
    limits = [branch.summary.limit for row in rows for branch in row.method.branches]
    known = [limit for limit in limits if limit is not None]
    title = f"{block.training}: certified by time limit"
    return overtime.figure(title, found, max(known) if known else None)


def share(key: str) -> Value:
    """The mean over seeds of a row's share of images."""
    return lambda row: None if getattr(row, key) is None else getattr(row, key).seeds


def points(method: Method, value: Value) -> list[tuple[Row, OverSeeds]]:
    """A method's line: only rounds whose value every seed has, or the line would move with who is in the mean."""
    measured = [(row, value(row)) for row in _rows(method)]
    return [(row, found) for row, found in measured if found and found.seeds == len(method.branches)]


def path(branch: Branch) -> tuple[Round, ...]:
    """A seed's networks from the dense one on."""
    return branch.rounds if branch.dense is None else (branch.dense, *branch.rounds)


def _rows(method: Method) -> list[Row]:
    """The method's rows of every round, the dense network that its own runs began with first."""
    numbers = sorted({r.number for branch in method.branches for r in branch.rounds})
    start = tuple(branch.dense for branch in method.branches if branch.dense is not None)
    first = [Row(method, 0, None, start)] if start else []
    return first + [Row(method, number, None, tuple(method.at(number))) for number in numbers]


def _lines(
    axes: Axes, lines: Sequence[tuple[Method, list[tuple[float, OverSeeds]]]], factor: float = 1.0
) -> None:
    for number, (method, each) in enumerate(lines):
        x, y = [at for at, _ in each], [factor * found.mean for _, found in each]
        look = canvas.look(number)
        axes.plot(x, y, label=method.name, markeredgecolor="white", markeredgewidth=0.8, **look)  # type: ignore[arg-type]
        ends = [found.interval or (found.mean, found.mean) for _, found in each]
        if any(high > low for low, high in ends):
            spread = [factor * (high - low) / 2 for low, high in ends]
            axes.errorbar(x, y, spread, fmt="none", ecolor=look["color"], elinewidth=1, capsize=2, alpha=0.5)


def _finished(figure: Figure, axes: Axes, block: Block, title: str) -> str:
    axes.set_title(f"{block.training}: {title}")
    canvas.legend(figure, axes, columns=4)
    return canvas.svg(
        figure, f"{block.training} {title}", f"{title} of every method, training {block.training}"
    )


def _pooled(networks: Sequence[Round]) -> AnyTime | None:
    outcomes = [outcome for r in networks if r.complete for outcome in r.outcomes]
    return anytime(outcomes) if outcomes else None
