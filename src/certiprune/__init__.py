"""Certified pruning: train, prune and completely verify ReLU networks.

The public names are loaded when they are first used, so that ``import certiprune`` is instant.
``certiprune.prune`` and ``certiprune.verify`` are packages and can be called as well:
``certiprune.verify(model, images, labels, eps=...)``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certiprune.api import certify as certify
    from certiprune.api import compact as compact
    from certiprune.api import lower as lower
    from certiprune.api import outcomes as outcomes
    from certiprune.api import prune as prune
    from certiprune.api import read as read
    from certiprune.api import run as run
    from certiprune.api import verify as verify
    from certiprune.core.box import Box as Box
    from certiprune.core.errors import CertipruneError as CertipruneError
    from certiprune.core.mask import Mask as Mask
    from certiprune.net import Network as Network
    from certiprune.prune.hold import mask_of as mask_of
    from certiprune.verify.outcome import Outcome as Outcome
    from certiprune.verify.outcome import Verdict as Verdict

    __version__: str

__all__ = [
    "Box",
    "CertipruneError",
    "Mask",
    "Network",
    "Outcome",
    "Verdict",
    "__version__",
    "certify",
    "compact",
    "lower",
    "mask_of",
    "outcomes",
    "prune",
    "read",
    "run",
    "verify",
]

_HOMES = {
    "Box": "core.box",
    "CertipruneError": "core.errors",
    "Mask": "core.mask",
    "Network": "net",
    "Outcome": "verify.outcome",
    "Verdict": "verify.outcome",
    "certify": "api",
    "compact": "api",
    "lower": "api",
    "mask_of": "prune.hold",
    "outcomes": "api",
    "read": "api",
    "run": "api",
}
_CALLABLE = ("prune", "verify")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("certiprune")
    if name in _CALLABLE:
        return import_module(f"certiprune.{name}")
    if name in _HOMES:
        return getattr(import_module(f"certiprune.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'certiprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _CallablePackage(ModuleType):
    """A subpackage that, called, does what the public function of its name does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = getattr(import_module("certiprune.api"), self.__name__.rpartition(".")[2])
        return function(*args, **kwargs)


class _Package(ModuleType):
    """This package; importing a subpackage of a public function's name makes it callable.

    Python binds an imported subpackage to its name here, where it would otherwise hide the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
