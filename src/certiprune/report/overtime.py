"""The figure of certified accuracy as a function of the time limit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from certiprune.report import canvas
from certiprune.report.statistics import AnyTime

# Seconds at which the axis begins: earlier answers cost no search worth the name.
_START = 1e-3


def figure(title: str, found: Mapping[str, AnyTime], limit: float | None) -> str | None:
    """One colour a network: what is certified by then as a line, the upper side dotted; None without networks.

    Args:
        limit: seconds an image at which the search was cut off, marked where it is known.
    """
    if not found:
        return None
    last = max([curve.last for curve in found.values()] + [limit or 0.0, 10 * _START])
    with canvas.style():
        drawing, axes = canvas.new(canvas.NARROW, 3.1)
        for number, (label, curve) in enumerate(found.items()):
            colour = canvas.colour(number)
            _step(axes, curve.certified, 0.0, 1 / curve.images, last, color=colour, label=label)
            _step(axes, curve.refuted, 1.0, -1 / curve.images, last, color=colour, linestyle=":", alpha=0.75)
        if limit is not None:
            axes.axvline(limit, color=canvas.MUTED, linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        axes.set_xlim(_START, 1.15 * last)
        ticks = [10.0**power for power in range(-3, 5) if 10.0**power <= 1.15 * last]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("time limit, seconds an image (logarithmic)")
        canvas.percent_axis(axes, 103)
        axes.set_title(title)
        canvas.legend(drawing, axes, columns=3)
        text = f"{title}: share certified and upper side (dotted) by the time limit"
        return canvas.svg(drawing, f"overtime {title}", text)


def _step(
    axes: Axes, seconds: tuple[float, ...], start: float, each: float, last: float, **look: object
) -> None:
    """A stair that begins at ``start`` and moves by ``each`` at every answer."""
    x = np.clip([_START, *seconds, last], _START, None)
    y = 100 * (start + each * np.arange(len(seconds) + 1))
    axes.plot(x, [*y, y[-1]], drawstyle="steps-post", linewidth=1.5, **look)  # type: ignore[arg-type]
