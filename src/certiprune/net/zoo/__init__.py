"""The networks that can be built by name."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import nn

from certiprune.core.errors import ModelError, hint
from certiprune.core.rng import generator as seeded
from certiprune.net.zoo import cnn7, cnn_b, cnn_small, mlp, resnet
from certiprune.net.zoo.initial import initialise_
from certiprune.net.zoo.layers import Normalise, Residual
from certiprune.net.zoo.spec import ModelSpec

__all__ = ["ModelSpec", "Normalise", "Residual", "build", "initialise_", "names"]

_BUILDERS = MappingProxyType(
    {
        "cnn7": cnn7.layers,
        "cnn_small": cnn_small.layers,
        "cnn_b": cnn_b.layers,
        "mlp": mlp.layers,
        "resnet": resnet.layers,
    }
)


def names() -> list[str]:
    """The names that ``build`` knows."""
    return list(_BUILDERS)


def build(
    spec: ModelSpec, *, generator: torch.Generator | None = None, initial: str = "default"
) -> nn.Sequential:
    """A new network from images [n, c, h, w] in [0, 1] to class scores [n, classes].

    Its first layer normalises the images.

    Args:
        spec: which network, for which images.
        generator: draws the initial weights. Without it they are a fixed function of the name; torch's global
            generator is neither read nor moved on.
        initial: how weights are drawn, ``default`` or ``ibp``; see ``initialise_``.

    Raises:
        ModelError: no such network or way of drawing, the images are too small for it, or the memory is.
    """
    if spec.name not in _BUILDERS:
        raise ModelError(f"there is no model called {spec.name!r}; {hint(spec.name, _BUILDERS, cutoff=0.4)}")
    try:
        with torch.random.fork_rng(devices=[]):
            layers = _BUILDERS[spec.name](spec)
    except (RuntimeError, MemoryError) as error:
        why = str(error).split("\n")[0]
        raise ModelError(f"a {spec.name} of width {spec.width:g} cannot be built: {why}") from error
    model = nn.Sequential()
    model.add_module("normalise", Normalise(spec.mean, spec.std))
    for name, layer in layers.items():
        model.add_module(name, layer)
    initialise_(model, seeded(0, "initialise", spec.name) if generator is None else generator, initial)
    return model
