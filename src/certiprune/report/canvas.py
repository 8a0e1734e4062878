"""What the figures share: style, axes, and the way to SVG text that is the same for the same numbers."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from certiprune.report.summary import Round

INK, MUTED, GRID = "#1f2733", "#5b6675", "#e3e7ed"
# Okabe and Ito's palette: told apart with every common kind of colour vision.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6675")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HEAT = LinearSegmentedColormap.from_list("heat", ("#f4f8fc", "#9ecae8", "#2f82bd", "#0b3c66"))
# Inches: a wide figure takes half of a desktop page, a narrow one a third, either the width of a telephone.
WIDE, NARROW = 4.6, 4.0

_STYLE: Any = {
    "svg.hashsalt": "certiprune",
    "svg.fonttype": "none",  # text stays text: sharp, small, readable aloud
    "text.parse_math": False,  # a name with a dollar sign is a name
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#c3cbd6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def style() -> Any:
    """The context in which a figure is made and written."""
    return mpl.rc_context(_STYLE)


def colour(number: int) -> str:
    """The colour of line ``number``; they come again after seven."""
    return LINES[number % len(LINES)]


def look(number: int) -> dict[str, str]:
    """Colour, marker and dashes of line ``number``: no two of the first forty-nine look alike."""
    again, place = divmod(number, len(LINES))
    dashes = ("-", "--", ":", "-.")[again % 4]
    return {"color": LINES[place], "marker": MARKERS[(place + again) % len(MARKERS)], "linestyle": dashes}


def new(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that many inches with one pair of axes; no state is kept outside it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def sparsity_axis(axes: Axes, rounds: Sequence[Round]) -> None:
    """Make x the weights left in per cent, logarithmic, from all to few."""
    least = min([100 * r.remaining for r in rounds if r.remaining > 0] + [60.0])
    axes.set_xscale("log")
    axes.set_xlim(115, least / 1.15)
    steps = [100, 70, 50, 35, 25] if least > 20 else [100, 50, 25, 10, 5, 2.5, 1, 0.3, 0.1, 0.03, 0.01]
    ticks = [tick for tick in steps if tick >= 0.9 * least]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("weights left, % (logarithmic)")


def percent_axis(axes: Axes, top: float | None = None) -> None:
    """Make y per cent of test images, from 0 to ``top`` or as far as the data go."""
    axes.set_ylabel("% of test images")
    axes.set_ylim(bottom=0, top=top)


def round_axis(axes: Axes, rounds: Sequence[Round], *, integer: bool) -> None:
    """Make y the rounds, the first one at the top, for horizontal bars of ``integer`` or other numbers."""
    axes.set_yticks(range(len(rounds)), [f"{label} %" for label in sizes(rounds)])
    axes.set_ylim(len(rounds) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=integer))
    axes.set_ylabel("weights left")
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)


def bars_height(rounds: Sequence[Round]) -> float:
    """Inches that a figure with one horizontal bar a round needs."""
    return 1.25 + 0.34 * max(len(rounds), 3)


def sizes(rounds: Sequence[Round]) -> list[str]:
    """The weights left of each round, in per cent."""
    return [f"{100 * r.remaining:.3g}" for r in rounds]


def few(rounds: Sequence[Round]) -> list[Round]:
    """The first, the middle and the last of ``rounds``: more lines could not be told apart."""
    places = sorted({0, len(rounds) // 2, len(rounds) - 1})
    return [rounds[place] for place in places] if rounds else []


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """A legend below the axes, in at most ``columns`` columns; none where nothing has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = min(columns, len(labels))
        place: Any = {"loc": "outside lower center", "handlelength": 1.4, "columnspacing": 1.2}
        figure.legend(handles, labels, ncols=columns, **place)


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element to put into HTML: no prolog, no metadata, ids that no other ``name`` has."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # Matplotlib's style element would apply to the whole page; report.css has its rule for figures alone.
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", out.getvalue(), flags=re.DOTALL)
    opening = re.search(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', text)
    assert opening is not None  # Matplotlib always writes one
    body, prefix = text[opening.end() :], f"f{hashlib.sha256(name.encode()).hexdigest()[:10]}-"
    body = re.sub(r'(<[^<>]*\bid=")', rf"\g<1>{prefix}", body)
    body = body.replace("url(#", f"url(#{prefix}").replace('xlink:href="#', f'href="#{prefix}')
    label = html.escape(description)
    return f'<svg viewBox="{opening.group(1)}" role="img" aria-label="{label}">{body.rstrip()}'


def standalone(element: str) -> str:
    """An element that ``svg`` has made as a file of its own, on white, in the size that a page gives it at most."""
    width, height = element.partition('viewBox="')[2].partition('"')[0].split()[2:]
    opening = '<svg xmlns="http://www.w3.org/2000/svg" ' + f'width="{width}pt" height="{height}pt" '
    ground = "<style>* { stroke-linejoin: round; stroke-linecap: butt }</style>"
    ground += '<rect width="100%" height="100%" fill="white"/>'
    head, _, body = element.removeprefix("<svg ").partition(">")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{opening}{head}>{ground}{body}\n'
