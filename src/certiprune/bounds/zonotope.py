"""Zonotopes (trusted): every value of the network as an affine function of the inputs, for many boxes at once.

Each value z is kept as a centre c, generators G and an error e, such that for every point of the box there are numbers
t_g in [-1, 1], one for each generator and the same for all values, with
    |z - c - sum_g t_g G_g| <= e,        so        c - r - e <= z <= c + r + e,    r = sum_g |G_g|.
The first generators belong to the inputs that have a width. An affine map acts on c and G alike. A ReLU with l < 0 < u
lies between up * z and up * z + gap (``relax.py``): c and G are scaled by up, c moves by gap / 2, and one new generator
of gap / 2 stands for the rest (Singh et al. 2018, DeepZ). All of it is forward and shared by the neurons, so that a box
costs a fraction of CROWN's walks; on small boxes, where few neurons are unstable, it is nearly as tight.

Rounding. With s = |c| + r, computing W c + b and W G_g loses at most gamma_k (|W| s + |b|) together, k the length of
the sums (Higham 2002, section 3.1); e grows by twice that, and passes through |W| and up. The computation of these
allowances is itself rounded, by less than the factor 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.interval import gamma
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import chord
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Relu


@dataclass(frozen=True)
class Zonotope:
    """What one value can be in each of ``n`` boxes.

    Attributes:
        centre: [n, *shape].
        generators: [n, g, *shape].
        radius: [n, *shape], the sum of the generators' sizes up to rounding.
        error: [n, *shape], what is not counted by the generators.
    """

    centre: Tensor
    generators: Tensor
    radius: Tensor
    error: Tensor

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Rigorous bounds of the value; infinite where the computation overflowed."""
        unit = gamma(self.generators.shape[1], self.centre.dtype)
        reach = (self.radius + self.error) * (1 + 2 * unit) + unit * self.centre.abs()
        inf = torch.inf
        low, high = self.centre - reach, self.centre + reach
        return low.nan_to_num(-inf, inf, -inf), high.nan_to_num(inf, inf, -inf)


@dataclass(frozen=True)
class Enclosure:
    """What ``enclose`` finds for ``n`` boxes.

    Attributes:
        pre: sound bounds of what enters each ReLU.
        output: the outputs.
        share: [n, g, k]: for the generators of ``output``, which part of the width of what each stands for is due to
            each of the k inputs. For the search only.
    """

    pre: PreActivation
    output: Zonotope
    share: Tensor


def enclose(network: Network, box: Box, inputs: Tensor, known: PreActivation | None = None) -> Enclosure:
    """Carry boxes through the network.

    Args:
        network: in the boxes' precision.
        box: n boxes.
        inputs: [k] int64, flat numbers of the inputs that get a generator. Should others have a width it counts as
            error, which is sound but loose.
        known: sound bounds of what enters each ReLU; used where they are tighter.
    """
    n = len(box)
    first = _start(box, inputs)
    share = torch.eye(len(inputs), dtype=first.centre.dtype, device=first.centre.device).expand(n, -1, -1)
    values: dict[int, Zonotope] = {0: first}
    last = {i: v for v, node in enumerate(network.nodes, start=1) for i in node.inputs}
    lower: dict[int, Tensor] = {}
    upper: dict[int, Tensor] = {}
    for v, node in enumerate(network.nodes, start=1):
        args = [values[i] for i in node.inputs]
        if isinstance(node.op, Relu):
            low, high = args[0].ends
            if known is not None:
                low, high = torch.maximum(low, known.lower[v]), torch.minimum(high, known.upper[v])
            lower[v], upper[v] = low, high
            values[v], share = _relu(args[0], low, high, share)
        elif isinstance(node.op, Affine):
            values[v] = _affine(node.op, args[0])
        else:
            values[v] = _add(args)
        for i in node.inputs:
            if last[i] == v:
                values.pop(i, None)
    return Enclosure(PreActivation(lower, upper), values[network.output], share)


def _start(box: Box, inputs: Tensor) -> Zonotope:
    centre = box.centre
    unit = gamma(1, centre.dtype)
    reach = torch.maximum(box.upper - centre, centre - box.lower) * (1 + unit)
    flat = reach.flatten(1)
    width = flat[:, inputs]
    item = torch.arange(len(inputs), device=flat.device)
    generators = flat.new_zeros(len(flat), len(inputs), flat.shape[1])
    generators[:, item, inputs] = width
    shape = centre.shape
    error = flat.index_fill(1, inputs, 0.0).reshape(shape)
    return Zonotope(centre, generators.reshape(len(flat), -1, *shape[1:]), reach - error, error)


def _affine(op: Affine, z: Zonotope) -> Zonotope:
    n, g, *shape = z.generators.shape
    size = op.absolute()
    unit = 2 * gamma(op.fan_in + g, z.centre.dtype)
    centre = op.forward(z.centre)
    generators = op.linear(z.generators.reshape(n * g, *shape)).reshape(n, g, *centre.shape[1:])
    radius = generators.abs().sum(1)
    error = (1 + unit) * size.linear(z.error) + unit * size.forward(z.centre.abs() + z.radius)
    return Zonotope(centre, generators, radius, error)


def _add(args: list[Zonotope]) -> Zonotope:
    """A sum; generators have the same place in each term, and the shorter terms do without the last ones."""
    most = max(z.generators.shape[1] for z in args)
    centre, error = torch.zeros_like(args[0].centre), torch.zeros_like(args[0].error)
    size = torch.zeros_like(error)
    generators = centre.new_zeros(len(centre), most, *centre.shape[1:])
    for z in args:
        centre, error = centre + z.centre, error + z.error
        size = size + z.centre.abs() + z.radius
        generators[:, : z.generators.shape[1]] += z.generators
    unit = 2 * gamma(len(args) + most, centre.dtype)
    return Zonotope(centre, generators, generators.abs().sum(1), (1 + unit) * error + unit * size)


def _relu(z: Zonotope, low: Tensor, high: Tensor, share: Tensor) -> tuple[Zonotope, Tensor]:
    """What comes out where ``low <= z <= high``, and the shares of the generators, those that are new included."""
    unstable = (low < 0) & (high > 0)
    up = torch.where(unstable, chord(low, high), (low >= 0).to(low.dtype))
    unit = gamma(1, low.dtype)
    # At the ends the ReLU is (-up) * low and (1 - up) * high above the line, whatever the slope; at 0 it is not below.
    above = torch.maximum(-up * low, (1 - up) * high) * (1 + unit)
    half = torch.where(unstable, above / 2, 0.0)
    many = share.shape[1] - z.generators.shape[1]
    old = torch.nn.functional.pad(z.generators, [0, 0] * (z.centre.dim() - 1) + [0, many])
    flat, spread = unstable.flatten(1), half.flatten(1)
    width = int(flat.sum(1).max())
    place = flat.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
    new = spread.new_zeros(len(flat), width, flat.shape[1])
    new.scatter_(2, place.unsqueeze(2), spread.gather(1, place).unsqueeze(2))
    new = new.reshape(len(flat), width, *low.shape[1:])
    scaled = old * up.unsqueeze(1)
    error = up * z.error * (1 + 2 * unit) + 2 * unit * (up * (z.centre.abs() + z.radius) + half) + _TINY
    centre, radius = up * z.centre + half, up * z.radius + half
    # A neuron's width is due to the generators in it, and so to what they stand for.
    entering = (
        z.generators.flatten(2).abs().gather(2, place.unsqueeze(1).expand(-1, z.generators.shape[1], -1))
    )
    blame = entering.transpose(1, 2) @ share[:, : entering.shape[1]]
    blame = blame / blame.sum(2, keepdim=True).clamp(min=_TINY)
    return Zonotope(centre, torch.cat([scaled, new], 1), radius, error), torch.cat([share, blame], 1)


# Above what products that are too small for float64 can lose.
_TINY = 1e-290
