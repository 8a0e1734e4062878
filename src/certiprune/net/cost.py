"""What a network weighs and what one pass through it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from certiprune.net import onnx_out
from certiprune.net.network import Network
from certiprune.net.ops import Conv, Dense


@dataclass(frozen=True)
class Cost:
    """The size of one network.

    Attributes:
        parameters: numbers in weights, biases and scales.
        nonzero: weights of convolutions and matrices that are not zero.
        multiply_adds: of one forward pass for one input, zeros not skipped.
        neurons: ReLU neurons.
    """

    parameters: int
    nonzero: int
    multiply_adds: int
    neurons: int


def cost(network: Network) -> Cost:
    """The size of ``network`` as it stands, after whatever was folded."""
    weights: list[Tensor] = [n.op.weight for n in network.nodes if isinstance(n.op, Conv | Dense)]
    return Cost(
        parameters=sum(t.numel() for t in network.tensors()),
        nonzero=sum(int(t.count_nonzero()) for t in weights),
        multiply_adds=network.cost(),
        neurons=network.neurons,
    )


@dataclass(frozen=True)
class Sizes:
    """The size of one network, on disk too.

    Attributes:
        parameters: numbers in weights, biases and scales.
        nonzero: weights of convolutions and matrices that are not zero.
        multiply_adds: of one forward pass for one input, zeros not skipped.
        neurons: ReLU neurons.
        bytes: of the ONNX file that ``onnx_out.write`` makes of it (float32 weights, zeros not left out).
    """

    parameters: int
    nonzero: int
    multiply_adds: int
    neurons: int
    bytes: int


def sizes(network: Network) -> Sizes:
    """``cost``, and the size of the exported file, which is made in memory for it.

    Raises:
        ModelError: the network holds an operation that ONNX has no exact form for.
    """
    return Sizes(**asdict(cost(network)), bytes=len(onnx_out.content(network)))
