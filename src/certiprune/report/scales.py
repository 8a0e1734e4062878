"""The scales of BatchNorm in stored networks, and their figure: what slimming and the NRS loss act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import nn

from certiprune.core.errors import InputError
from certiprune.net import checkpoint
from certiprune.report import canvas
from certiprune.report.summary import Round
from certiprune.store.layout import RunLayout

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def read(path: Path) -> np.ndarray | None:
    """All abs(gamma) of the network in the checkpoint at ``path``, sorted; None where there is no such file.

    Empty where the network has no BatchNorm.

    Raises:
        ModelError: the file is no checkpoint.
    """
    if not path.is_file():
        return None
    norms = [m for m in checkpoint.load(path).model.modules() if isinstance(m, _NORMS) and m.affine]
    found = [m.weight.detach().abs().double().numpy() for m in norms]
    return np.sort(np.concatenate(found)) if found else np.empty(0)


def collect(paths: Mapping[str, Path]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The scales of the networks whose checkpoint is there, and the names of those whose checkpoint is not."""
    found = {name: read(path) for name, path in paths.items()}
    there = {name: scales for name, scales in found.items() if scales is not None}
    return there, [name for name in found if name not in there]


def paths(layout: RunLayout, rounds: Iterable[Round]) -> dict[str, Path]:
    """Where a run keeps these networks, those that are verified."""
    found: dict[str, Path] = {}
    for r in rounds:
        # A ladder whose name cannot be a folder's has no checkpoints.
        with suppress(InputError):
            if r.outcomes:
                found[r.name] = layout.round(r.ladder, r.number).model
    return found


def figure(title: str, found: Mapping[str, np.ndarray], *, width: float = canvas.NARROW) -> str | None:
    """Each network's scales from the smallest to the largest; None where no network has any."""
    shown = {label: scales for label, scales in found.items() if len(scales)}
    if not shown:
        return None
    with canvas.style():
        drawing, axes = canvas.new(width, 2.9)
        for number, (label, scales) in enumerate(shown.items()):
            x = 100 * (np.arange(len(scales)) + 0.5) / len(scales)
            # A few dozen points draw the same line as thousands do.
            few = np.unique(np.linspace(0, len(scales) - 1, min(len(scales), 80)).round().astype(int))
            axes.plot(x[few], scales[few], color=canvas.colour(number), label=label, linewidth=1.5)
        axes.set_xlabel("% of channels, smallest first")
        axes.set_ylabel("abs(gamma)")
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        canvas.legend(drawing, axes, columns=3)
        return canvas.svg(drawing, f"scales {title}", f"{title}: BatchNorm's scales, sorted")
