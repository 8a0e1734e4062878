"""Figures of one ladder's rounds, layer by layer: what bounds say of the ReLU layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from certiprune.report import canvas
from certiprune.report.summary import Round
from certiprune.store.rows import LayerRow


def stability(name: str, rounds: Sequence[Round]) -> str | None:
    """The stability loss of each layer: RS, and NRS (dashed) where a BatchNorm stands before the ReLU."""
    return _lines(name, "RS loss (dashed: NRS)", rounds, ("rs", "nrs"), "mean of the loss", log=False)


def widths(name: str, rounds: Sequence[Round]) -> str | None:
    """Half the width of each layer's intervals, behind BatchNorm and before it (dashed)."""
    title = "widths (dashed: before BN)"
    return _lines(name, title, rounds, ("width", "width_before"), "mean half width", log=True)


def spread(name: str, rounds: Sequence[Round]) -> str | None:
    """How wide the intervals of each layer's neurons are, dense and pruned: a box for each layer and round.

    A box goes from the first to the third quartile, with a line at the median; whiskers go from 5 % to 95 % of the
    neurons, and dots are the narrowest and the widest one. Of more than three rounds these are the first that has them
    recorded, the middle and the last one; None where no round has.
    """
    shown = canvas.few([r for r in rounds if r.widths])
    if not shown:
        return None
    layers = list(dict.fromkeys(layer for r in shown for layer in r.widths))
    with canvas.style():
        figure, axes = canvas.new(canvas.WIDE, 2.9)
        for number, r in enumerate(shown):
            step, colour = 0.8 / len(shown), canvas.colour(number)
            places = [layers.index(layer) + (number - (len(shown) - 1) / 2) * step for layer in r.widths]
            drawn = axes.bxp(
                [_box(r.widths[layer]) for layer in r.widths],
                positions=places,
                widths=0.8 * step,
                patch_artist=True,
                showcaps=False,
                boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.55},
                medianprops={"color": canvas.INK, "linewidth": 1.2},
                whiskerprops={"color": colour, "linewidth": 1},
                flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
                manage_ticks=False,
            )
            drawn["boxes"][0].set_label(f"{r.name} ({100 * r.remaining:.3g} %)")
        _width_axis(axes, [width for r in shown for layer in r.widths.values() for width in layer])
        axes.set_xticks(range(len(layers)), layers)
        axes.set_xlim(-0.5, len(layers) - 0.5)
        axes.set_title(f"{name}: widths over neurons")
        canvas.legend(figure, axes, columns=3)
        text = f"{name}: how the widths of bounds are distributed over each layer's neurons"
        return canvas.svg(figure, f"layerwise spread {name}", text)


def _box(quantiles: Sequence[float]) -> dict[str, Any]:
    """What Matplotlib draws a box from; the quantiles are those of ``train.statistics``."""
    least, low, first, median, third, high, most = quantiles
    return {"whislo": low, "q1": first, "med": median, "q3": third, "whishi": high, "fliers": [least, most]}


def _width_axis(axes: Axes, widths: Sequence[float]) -> None:
    """Make y logarithmic from the least width above 0; 0, the width of what never moves, lies below all others."""
    axes.set_ylabel("width u − l")
    above = [width for width in widths if width > 0 and math.isfinite(width)]
    if not above:
        return
    least, most = min(above), max(above)
    zeros = [0.0] if 0.0 in widths else []
    if zeros:
        axes.set_yscale("symlog", linthresh=least, linscale=0.5)
        axes.set_ylim(-0.2 * least, 1.5 * most)
    else:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.5, 1.5 * most)
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    steps = (1, 2, 5) if len(decades) <= 3 else (1,)
    ticks = [step * 10.0**decade for decade in decades[:: 1 + len(decades) // 8] for step in steps]
    ticks = zeros + [tick for tick in ticks if least <= tick <= 1.5 * most]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _lines(
    name: str, what: str, rounds: Sequence[Round], kinds: tuple[str, str], label: str, *, log: bool
) -> str | None:
    layers = {layer.position: layer.name for r in rounds for layer in r.layers if layer.kind == "relu"}
    found = {(at, kind): _points(rounds, at, kind) for at in sorted(layers) for kind in kinds}
    drawn = [y for points in found.values() for _, y in points]
    if not drawn:
        return None
    with canvas.style():
        figure, axes = canvas.new(canvas.WIDE, 2.9)
        for number, at in enumerate(sorted(layers)):
            for kind, dash in zip(kinds, ("-", "--"), strict=True):
                x, y = [p[0] for p in found[at, kind]], [p[1] for p in found[at, kind]]
                text = layers[at] if dash == "-" else None
                look = {"color": canvas.colour(number), "linestyle": dash, "label": text}
                axes.plot(x, y, marker="o", markersize=3, linewidth=1.4, **look)  # type: ignore[arg-type]
        if log and min(drawn) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        canvas.sparsity_axis(axes, rounds)
        axes.set_ylabel(label)
        axes.set_title(f"{name}: {what}")
        canvas.legend(figure, axes, columns=4)
        return canvas.svg(figure, f"layerwise {what} {name}", f"{name} by round and layer: {what}")


def _points(rounds: Sequence[Round], position: int, kind: str) -> list[tuple[float, float]]:
    """The per cent of weights left and the measure ``kind`` of the ReLU layer, of the rounds that have it."""
    at = [
        (r, layer)
        for r in rounds
        for layer in r.layers
        if layer.kind == "relu" and layer.position == position
    ]
    found = [(100 * r.remaining, _value(layer, kind)) for r, layer in at]
    return [(x, y) for x, y in found if not math.isnan(y)]


def _value(layer: LayerRow, kind: str) -> float:
    return float(getattr(layer, kind))
