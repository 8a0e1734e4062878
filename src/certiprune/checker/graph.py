"""A network as a graph of sparse affine maps and ReLUs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

Array = np.ndarray


@dataclass(frozen=True)
class Affine:
    """``matrix @ x + bias``; ``size`` is how large the terms are that the bias was computed from."""

    x: int
    matrix: sp.csr_matrix
    bias: Array
    size: Array

    @cached_property
    def transposed(self) -> sp.csr_matrix:
        return self.matrix.T.tocsr()

    @cached_property
    def absolute(self) -> sp.csr_matrix:
        return abs(self.matrix)


@dataclass(frozen=True)
class Relu:
    x: int


@dataclass(frozen=True)
class Sum:
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Value 0 is the input, value k is made by ``nodes[k - 1]``; all values are flat."""

    nodes: tuple[Affine | Relu | Sum, ...]
    sizes: tuple[int, ...]
    output: int
    digest: str

    @cached_property
    def relus(self) -> list[int]:
        """The values made by ReLUs, in the file's order."""
        return [k for k, node in enumerate(self.nodes, start=1) if isinstance(node, Relu)]

    def source(self, number: int) -> int:
        """The value that enters the ReLU of this number."""
        return self.nodes[self.relus[number] - 1].x  # type: ignore[union-attr]
