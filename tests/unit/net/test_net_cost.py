"""Sizes of networks: what is counted, and the bytes of the file that is written."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from certiprune.core.errors import ModelError
from certiprune.net import compact, onnx_out
from certiprune.net.cost import cost, sizes
from certiprune.net.network import Network, Node
from certiprune.net.ops import Conv, Dense, Relu, Reshape, Select
from helpers.networks import random_network


def test_every_number_is_counted_by_hand():
    weight = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    weight[0, 0, 0] = 0
    matrix = torch.ones(3, 8, dtype=torch.float64)
    ops = [Conv(weight, torch.ones(2, 1, 1, dtype=torch.float64)), Relu(), Reshape((8,)), Dense(matrix, None)]
    network = Network(tuple(Node(op, (k,)) for k, op in enumerate(ops)), (1, 3, 3))
    found = sizes(network)
    assert (found.parameters, found.nonzero, found.neurons) == (8 + 2 + 24, 6 + 24, 8)
    assert found.multiply_adds == 8 * 4 + 24


@pytest.mark.parametrize("seed", range(6))
def test_bytes_are_those_of_the_file(seed, tmp_path):
    network = random_network(seed)
    for one in (network, compact(network)[0]):
        found = sizes(one)
        assert found.bytes == onnx_out.write(one, tmp_path / "model.onnx").stat().st_size
        assert {k: v for k, v in asdict(found).items() if k != "bytes"} == asdict(cost(one))


def test_a_network_that_no_file_can_hold_has_no_size():
    place = Select(0, torch.tensor([0, 0]), 2)
    with pytest.raises(ModelError, match="no exact form"):
        sizes(Network((Node(place, (0,)),), (2,)))
