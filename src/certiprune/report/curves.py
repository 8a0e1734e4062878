"""The figures over the epochs of one network's training, as SVG text; each is None where nothing of it was recorded."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from certiprune.report import canvas
from certiprune.report.canvas import LINES, MUTED
from certiprune.store.rows import EpochRow

Line = tuple[list[int], list[float]]
"""Epochs and a value for each."""

_TRAINING = {
    "accuracy": ("training", MUTED),
    "validation_accuracy": ("validation", "#0072b2"),
}
_ACCURACIES = {
    "statistics/clean": ("clean", "#5b6675", "-"),
    "statistics/pgd": ("PGD", "#e69f00", "-"),
    "statistics/crown": ("CROWN-IBP", "#56b4e9", "-"),
    "statistics/ibp": ("IBP", "#0072b2", "-"),
    "certified_accuracy": ("IBP, training", "#0072b2", ":"),
    "small_box_accuracy": ("small box, training", "#009e73", ":"),
}
# What an epoch's metrics hold besides the loss and its parts.
_NO_PART = {*_TRAINING, *_ACCURACIES, "loss", "eps", "learning_rate", "beta", "validation_measure"}
_NO_PART |= {"validation_robust_accuracy", "validation_certified_accuracy"}
# Lines whose sizes differ by more than this need a logarithmic axis to be seen together.
_APART = 30.0
# Powers of ten as numbers: text in figures is not parsed for formulas.
_PLAIN = StrMethodFormatter("{x:g}")


def training(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """Accuracies above, the loss below."""
    above = {text: (line(epochs, key, 100), colour) for key, (text, colour) in _TRAINING.items()}
    loss = line(epochs, "loss")
    if not any(found[0] for found, _ in above.values()) and not loss[0]:
        return None
    with canvas.style():
        figure = Figure(figsize=(3.4, 3.1), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        for text, (found, colour) in above.items():
            _plot(panels[0], found, text, colour)
        _plot(panels[1], loss, "loss", "#d55e00")
        panels[0].set_ylabel("accuracy, %")
        panels[1].set_ylabel("loss")
        panels[0].legend(loc="lower right")
        panels[0].set_title(name)
        return _finished(figure, panels[1], f"training {name}", f"Training of {name}")


def accuracies(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """Clean, PGD and certified accuracy."""
    found = {key: line(epochs, key, 100) for key in _ACCURACIES}
    if not any(found[key][0] for key in _ACCURACIES if key.startswith("statistics/")):
        return None
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, 3.1)
        for key, (text, colour, dash) in _ACCURACIES.items():
            _plot(axes, found[key], text, colour, dash)
        axes.set_ylabel("% of images")
        axes.set_ylim(0, 103)
        axes.set_title(f"{name}: accuracy by what is asked")
        canvas.legend(figure, axes, columns=3)
        return _finished(
            figure, axes, f"accuracies {name}", f"Clean, PGD and certified accuracy of {name} by epoch"
        )


def parts(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """The loss and its parts: terms and penalties, without their weights."""
    keys = dict.fromkeys(key for e in epochs for key in e.metrics if "/" not in key and key not in _NO_PART)
    if not keys:
        return None
    found = {key: line(epochs, key) for key in ("loss", *keys)}
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, 3.1)
        for number, (key, values) in enumerate(found.items()):
            _plot(axes, values, key, LINES[number % len(LINES)])
        sizes = [abs(value) for _, values in found.values() for value in values if value]
        if sizes and max(sizes) > _APART * sorted(sizes)[len(sizes) // 2]:
            axes.set_yscale("symlog", linthresh=0.1)
            axes.yaxis.set_major_formatter(_PLAIN)
        axes.set_title(f"{name}: loss and its parts")
        canvas.legend(figure, axes, columns=3)
        return _finished(figure, axes, f"parts {name}", f"Loss of {name} and its parts by epoch")


def schedule(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """Epsilon above, the learning rate below, each at the epoch's end."""
    eps, rate = line(epochs, "eps"), line(epochs, "learning_rate")
    if not eps[0] and not rate[0]:
        return None
    with canvas.style():
        figure = Figure(figsize=(canvas.NARROW, 3.1), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        _plot(panels[0], eps, "eps", "#009e73")
        _plot(panels[1], rate, "learning rate", "#cc79a7")
        panels[0].set_ylabel("eps")
        panels[1].set_ylabel("learning rate")
        for axes in panels:
            axes.set_ylim(bottom=0)
        panels[0].set_title(f"{name}: eps and learning rate")
        return _finished(figure, panels[1], f"schedule {name}", f"Eps and learning rate of {name} by epoch")


def unstable(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """The share of unstable neurons of each layer."""
    return _layers(name, epochs, "unstable ReLUs", ("unstable", ""), "% by intervals", factor=100)


def stability(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """The RS loss of each layer, and the NRS loss where a BatchNorm stands before it."""
    return _layers(name, epochs, "RS loss (dashed: NRS)", ("rs", "nrs"), "mean of the loss")


def widths(name: str, epochs: Sequence[EpochRow]) -> str | None:
    """Half the width of each layer's intervals, behind BatchNorm and before it, on a logarithmic axis."""
    kinds, title = ("width", "width_before"), "widths (dashed: before BN)"
    return _layers(name, epochs, title, kinds, "mean half width", log=True)


def line(epochs: Sequence[EpochRow], key: str, factor: float = 1.0) -> Line:
    """The epochs that have the metric ``key``, and ``factor`` times it."""
    found = [(e.epoch, factor * e.metrics[key]) for e in epochs if key in e.metrics]
    return [at for at, _ in found], [value for _, value in found]


def _layers(
    name: str,
    epochs: Sequence[EpochRow],
    what: str,
    kinds: tuple[str, str],
    label: str,
    *,
    factor: float = 1.0,
    log: bool = False,
) -> str | None:
    """One colour a layer: the metric ``KIND/LAYER`` of the first kind as a line, of the second dashed."""
    keys = [key.partition("/") for e in epochs for key in e.metrics]
    names = dict.fromkeys(layer for kind, _, layer in keys if layer and kind in kinds)
    if not names:
        return None
    drawn = []
    with canvas.style():
        figure, axes = canvas.new(canvas.NARROW, 3.1)
        for number, layer in enumerate(names):
            for kind, text, dash in zip(kinds, (layer, None), ("-", "--"), strict=True):
                found = line(epochs, f"{kind}/{layer}", factor)
                _plot(axes, found, text, LINES[number % len(LINES)], dash)
                drawn += found[1]
        if log and min(drawn) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_PLAIN)
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(label)
        axes.set_title(f"{name}: {what}")
        canvas.legend(figure, axes, columns=4)
        return _finished(figure, axes, f"{what} {name}", f"{name} by epoch and layer: {what}")


def _plot(axes: Axes, found: Line, text: str | None, colour: str, dash: str = "-") -> None:
    if found[0]:
        marker = "o" if len(found[0]) == 1 else None
        axes.plot(*found, color=colour, label=text, marker=marker, linestyle=dash, linewidth=1.5)


def _finished(figure: Figure, lowest: Axes, name: str, description: str) -> str:
    lowest.set_xlabel("epoch")
    lowest.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return canvas.svg(figure, name, description)
