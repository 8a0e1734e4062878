"""What goes wrong in training."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from certiprune.core.errors import CertipruneError, InputError


class TrainingError(CertipruneError):
    """Training cannot go on: the loss or a gradient is not finite."""


def unknown(kind: str, name: str, valid: Collection[str]) -> InputError:
    """The error for a ``name`` that is none of ``valid``; it names the nearest one."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(valid) or 'none'}"
    return InputError(f"there is no {kind} called {name!r}; {hint}")
