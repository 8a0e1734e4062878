"""The study's NRS loss as a function of the bounds, a figure that needs no run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from certiprune.report import canvas

GAMMAS = (0.5, 1.0, 2.0)


def nrs(lower: np.ndarray, upper: np.ndarray, gamma: float) -> np.ndarray:
    """``-tanh(1 + l u / gamma^2)`` of bounds l <= u of the same shape; at gamma 1 the RS loss.

    Near 1 where the neuron is unstable and gamma small, near -1 where it is stable.
    """
    return -np.tanh(1 + lower * upper / gamma**2)


def figure(gammas: Sequence[float] = GAMMAS) -> str:
    """The loss over l and u, one panel for each gamma; the broken lines are where a bound is 0."""
    axis = np.linspace(-3, 3, 121)
    lower, upper = np.meshgrid(axis, axis)
    with canvas.style():
        drawing = Figure(figsize=(2.6 * len(gammas) + 0.6, 2.75), layout="constrained")
        panels = drawing.subplots(1, len(gammas), sharey=True, squeeze=False)[0]
        for axes, gamma in zip(panels, gammas, strict=True):
            # No bounds lie below the diagonal: there l > u.
            values = np.ma.masked_where(lower > upper, nrs(lower, upper, gamma))
            shown = axes.contourf(lower, upper, values, levels=np.linspace(-1, 1, 13), cmap=canvas.HEAT)
            for line in (axes.axhline, axes.axvline):
                line(0, color=canvas.MUTED, linewidth=0.7, linestyle="--")
            axes.set_title(f"gamma {gamma:g}")
            axes.set_xlabel("lower bound l")
            axes.set_aspect("equal")
            axes.grid(False)
        panels[0].set_ylabel("upper bound u")
        drawing.colorbar(shown, ax=list(panels), label="NRS loss", ticks=[-1, -0.5, 0, 0.5, 1], shrink=0.9)
        return canvas.svg(
            drawing, "nrs surface", "The NRS loss over lower and upper bound for several gammas"
        )
