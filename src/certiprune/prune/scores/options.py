"""What is said of an option's value that a scoring method cannot use."""

from __future__ import annotations

from collections.abc import Callable, Collection

from certiprune.core.errors import InputError, hint
from certiprune.train.errors import require


def require_whole(method: str, option: str, value: object, least: int = 1) -> None:
    """Raise ``InputError`` unless ``value`` is a whole number and at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(_must(method, option, value, f"a whole number, at least {least}"))


def require_number(
    method: str, option: str, value: object, range: str, inside: Callable[[float], bool]
) -> None:
    """Raise ``InputError`` unless ``value`` is a finite number that is ``inside`` the ``range`` in words."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(_must(method, option, value, range))
    require(f"pruning method {method}", option, value, range, inside(value))


def require_choice(method: str, option: str, value: object, choices: Collection[str]) -> None:
    """Raise ``InputError`` unless ``value`` is one of ``choices``; the text names the nearest."""
    if value not in choices:
        near = hint(str(value), choices)
        raise InputError(f"the option {option} of the pruning method {method} is {value!r}; {near}")


def _must(method: str, option: str, value: object, range: str) -> str:
    return f"the option {option} of the pruning method {method} must be {range}, not {value!r}"
