"""What goes wrong in training."""

from __future__ import annotations

import math
from collections.abc import Collection

from certiprune.core.errors import CertipruneError, InputError, hint


class TrainingError(CertipruneError):
    """Training cannot go on: the loss or a gradient is not finite."""


def unknown(kind: str, name: str, valid: Collection[str]) -> InputError:
    """The error for a ``name`` that is none of ``valid``; it names the nearest one."""
    return InputError(f"there is no {kind} called {name!r}; {hint(name, valid, cutoff=0.4)}")


def require(what: str, option: str, value: float, range: str, true: bool) -> None:
    """Raise ``InputError`` unless an option's value is finite and in its range; ``what`` is, say, "loss fgsm"."""
    if not (math.isfinite(value) and true):
        raise InputError(f"the option {option} of the {what} must be {range}, not {value}")
