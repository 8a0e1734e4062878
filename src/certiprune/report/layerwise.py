"""Figures over the rounds of one ladder, a line for each layer: what bounds say of the ReLU layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
