"""Checking a proof: its bounds are worked out again from the network, and must not fall behind what it says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds import PreActivation
from certiprune.bounds.interval import Interval
from certiprune.core.errors import ProofError
from certiprune.net.digest import digest
from certiprune.net.network import Network
from certiprune.prune.certified.evaluate import intervals, look, tightened
from certiprune.prune.certified.proof import Forms, Proof


@dataclass(frozen=True)
class Checked:
    """What a proof that holds says.

    Attributes:
        neurons: ReLU neurons of the network.
        off: those that give 0 on the whole domain.
        on: those that give what enters them on the whole domain.
        forms: ends that were bounded by linear forms; all others by intervals.
    """

    neurons: int
    off: int
    on: int
    forms: int


@torch.no_grad()
def check(proof: Proof, network: Network) -> Checked:
    """Work out all bounds of ``proof`` again, without search, and hold it to them.

    Intervals are computed from the network alone, linear forms with the slopes that the proof has; the proof's own
    bounds are not used.

    Raises:
        ProofError: the proof is about another network, is not complete, or claims a bound that does not follow.
    """
    if proof.digest != (own := digest(network)):
        raise ProofError(f"the proof is about another network: its digest is {proof.digest}, not {own}")
    _complete(proof, network)
    network = network.to(torch.float64, "cpu")

    def tighten(relu: int, ends: Interval, before: PreActivation) -> Interval:
        for forms in proof.forms.get(relu, ()):
            _sensible(forms, network, relu, before)
            ends = tightened(network, proof.domain, relu, ends, before, forms)
        _hold(proof, network, relu, ends)
        return ends

    intervals(network, proof.domain, tighten)
    return Checked(
        neurons=network.neurons,
        off=sum(int(proof.off(v).sum()) for v in network.relus),
        on=sum(int(proof.on(v).sum()) for v in network.relus),
        forms=sum(len(forms) for batches in proof.forms.values() for forms in batches),
    )


def _complete(proof: Proof, network: Network) -> None:
    """The proof has the tensors that a proof about this network must have."""
    if network.dtype != torch.float64:
        raise ProofError("a proof is about a network in float64")
    ends = (proof.domain.lower, proof.domain.upper)
    wanted = (1, *network.input_shape)
    if any(t.shape != wanted or t.dtype != torch.float64 or not bool(t.isfinite().all()) for t in ends):
        raise ProofError(f"the proof's domain must be one box of finite float64 numbers, {list(wanted)}")
    for bounds in (proof.bounds.lower, proof.bounds.upper):
        if tuple(bounds) != network.relus:
            raise ProofError(f"the proof bounds the ReLUs {list(bounds)}, the network has {network.relus}")
        for v, t in bounds.items():
            if t.shape != (1, *network.shapes[v]) or t.dtype != torch.float64:
                raise ProofError(f"{_name(network, v)}: the proof's bounds have the shape {list(t.shape)}")
    unknown = set(proof.forms) - set(network.relus)
    if unknown:
        raise ProofError(f"the proof has forms of the values {sorted(unknown)}, which are no ReLUs")


def _sensible(forms: Forms, network: Network, relu: int, before: PreActivation) -> None:
    """The forms are about neurons that there are, with slopes of the right shapes."""
    where, count = _name(network, relu), network.shapes[relu]
    m = len(forms)
    if (
        not m
        or (forms.neuron.dtype, forms.upper.dtype) != (torch.int64, torch.bool)
        or any(t.shape != (m,) for t in (forms.neuron, forms.upper))
    ):
        raise ProofError(f"{where}: a form needs one number of a neuron and one end")
    if bool(((forms.neuron < 0) | (forms.neuron >= torch.Size(count).numel())).any()):
        raise ProofError(f"{where}: the proof has forms of neurons that there are not")
    rows = look(network, relu, forms)
    for v, t in forms.slopes.items():
        if v not in before.lower or v not in rows.plan.windows:
            raise ProofError(f"{where}: the proof has slopes of value {v}, which is no ReLU in front of it")
        seen = rows.take(before.lower[v], v).shape
        if t.shape != seen or not bool(((t >= 0) & (t <= 1)).all()):
            raise ProofError(f"{where}: the slopes of value {v} must be {list(seen)} numbers in [0, 1]")


def _hold(proof: Proof, network: Network, relu: int, ends: Interval) -> None:
    """What the proof says of one ReLU follows from ``ends``."""
    low, high = proof.bounds.lower[relu], proof.bounds.upper[relu]
    # Written so that a bound that is not a number fails as well.
    for said, found, holds, sign in (
        (low, ends[0], low <= ends[0], ">="),
        (high, ends[1], high >= ends[1], "<="),
    ):
        wrong = (~holds).flatten()
        if bool(wrong.any()):
            k = int(wrong.nonzero()[0])
            raise ProofError(
                f"{_name(network, relu)}, neuron {k}: the proof says that what enters it is {sign} "
                f"{_number(said, k)}, but no more than {sign} {_number(found, k)} follows"
            )


def _number(t: Tensor, k: int) -> str:
    return repr(float(t.flatten()[k]))


def _name(network: Network, relu: int) -> str:
    return f"ReLU {relu} ({network.node(relu).name})"
