"""The report's figures, as SVG text to put into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from certiprune.report import canvas
from certiprune.report.canvas import INK
from certiprune.report.statistics import Proportion
from certiprune.report.summary import Round
from certiprune.store.rows import LayerRow
from certiprune.verify.outcome import Stage, Verdict

MEASURES = {"standard": "#5b6675", "pgd": "#e69f00", "upper": "#56b4e9", "certified": "#0072b2"}
VERDICTS = {
    Verdict.CERTIFIED: "#0072b2",
    Verdict.UNKNOWN: "#c3cbd6",
    Verdict.FALSIFIED: "#d55e00",
    Verdict.MISCLASSIFIED: "#4a5260",
}
STAGES = {
    Stage.CLEAN: "#4a5260",
    Stage.INTERVAL: "#b9dcf2",
    Stage.CROWN: "#56b4e9",
    Stage.ATTACK: "#d55e00",
    Stage.ALPHA: "#009e73",
    Stage.BRANCHING: "#0072b2",
    Stage.LEAF: "#cc79a7",
}
# More rounds than this leave no room for a number in each cell or bar.
_ROOM = 10


def measures(name: str, rounds: Sequence[Round]) -> str:
    """One ladder's accuracies against the weights left; between certified and upper lies what is unknown."""
    with canvas.style():
        figure, axes = canvas.new(canvas.WIDE, 3.1)
        for key, colour in MEASURES.items():
            label, line = ("PGD" if key == "pgd" else key), ("--" if key == "upper" else "-")
            _curve(axes, rounds, key, color=colour, marker="o", label=label, linestyle=line)
        sides = [(100 * r.remaining, r.certified, r.upper) for r in rounds]
        band = [(x, 100 * low.value, 100 * high.value) for x, low, high in sides if low and high]
        look: Any = {"color": MEASURES["upper"], "alpha": 0.22, "linewidth": 0, "label": "unknown"}
        axes.fill_between(
            [x for x, _, _ in band], [low for _, low, _ in band], [high for _, _, high in band], **look
        )
        canvas.sparsity_axis(axes, rounds)
        canvas.percent_axis(axes, 103)
        axes.set_title(f"{name}: all measures")
        canvas.legend(figure, axes, columns=5)
        return canvas.svg(figure, f"measures {name}", f"Accuracies of ladder {name} against the weights left")


def comparison(key: str, title: str, ladders: Mapping[str, Sequence[Round]]) -> str:
    """One accuracy (``standard``, ``pgd``, ``certified``) of every ladder, with 95 % intervals."""
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, 2.9)
        for number, (name, rounds) in enumerate(ladders.items()):
            _curve(axes, rounds, key, intervals=True, label=name, **canvas.look(number))
        canvas.sparsity_axis(axes, [r for rounds in ladders.values() for r in rounds])
        canvas.percent_axis(axes)
        axes.set_title(title)
        canvas.legend(figure, axes, columns=4)
        return canvas.svg(figure, f"comparison {key}", f"{title} of every ladder against the weights left")


def stacks(kind: str, title: str, rounds: Sequence[Round]) -> str:
    """Bars of one ladder's rounds: the images by what was found (``verdict``) or what decided (``stage``)."""
    colours: Mapping[Any, str] = VERDICTS if kind == "verdict" else STAGES
    most = max(len(r.outcomes) for r in rounds)
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, canvas.bars_height(rounds))
        left = np.zeros(len(rounds))
        for key, colour in colours.items():
            counts = np.array([sum(getattr(o, kind) == key for o in r.outcomes) for r in rounds])
            if counts.any():
                bars = axes.barh(
                    range(len(rounds)), counts, left=left, color=colour, height=0.72, label=key.value
                )
                texts = [str(n) if n >= 0.06 * most and len(rounds) <= _ROOM else "" for n in counts]
                ink = "white" if _dark(colour) else INK
                axes.bar_label(bars, texts, label_type="center", fontsize=7.5, color=ink)
            left += counts
        canvas.round_axis(axes, rounds, integer=True)
        axes.set_xlabel("test images")
        axes.set_title(title)
        canvas.legend(figure, axes, columns=4)
        return canvas.svg(figure, f"{kind} {title}", title)


def cost(kind: str, title: str, rounds: Sequence[Round]) -> str:
    """Bars of one ladder's complete rounds: mean ``seconds`` or ``nodes`` an image, the median as a tick."""
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, canvas.bars_height(rounds))
        found = [(y, *getattr(r, kind), len(r.outcomes)) for y, r in enumerate(rounds) if r.complete]
        at = [y for y, *_ in found]
        means, medians = (
            [total / images for _, total, _, images in found],
            [middle for _, _, middle, _ in found],
        )
        axes.barh(at, means, color="#9ecae8", height=0.72, label="mean")
        axes.plot(medians, at, "|", color=INK, markersize=11, markeredgewidth=2, label="median")
        canvas.round_axis(axes, rounds, integer=False)
        axes.set_xlim(left=-0.01 * max([*means, *medians, 1e-9]))
        axes.set_xlabel("seconds an image" if kind == "seconds" else "subproblems an image")
        axes.set_title(title)
        canvas.legend(figure, axes, columns=2)
        return canvas.svg(figure, f"{kind} {title}", title)


def heat(kind: str, title: str, rounds: Sequence[Round]) -> str | None:
    """A ladder's layers (rows) against its rounds: ``weights`` kept or ``relu`` unstable, in per cent.

    Returns None where no round has such layers.
    """
    layers = [[layer for layer in r.layers if layer.kind == kind] for r in rounds]
    names = sorted({_key(layer) for column in layers for layer in column})
    if not names:
        return None
    grid = np.full((len(names), len(rounds)), np.nan)
    for number, column in enumerate(layers):
        for layer in column:
            grid[names.index(_key(layer)), number] = 100 * layer.kept / max(layer.total, 1)
    with canvas.style():
        figure, axes = canvas.new(
            canvas.WIDE, (0.9 if len(rounds) <= _ROOM else 1.1) + 0.3 * max(len(names), 3)
        )
        look: Any = {"cmap": canvas.HEAT, "vmin": 0, "vmax": 100, "edgecolors": "white", "linewidth": 1.5}
        axes.pcolormesh(np.ma.masked_invalid(grid), **look)
        if len(rounds) <= _ROOM:
            _cell_texts(axes, grid)
        axes.set_yticks(np.arange(len(names)) + 0.5, [_short(name) for _, name in names])
        turn = 0 if len(rounds) <= _ROOM else 90
        axes.set_xticks(np.arange(len(rounds)) + 0.5, canvas.sizes(rounds), rotation=turn)
        axes.invert_yaxis()
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("weights left in the whole network, %")
        axes.set_title(title)
        return canvas.svg(figure, f"heat {kind} {title}", title)


def _curve(axes: Axes, rounds: Sequence[Round], key: str, *, intervals: bool = False, **look: Any) -> None:
    found: list[tuple[Round, Proportion | None]] = [(r, getattr(r, key)) for r in rounds]
    points = [(100 * r.remaining, p) for r, p in found if p]
    x, y = [at for at, _ in points], [100 * p.value for _, p in points]
    axes.plot(x, y, markeredgecolor="white", markeredgewidth=0.8, **look)
    if intervals and points:
        ends = [[100 * (p.value - p.low) for _, p in points], [100 * (p.high - p.value) for _, p in points]]
        axes.errorbar(x, y, ends, fmt="none", ecolor=look["color"], elinewidth=1, capsize=2, alpha=0.55)


def _cell_texts(axes: Axes, grid: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            text = f"{value:.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"
            colour = "white" if value > 52 else INK
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=8)


def _key(layer: LayerRow) -> tuple[int, str]:
    return layer.position, layer.name


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"…{name[-17:]}"


def _dark(colour: str) -> bool:
    """Whether white text is easier to read on ``colour`` (``#rrggbb``) than dark text, by its luminance."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140
