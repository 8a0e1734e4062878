"""Removal of what a proof says of a network: units that are off leave it, units that are on leave their ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from certiprune.bounds import interval
from certiprune.core.box import Box
from certiprune.core.errors import LoweringError
from certiprune.core.rng import generator
from certiprune.net.compact import Origin, compact
from certiprune.net.cost import Cost, cost
from certiprune.net.liveness import liveness, units
from certiprune.net.network import Network, Node
from certiprune.net.ops import Relu, Scale
from certiprune.prune.certified.check import check
from certiprune.prune.certified.evaluate import intervals
from certiprune.prune.certified.proof import Proof
from certiprune.prune.certified.split import bypass, without


@dataclass(frozen=True)
class Removal:
    """What ``remove`` did.

    Attributes:
        domain: where the new network computes what the old one does, one box [1, *input_shape]. Elsewhere it need not.
        origins: each ReLU value of the new network, and where it comes from (as ``net.compact`` says it).
        before: the old network's size.
        after: the new network's size.
        off: ReLU neurons that are gone because their whole unit is off.
        on: ReLU neurons that are gone because their whole unit is on.
        dead: ReLU neurons that are gone because, without those, they are constant or nothing reads them.
    """

    domain: Box
    origins: Mapping[int, Origin]
    before: Cost
    after: Cost
    off: int
    on: int
    dead: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "origins", MappingProxyType(dict(self.origins)))

    @property
    def removed(self) -> int:
        """How many ReLU neurons are gone."""
        return self.before.neurons - self.after.neurons


@torch.no_grad()
def remove(network: Network, proof: Proof) -> tuple[Network, Removal]:
    """The same function on the proof's domain, without units that are off, and without ReLUs for those that are on.

    The proof is checked first. A unit is a channel or a neuron, and goes only as a whole, and only where neither
    parameters nor multiply-adds become more (but for biases of one number per position, as in ``compact``). A unit
    that is off stays where a sum, for example, keeps it together with others.

    Args:
        network: in float64.
        proof: about this network.

    Returns:
        the new network, equal to the old one on the domain in exact arithmetic up to the rounding that its ``slack``
        counts, and what was removed.

    Raises:
        ProofError: the proof does not hold.
        LoweringError: the two differ on random points of the domain, by more than rounding can explain.
    """
    check(proof, network)
    network = network.to(torch.float64, "cpu")
    small, origins, off = _without_off(network, proof)
    alive = sum(_numbers(network, o) for o in origins)
    small, origins = _without_on(small, origins, proof)
    left = sum(_numbers(network, o) for o in origins)
    _agree(network, small, _points(proof.domain))
    kept = dict(zip(small.relus, origins, strict=True))
    costs = cost(network), cost(small)
    return small, Removal(proof.domain, kept, *costs, off, alive - left, network.neurons - alive - off)


def _without_off(network: Network, proof: Proof) -> tuple[Network, list[Origin], int]:
    """The network without units that are off, where its ReLUs come from, and how many neurons were off and are gone.

    A unit that stays because something ties it to others is left as it is: what a tied unit holds may be anything, so
    that it would have to be set to 0 in every pass.
    """
    off = {v: ~units(~proof.off(v)) for v in network.relus}
    while True:
        masked, new = _masked(network, off)
        keep = liveness(masked).keep
        tied = {v: flags & keep[new[v] + 1] for v, flags in off.items() if bool(flags.any())}
        if not any(bool(flags.any()) for flags in tied.values()):
            break
        off = {v: flags & ~tied.get(v, torch.zeros_like(flags)) for v, flags in off.items()}
    small, record = compact(masked)
    old = {value: v for v, value in new.items()}
    origins = [Origin(old[o.value], o.kept) for o in record.origins.values()]
    ones = {v for v, node in enumerate(small.nodes, start=1) if _nothing(node)}
    gone = sum(_numbers(network, Origin(v, flags.nonzero()[:, 0])) for v, flags in off.items())
    return (without(small, ones) if ones else small), origins, gone


def _without_on(small: Network, origins: list[Origin], proof: Proof) -> tuple[Network, list[Origin]]:
    """``small`` with units that are on around their ReLUs where that costs nothing, and where its ReLUs come from."""
    left: list[Origin] = []
    for origin in origins:
        relu = small.relus[len(left)]
        on = ~units(~proof.on(origin.value))[origin.kept]
        changed = None
        if bool(on.any()):
            changed = bypass(small, relu, on, intervals(small, proof.domain)[0])
        if changed is None:
            left.append(origin)
        else:
            small = changed
            if not bool(on.all()):
                left.append(Origin(origin.value, origin.kept[~on]))
    return small, left


def _masked(network: Network, off: Mapping[int, Tensor]) -> tuple[Network, dict[int, int]]:
    """The network with a factor 0 behind units that are off, and the new numbers of its ReLUs; factors follow them."""
    nodes: list[Node] = []
    new, relus = {0: 0}, {}
    for value, node in enumerate(network.nodes, start=1):
        nodes.append(replace(node, inputs=tuple(new[i] for i in node.inputs)))
        new[value] = len(nodes)
        if isinstance(node.op, Relu):
            relus[value] = len(nodes)
        if value in off and bool(off[value].any()):
            shape = (-1, *(1,) * (len(network.shapes[value]) - 1))
            factor = (~off[value]).to(network.dtype).reshape(shape)
            nodes.append(Node(Scale(factor, None), (len(nodes),), node.name))
            new[value] = len(nodes)
    return Network(tuple(nodes), network.input_shape), relus


def _nothing(node: Node) -> bool:
    """Whether a node is a factor 1 and no more."""
    op = node.op
    return isinstance(op, Scale) and op.shift is None and op.slack is None and bool((op.scale == 1).all())


def _numbers(network: Network, origin: Origin) -> int:
    """How many neurons the units of a ReLU have."""
    return len(origin.kept) * (
        torch.Size(network.shapes[origin.value]).numel() // network.shapes[origin.value][0]
    )


def _agree(network: Network, small: Network, points: Tensor) -> None:
    """Check that both can have the same outputs at ``points`` [n, *shape], given all that rounding may have done."""
    boxes = Box(points, points)
    (low, high), (least, most) = (interval(n, boxes)[1] for n in (network, small))
    if low.shape != least.shape or not bool(((low <= most) & (least <= high)).all()):
        raise LoweringError(
            "the network without its stable units computes something else; please report this model"
        )


def _points(domain: Box) -> Tensor:
    """Eight seeded points of the domain, half of them corners."""
    unit = torch.rand(8, *domain.lower.shape[1:], generator=generator(0, "domain"), dtype=torch.float64)
    unit[4:] = unit[4:].round()
    return domain.clamp(domain.lower + unit * (domain.upper - domain.lower))
