"""Numbers as people read them, the same on every page."""

from __future__ import annotations

import math


def percent(value: float) -> str:
    """A proportion in per cent, such as ``31 %`` or ``8.5 %`` (with a space that does not break)."""
    shown = f"{100 * value:.1f}" if value >= 0.01 or value == 0 else f"{100 * value:.2g}"
    return f"{shown.removesuffix('.0')}\u00a0%"


def p_value(p: float) -> str:
    """``0.012``, or ``< 0.0001`` for less."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def eps_text(value: float | None) -> str:
    """A radius as people write it: ``2/255`` where it is a whole number of grey levels, else ``0.1``."""
    if value is None:
        return "unknown"
    levels = value * 255
    if value > 0 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{value:g}"


def number(value: float) -> str:
    """A count with thin spaces between thousands; at most one digit after the point."""
    text = f"{value:,.1f}".removesuffix(".0")
    return text.replace(",", "\u202f")


def points(value: float, digits: int = 1) -> str:
    """A difference of proportions in points, with its sign: ``+30.0`` or ``−4.5``."""
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", "\u2212") if float(text) else "0"


def seconds_text(value: float) -> str:
    """A duration: ``85 ms``, ``3.2 s``, ``12 min`` or ``3.4 h``."""
    if 0 < value < 0.0995:
        return f"{1000 * value:.2g} ms"
    if value < 90:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 5400 else f"{value / 3600:.3g} h"


def margin_text(value: float) -> str:
    """What is said of a proved margin, which is minus infinity where there is none."""
    return f"proved margin {value:.3g}".replace("-", "\u2212") if math.isfinite(value) else "no margin proved"
