"""Certified compaction: what is provably off, or provably linear, for every input of a domain leaves the network."""

from __future__ import annotations

from certiprune.net.network import Network
from certiprune.prune.certified.check import Checked, check
from certiprune.prune.certified.proof import Forms, Proof
from certiprune.prune.certified.proof_file import load, save
from certiprune.prune.certified.remove import Removal, remove
from certiprune.prune.certified.search import Domain, prove

__all__ = [
    "Checked",
    "Domain",
    "Forms",
    "Proof",
    "Removal",
    "check",
    "compact",
    "load",
    "prove",
    "remove",
    "save",
]


def compact(
    network: Network, *, domain: Domain = (0.0, 1.0), steps: int = 20
) -> tuple[Network, Removal, Proof]:
    """``network`` as it is on ``domain``: without units that are off, and without ReLUs around those that are on.

    Arguments are those of ``prove``, what is returned that of ``remove``, and the proof.

    Raises:
        InputError: the network is not in float64, or the domain does not fit it.
    """
    proof = prove(network, domain=domain, steps=steps)
    return *remove(network, proof), proof
