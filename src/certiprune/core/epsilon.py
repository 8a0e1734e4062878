"""Radii of perturbation, in input units (pixels in [0, 1])."""

from __future__ import annotations

import math
from fractions import Fraction

from certiprune.core.errors import InputError


def parse_epsilon(value: str | float | int) -> float:
    """Read an L-infinity radius in input units, written as a number or as a fraction such as ``2/255``.

    Raises:
        InputError: the text is no number, or the radius is negative, infinite or above 1.
    """
    try:
        if isinstance(value, str) and "/" in value:
            eps = float(Fraction(value.replace(" ", "")))
        else:
            eps = float(value)
    except OverflowError:
        eps = math.inf
    except (ValueError, ZeroDivisionError, TypeError) as error:
        raise InputError(f"epsilon {value!r} is no number; write it like 0.1 or 2/255") from error
    if not math.isfinite(eps) or not 0.0 <= eps <= 1.0:
        raise InputError(
            f"epsilon {value!r} must lie in [0, 1]: it is in input units, so write 2/255 and not 2"
        )
    return eps


def exact_epsilon(value: str | float | int) -> Fraction:
    """The radius that ``value`` writes down, exactly: 2/255 for ``"2/255"``, 1/10 for ``"0.1"`` and for 0.1.

    Raises:
        InputError: as ``parse_epsilon`` does.
    """
    parse_epsilon(value)
    return Fraction(value.replace(" ", "") if isinstance(value, str) else repr(float(value)))
