"""The training losses that can be built by name, one file each."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from certiprune.train import named
from certiprune.train.losses.base import AbstractLoss, Terms
from certiprune.train.losses.cc_ibp import CcIbp
from certiprune.train.losses.crown_ibp import CrownIbp
from certiprune.train.losses.exp_ibp import ExpIbp
from certiprune.train.losses.fgsm import Fgsm
from certiprune.train.losses.gradalign import GradAlign
from certiprune.train.losses.ibp import Ibp
from certiprune.train.losses.mtl_ibp import MtlIbp
from certiprune.train.losses.n_fgsm import NFgsm
from certiprune.train.losses.natural import Natural
from certiprune.train.losses.penalised import Penalised
from certiprune.train.losses.pgd import Pgd
from certiprune.train.losses.sabr import Sabr

__all__ = ["AbstractLoss", "Penalised", "Terms", "build", "names", "options"]

_LOSSES: MappingProxyType[str, type[AbstractLoss]] = MappingProxyType(
    {
        loss.name: loss
        for loss in (Natural, Fgsm, GradAlign, NFgsm, Pgd, Ibp, CrownIbp, Sabr, MtlIbp, CcIbp, ExpIbp)
    }
)


def names() -> list[str]:
    """The names that ``build`` knows."""
    return list(_LOSSES)


def options(name: str) -> dict[str, Any]:
    """The options of the loss ``name`` with their defaults.

    Raises:
        InputError: there is no such loss.
    """
    return named.options("loss", _LOSSES, name)


def build(name: str, **chosen: Any) -> AbstractLoss:
    """The loss ``name`` with its options.

    Raises:
        InputError: there is no such loss or option, or an option's value is out of range.
    """
    return named.build("loss", _LOSSES, name, chosen)
