"""What a trace says of a module's steps, and that a network has its ReLUs where the trace says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from certiprune.net import lower
from certiprune.net.live import Live
from certiprune.net.trace import places, trace
from helpers.training import pooled
from helpers.units import CASES, modules


@pytest.mark.parametrize(
    ("name", "module", "shape"), list(modules()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_relus_of_a_trace_are_those_of_the_network(
    name: str, module: nn.Module, shape: tuple[int, ...]
) -> None:
    network = lower(module, shape=shape)
    by_place = places(network)
    ours = list(trace(module).relus().values())
    theirs = [place for place in by_place if place in ours]
    assert theirs == ours
    assert list(by_place.values()) == list(network.relus)
    # A maximum is made of ReLUs that are no steps of the module.
    assert (len(by_place) > len(ours)) == (name in ("depthwise", "pools"))


def test_steps_that_the_output_does_not_need_are_left_out() -> None:
    steps = trace(CASES["branches to nowhere"].module())
    called = {str(node.target) for node in steps.needed() if node.op == "call_module"}
    assert called == {"a", "b", "relu", "last"}


def test_a_layer_is_a_relu_by_what_it_is_and_not_by_its_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
            self.relu_pool, self.last = nn.MaxPool2d(2), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.relu_pool(self.norm(self.conv(x))).flatten(1).relu())

    module = Named().eval()
    assert list(trace(module).relus().values()) == [("relu", 0)]
    assert Live(module, (1, 6, 6)).norms == {"relu": (None,)}
    assert torch.equal(module(torch.ones(1, 1, 6, 6)).isfinite(), torch.ones(1, 2).bool())


def test_a_pool_s_comparisons_are_no_relus_of_the_module() -> None:
    assert len(trace(pooled(0)).relus()) == 1
