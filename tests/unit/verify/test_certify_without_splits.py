"""The search for certificates where there is no ReLU to split: no hints help, and the reasons are right."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from certiprune import checker
from certiprune.checker import Certificate
from certiprune.net import lower
from certiprune.verify.certify import NoCertificate, certify
from helpers.claims import UNIT, read


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return layer


def outcome(model: nn.Module, folder: Path, eps: Fraction) -> str:
    network, graph = read(lower(model.eval(), shape=(2,)), folder)
    claim = Certificate(0, 0, eps, UNIT, graph.digest, np.array([0.5, 0.5]), (), {})
    try:
        checker.check(certify(network, graph, claim), graph)
    except NoCertificate as error:
        return str(error)
    return "certified"


def test_a_linear_model(tmp_path: Path) -> None:
    model = nn.Sequential(linear([[1.0, 0.0], [0.0, 1.0]], [0.25, 0.0]))
    assert outcome(model, tmp_path, Fraction(1, 10)) == "certified"
    assert outcome(model, tmp_path, Fraction(1, 4)) == "falsified"


@pytest.mark.parametrize("relu", [nn.Identity(), nn.ReLU()])
def test_margins_of_the_size_of_rounding(relu: nn.Module, tmp_path: Path) -> None:
    """The second score is 0 in exact numbers, and the first one above it by less and less."""
    first = linear([[1.0, 0.7], [1.0, 0.7]], [1.0, 1.0])
    found = set()
    for tenth in range(-160, -100, 2):
        last = linear([[0.0, 0.0], [1.0, -1.0]], [10 ** (tenth / 10), 0.0])
        found.add(outcome(nn.Sequential(first, relu, last), tmp_path, Fraction(1, 4)))
    assert found == {"certified", "numeric"}
