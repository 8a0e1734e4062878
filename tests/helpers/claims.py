"""Claims about random networks in ONNX files, for the checker and for those who look for certificates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from certiprune import checker
from certiprune.checker import Certificate, Graph
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network, onnx_in, onnx_out
from helpers.exact import minimum
from helpers.networks import random_network

UNIT = (Fraction(0), Fraction(1))


@dataclass(frozen=True)
class Claimed:
    """A random network, read by both readers, and a claim about it."""

    network: Network
    graph: Graph
    claim: Certificate

    def exact(self) -> float:
        """The smallest difference between the label's score and another one, over the claim's box."""
        low, high = (
            torch.from_numpy(end).reshape(1, *self.network.input_shape)
            for end in checker.ball(self.claim, self.graph.sizes[0])
        )
        label = torch.tensor([self.claim.label])
        margin = Margin.classified_as(label, self.network.outputs).to(torch.float64)
        return minimum(self.network, Box(low, high), margin).lower


def read(network: Network, folder: Path) -> tuple[Network, Graph]:
    """``network`` written as an ONNX file, as both readers have it."""
    file = folder / "model.onnx"
    file.write_bytes(onnx_out.content(network))
    return onnx_in.read(file, check=False), checker.read_model(file)


def random_claim(seed: int, folder: Path, relus: int = 8, kind: str | None = None) -> Claimed:
    """A random network with a claim that is true or false."""
    network, graph = read(random_network(seed, relus, kind), folder)
    rng = np.random.default_rng(seed)
    image = rng.random(graph.sizes[0]).astype(np.float32).astype(np.float64)
    scores = network(torch.from_numpy(image).reshape(1, *network.input_shape))
    eps = Fraction(int(rng.integers(1, 40)), 100)
    claim = Certificate(0, int(scores.argmax()), eps, UNIT, graph.digest, image, (), {})
    return Claimed(network, graph, claim)


def hard_claim(seed: int, folder: Path, relus: int = 12, kind: str | None = None) -> Claimed:
    """A claim with the largest radius up to 10, to a percent, that it is true for (even seeds), or the next one."""
    claimed = random_claim(seed, folder, relus, kind)
    claimed = replace(claimed, claim=replace(claimed.claim, domain=(Fraction(-9), Fraction(10))))

    def at(percent: int) -> Claimed:
        return replace(claimed, claim=replace(claimed.claim, eps=Fraction(percent, 100)))

    low, high = 0, 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).exact() > 0 else (low, middle)
    return at(low if seed % 2 == 0 else high)
