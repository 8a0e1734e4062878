"""What tells one network from another: a digest of every operation and number, names aside."""

from __future__ import annotations

import hashlib

from torch import Tensor

from certiprune.net.network import Network


def digest(network: Network) -> str:
    """SHA-256 of the graph, in hexadecimal: shapes, operations in order, and the bytes of their tensors, slack too."""
    found = hashlib.sha256(repr(tuple(network.input_shape)).encode())
    for node in network.nodes:
        found.update(f"{type(node.op).__name__} {node.inputs}".encode())
        for name, part in sorted(vars(node.op).items()):
            if isinstance(part, Tensor):
                found.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
                found.update(part.detach().cpu().contiguous().numpy().tobytes())
            else:
                found.update(f"{name} {part!r}".encode())
    return found.hexdigest()
