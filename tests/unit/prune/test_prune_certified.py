"""Certified compaction of networks whose stable neurons are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.digest import digest
from certiprune.net.network import Node
from certiprune.net.ops import Conv, Dense, Relu, Scale
from certiprune.prune import certified
from certiprune.prune.certified import Proof
from helpers.networks import F64, Source
from helpers.stable import FREE, OFF, ON, crossing, planted, tensor


def points(network: Network, domain: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """Random points and corners of the domain."""
    unit = Source.of(7).uniform(40, *network.input_shape)
    unit[20:] = unit[20:].round()
    return domain[0] + (domain[1] - domain[0]) * unit


def compacted(network: Network, **options: object) -> tuple[Network, certified.Removal, Proof]:
    """``certified.compact``, with its result compared on the domain."""
    small, done, proof = certified.compact(network, **options)  # type: ignore[arg-type]
    x = points(network, options.get("domain", (0.0, 1.0)))  # type: ignore[arg-type]
    torch.testing.assert_close(small(x), network(x), rtol=1e-10, atol=1e-10)
    assert done.after.parameters <= done.before.parameters
    assert done.after.multiply_adds <= done.before.multiply_adds
    assert done.removed == done.off + done.on + done.dead
    return small, done, proof


@pytest.mark.parametrize("outputs", [2, 9])
def test_exactly_the_planted_neurons_go(outputs: int) -> None:
    network = planted(outputs)
    small, done, proof = compacted(network)
    (relu,) = network.relus
    assert proof.off(relu).nonzero()[:, 0].tolist() == OFF
    assert proof.on(relu).nonzero()[:, 0].tolist() == ON
    (origin,) = done.origins.values()
    assert (origin.value, origin.kept.tolist()) == (relu, FREE)
    assert (done.off, done.on, done.dead, small.neurons) == (2, 2, 0, 2)
    assert certified.check(proof, network) == certified.Checked(neurons=6, off=2, on=2, forms=0)
    # Two on-neurons have 2 (3 + outputs) weights around them, one matrix in their place has 3 outputs.
    merged = 3 * outputs <= 2 * (3 + outputs)
    assert merged == (outputs == 2)
    weights = sum(node.op.weight.numel() for node in small.nodes if isinstance(node.op, Dense))
    assert weights == 2 * (3 + outputs) + (3 * outputs if merged else 2 * (3 + outputs))


def test_a_layer_that_is_on_loses_its_relu_and_one_that_is_off_its_place() -> None:
    source = Source.of(3)
    b = Builder((4,))
    on = b.relu(b.emit(Dense(source.uniform(5, 4), 0.1 + source.uniform(5)), 0))
    halves = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=F64) * source.uniform(4, 5)
    free = b.relu(b.emit(Dense(halves, -halves.sum(1)), on))
    off = b.relu(b.emit(Dense(-source.uniform(4, 5), -source.uniform(4)), on))
    network = b.finish(b.emit(source.dense(2, 4), b.add(free, off)))
    _, done, _ = compacted(network)
    assert (done.off, done.on) == (4, 5)
    assert [origin.value for origin in done.origins.values()] == [free]


def test_nothing_but_a_constant_is_left_where_all_is_off() -> None:
    b = Builder((3,))
    hidden = b.relu(b.emit(Dense(-torch.ones(4, 3, dtype=F64), -torch.ones(4, dtype=F64)), 0))
    small, done, _ = compacted(b.finish(b.emit(Source.of(1).dense(2, 4), hidden)))
    assert (done.off, small.neurons, done.after.nonzero) == (4, 0, 0)


def test_a_relu_of_the_input_goes_and_the_only_one_stays() -> None:
    b = Builder((3,))
    small, done, _ = compacted(b.finish(b.emit(Source.of(1).dense(2, 3), b.relu(0))))
    assert (done.on, small.neurons) == (3, 0)
    small, done, _ = compacted(Network((Node(Relu(), (0,)),), (3,)))
    assert (done.on, small.neurons) == (0, 3)


def test_channels_go_where_all_of_their_positions_can() -> None:
    source = Source.of(5)
    first = Conv(source.normal(5, 1, 3, 3).abs(), 0.2 + source.uniform(5, 1, 1), (1, 1), (1, 1))
    first.weight[[1, 3]] *= -1
    assert first.bias is not None
    first.bias[[1, 3]] *= -1
    first.weight[4, 0, 1, 1] = -5  # free
    b = Builder((1, 5, 5))
    hidden = b.relu(b.emit(first, 0))
    second = b.relu(b.emit(source.conv(3, 5, 3, 2, 1), hidden))
    other = b.emit(source.dense(2, 125), b.flatten(hidden))
    network = b.finish(b.add(b.emit(source.dense(2, 27), b.flatten(second)), other))
    small, done, proof = compacted(network)
    assert proof.off(hidden).flatten(1).all(1).tolist() == [False, True, False, True, False]
    assert proof.on(hidden).flatten(1).all(1).tolist() == [True, False, True, False, False]
    kept = {origin.value: origin.kept.tolist() for origin in done.origins.values()}
    assert kept[hidden] == [4]
    convolutions = [node.op for node in small.nodes if isinstance(node.op, Conv)]
    assert [op.weight.shape[:2] for op in convolutions[:2]] == [(1, 1), (2, 1)]


def positive(source: Source, out: int, inputs: int, on: list[int]) -> Dense:
    """A matrix whose rows ``on`` are on wherever the inputs are not negative; the others are free."""
    weight = source.uniform(out, inputs)
    weight[:, 0] *= -1
    weight[on] = source.uniform(len(on), inputs)
    return Dense(weight, torch.zeros(out, dtype=F64).index_fill(0, torch.tensor(on), 0.5))


def test_units_that_are_on_stay_where_a_second_branch_has_no_place() -> None:
    source = Source.of(8)
    for kind in ("read before the ReLU", "read by a sum", "groups before", "groups behind", "the output"):
        b = Builder((4, 1, 1))
        flat = b.flatten(0)
        entering = b.emit(positive(source, 4, 4, [1, 2]), flat)
        if kind == "groups before":
            grouped = Conv(source.uniform(4, 2, 1, 1), 0.1 * source.uniform(4, 1, 1), groups=2)
            grouped.weight[:2, 0] *= -3
            entering = b.emit(grouped, 0)
        relu = b.relu(entering)
        if kind == "groups behind":
            dense = positive(source, 4, 4, [1, 2])
            assert dense.bias is not None
            before = Conv(dense.weight[:, :, None, None], dense.bias[:, None, None])
            relu = b.relu(b.emit(before, 0))
            out = b.flatten(b.emit(Conv(source.normal(4, 2, 1, 1), None, groups=2), relu))
        else:
            out = b.flatten(relu) if kind == "the output" else b.emit(source.dense(4, 4), b.flatten(relu))
        if kind.startswith("read"):
            out = b.add(out, entering if "before" in kind else relu)
        network = b.finish(out)
        small, done, proof = compacted(network)
        assert int(proof.on(network.relus[0]).sum()) == 2
        assert (done.removed, digest(small)) == (0, digest(network)), kind


def test_a_unit_that_a_sum_keeps_stays_as_it_is() -> None:
    source = Source.of(6)
    b = Builder((3,))
    free = b.emit(source.dense(4, 3), 0)
    weight, bias = source.normal(4, 3), torch.zeros(4, dtype=F64)
    weight[:, :2] = tensor([1, -1], [-1, 1], [-1, -1], [1, -2])
    bias[2] = -3.0
    off = b.relu(b.emit(Dense(weight, bias), 0))
    network = b.finish(b.emit(source.dense(2, 4), b.relu(b.add(free, off))))
    small, done, proof = compacted(network)
    assert proof.off(off).tolist() == [False, False, True, False] and done.off == 0
    assert not any(isinstance(node.op, Scale) for node in small.nodes)


def test_intervals_then_crown_then_better_slopes_find_it() -> None:
    steps = {(0.7, 0.4): (0, 0), (0.5, 0.4): (0, 1), (0.3, 0.5): (10, 1)}
    for (gap, at), (needed, forms) in steps.items():
        network = crossing(gap, at)
        if needed:
            assert not certified.prove(network, steps=0).off(network.relus[1]).any()
        proof = certified.prove(network, steps=needed)
        assert proof.off(network.relus[1]).all()
        found = [f for batches in proof.forms.values() for f in batches]
        assert sum(map(len, found)) == forms
        assert any(f.slopes for f in found) == (needed > 0)
        small, done = certified.remove(network, proof)
        assert done.off == 1
        x = points(network)
        torch.testing.assert_close(small(x), network(x))


def test_a_proof_says_what_holds_on_its_domain_only() -> None:
    network = planted(2)
    (relu,) = network.relus
    narrow = certified.prove(network, domain=Box(tensor([0.8, 0.1, 0.0]), tensor([0.9, 0.2, 0.1])))
    assert int((narrow.off(relu) | narrow.on(relu)).sum()) == 6
    small, done = certified.remove(network, narrow)
    assert small.neurons == 0 and torch.equal(done.domain.lower, narrow.domain.lower)
    outside = tensor([0.0, 1.0, 1.0])
    assert not torch.allclose(small(outside), network(outside))


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ((1.0, 0.0), "lower end above"),
        ((0.0, float("inf")), "finite box"),
        ((0.0,), "a box or two numbers"),
        ((0.0, 0.5, 1.0), "a box or two numbers"),
        (None, "a box or two numbers, not None"),
        ((0.0, float("nan")), "not a number"),
        (Box(torch.zeros(2, 3), torch.ones(2, 3)), "one finite box"),
        (Box(torch.zeros(1, 4), torch.ones(1, 4)), "one finite box"),
    ],
)
def test_domains_that_are_none_are_refused(domain: certified.Domain, message: str) -> None:
    with pytest.raises(InputError, match=message):
        certified.prove(planted(2), domain=domain)


def test_only_float64_is_proved() -> None:
    with pytest.raises(InputError, match="float64"):
        certified.prove(planted(2).to(torch.float32))
