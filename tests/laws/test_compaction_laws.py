"""Compaction of both kinds computes the same, is never larger, and what it proves holds in exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.bounds import PreActivation
from certiprune.bounds.interval import gamma
from certiprune.core.box import Box
from certiprune.core.errors import ProofError
from certiprune.net import Network, compact, lower
from certiprune.net.build import Builder
from certiprune.net.cost import cost
from certiprune.net.module_out import module
from certiprune.net.ops import Conv, Dense
from certiprune.prune import certified
from certiprune.prune.certified import Forms
from certiprune.prune.certified.evaluate import intervals, look, tightened
from certiprune.verify import Budget, Verdict, verify
from helpers.networks import F64, Source, random_points
from helpers.planted import EPS, trained
from helpers.rational import exact_values, fractions
from helpers.reduced import NAMES, network_of

LAW = settings(derandomize=True, deadline=None, max_examples=40)
SEEDS = st.integers(0, 10_000)
CASES = st.tuples(st.sampled_from(NAMES), SEEDS)
DOMAINS = st.sampled_from([(0.0, 1.0), (0.3, 0.7), (-0.5, 0.5), (0.48, 0.52)])


def dead(case: tuple[str, int]) -> Network:
    """A random network without some of its weights, rows and columns of weights."""
    name, seed = case
    network, source = network_of(name, seed, 16), Source.of(seed + 3)
    share, nodes = (0.1, 0.3, 0.6)[seed % 3], []
    for node in network.nodes:
        op = node.op
        if isinstance(op, Conv | Dense) and seed % 5:
            out, inputs, *rest = op.weight.shape
            alive = [source.uniform(*size, *rest) > share / 2 for size in ((out, inputs),)]
            ones = [1] * len(rest)
            alive += [source.uniform(*size, *ones) > share for size in ((out, 1), (1, inputs))]
            op = replace(op, weight=op.weight * alive[0] * alive[1] * alive[2])
        nodes.append(replace(node, op=op))
    return Network(tuple(nodes), network.input_shape)


def counted(network: Network) -> int:
    """Parameters, with one number a channel for a convolution's bias, whatever it is at each position."""
    biases = [n.op.bias for n in network.nodes if isinstance(n.op, Conv) and n.op.bias is not None]
    return cost(network).parameters - sum(b.numel() - len(b) for b in biases)


def numbers(made: torch.nn.Module) -> int:
    return sum(p.numel() for p in made.parameters())


@LAW
@given(CASES)
def test_a_compact_module_is_the_same_function_and_never_larger(case: tuple[str, int]) -> None:
    network = dead(case)
    small, done = compact(network)
    made = module(small, F64)
    x = Source.of(case[1]).normal(6, *network.input_shape)
    torch.testing.assert_close(made(x), network(x), rtol=1e-9, atol=1e-9)
    assert done.after.neurons <= done.before.neurons and done.after.nonzero <= done.before.nonzero
    assert done.after.multiply_adds <= done.before.multiply_adds
    assert counted(small) <= counted(network)
    assert numbers(made) <= cost(small).parameters
    again, nothing = compact(lower(made, shape=network.input_shape))
    assert nothing.removed == 0 and cost(again) == cost(small)
    assert numbers(module(again, F64)) == numbers(made)


@LAW
@given(CASES, DOMAINS)
def test_certified_compaction_is_the_same_function_on_its_domain(
    case: tuple[str, int], domain: tuple[float, float]
) -> None:
    network = dead(case)
    small, done, proof = certified.compact(network, domain=domain, steps=2)
    x = random_points(case[1], proof.domain, 40)
    torch.testing.assert_close(small(x), network(x), rtol=1e-9, atol=1e-9)
    assert counted(small) <= counted(network)
    assert done.after.multiply_adds <= done.before.multiply_adds
    assert done.removed == done.off + done.on + done.dead
    assert tuple(done.origins) == small.relus
    plain, removed = compact(network)
    assert small.neurons <= plain.neurons and done.removed >= removed.removed
    # What is left of a ReLU enters it as before, wherever the output depends on it.
    old, new = network.run(x.requires_grad_()), small.run(x)
    for value, origin in done.origins.items():
        theirs = old[origin.value]
        (slope,) = torch.autograd.grad(old[-1].sum(), theirs, retain_graph=True)
        kept = (slice(None), origin.kept)
        matters = slope[kept] != 0
        torch.testing.assert_close(new[value][matters], theirs[kept][matters], rtol=1e-9, atol=1e-9)


@LAW
@given(CASES, DOMAINS)
def test_what_is_claimed_holds_at_every_sample(case: tuple[str, int], domain: tuple[float, float]) -> None:
    network = dead(case)
    proof = certified.prove(network, domain=domain, steps=2)
    values = network.run(random_points(case[1] + 1, proof.domain, 60))
    for relu in network.relus:
        entering = values[network.node(relu).inputs[0]]
        assert bool((entering >= proof.bounds.lower[relu] - 1e-12).all())
        assert bool((entering <= proof.bounds.upper[relu] + 1e-12).all())
        assert bool((entering[:, proof.off(relu)] <= 0).all() & (entering[:, proof.on(relu)] >= 0).all())


@settings(LAW, max_examples=25)
@given(CASES, DOMAINS)
def test_a_neuron_that_was_seen_on_and_off_is_never_claimed(
    case: tuple[str, int], domain: tuple[float, float]
) -> None:
    network = dead(case)
    proof = certified.prove(network, domain=domain, steps=0)
    values = network.run(random_points(case[1] + 2, proof.domain, 60))
    for relu in network.relus:
        entering = values[network.node(relu).inputs[0]]
        free = ((entering > 1e-9).any(0) & (entering < -1e-9).any(0)).nonzero()
        for place in free[:2].tolist():
            for end, others in (("lower", proof.bounds.upper), ("upper", proof.bounds.lower)):
                wrong = {**getattr(proof.bounds, end)}
                wrong[relu] = wrong[relu].clone()
                wrong[relu][(0, *place)] = 0.0
                bounds = (wrong, others) if end == "lower" else (others, wrong)
                with pytest.raises(ProofError, match="the proof says"):
                    certified.check(replace(proof, bounds=PreActivation(*bounds)), network)


@LAW
@given(CASES, DOMAINS)
def test_forms_hold_whatever_their_slopes(case: tuple[str, int], domain: tuple[float, float]) -> None:
    network = dead(case)
    source = Source.of(case[1] + 4)
    box = certified.prove(network, domain=domain, steps=0).domain
    values = network.run(random_points(case[1] + 5, box, 60))

    def tighten(relu, ends, before):
        if not before.lower:
            return ends
        size = ends[0].numel()
        neuron = torch.arange(size).repeat(2)
        forms = Forms(neuron, torch.arange(2 * size) >= size)
        rows = look(network, relu, forms)
        seen = [v for v in before.lower if v in rows.plan.windows][: 1 + case[1] % 2]
        shapes = {v: rows.take(before.lower[v], v).shape for v in seen}
        forms = Forms(neuron, forms.upper, {v: source.uniform(*shape).float() for v, shape in shapes.items()})
        low, high = tightened(network, box, relu, ends, before, forms)
        # Where a neuron is stable its slope is no choice.
        free = {v: rows.take(before.unstable(v).float(), v) for v in seen}
        other = {v: torch.lerp(1 - t, t, free[v]) for v, t in forms.slopes.items()}
        same = tightened(network, box, relu, ends, before, replace(forms, slopes=other))
        assert torch.equal(same[0], low) and torch.equal(same[1], high)
        entering = values[network.node(relu).inputs[0]]
        assert bool(((entering >= low - 1e-11) & (entering <= high + 1e-11)).all())
        assert bool(((low >= ends[0]) & (high <= ends[1])).all())
        return low, high

    with torch.no_grad():
        intervals(network, box, tighten)


# Exact arithmetic.


def wild(source: Source, *shape: int) -> Tensor:
    """Numbers whose sizes differ by up to 8 orders of magnitude."""
    return source.normal(*shape) * 10.0 ** (8 * source.uniform(*shape) - 4)


def wild_stable(seed: int) -> Network:
    """Layers of wild weights with neurons that are always off, always on, or free on [0, 1]^3; some nearly cancel."""
    source = Source.of(seed)
    b = Builder((3,))
    value, reach = 0, torch.ones(3, dtype=F64)
    for width in (7, 6):
        weight = wild(source, width, len(reach))
        weight[1] = -weight[0] * (1 + 1e-9)
        most = weight.abs() @ reach
        kind = torch.tensor([1.0, 1.0, *(source.whole(-1, 1) for _ in range(width - 2))], dtype=F64)
        bias = torch.where(kind == 0, -(weight @ reach) / 2, kind * most * 1.01)
        value = b.relu(b.emit(Dense(weight, bias), value))
        reach = most + bias.clamp(min=0)
    last = wild(source, 2, len(reach))
    last[:, 1] = -last[:, 0] * (1 - 1e-9)
    return b.finish(b.emit(Dense(last, wild(source, 2)), value))


@settings(LAW, max_examples=30)
@given(SEEDS)
def test_the_exact_outputs_are_within_what_the_compact_network_accounts_for(seed: int) -> None:
    network = wild_stable(seed)
    small, done, proof = certified.compact(network, steps=1)
    assert done.removed >= 2
    points = random_points(seed, proof.domain, 8)
    source = Source.of(seed + 1)

    def any_slopes(relu, ends, before):
        neuron = torch.arange(ends[0].numel()).repeat(2)
        seen = {v: source.uniform(len(neuron), t[0].numel()).float() for v, t in before.lower.items()}
        return tightened(
            network,
            proof.domain,
            relu,
            ends,
            before,
            Forms(neuron, torch.arange(len(neuron)) >= ends[0].numel(), seen),
        )

    with torch.no_grad():
        _, tight = intervals(network, proof.domain, any_slopes)
    for x in points.unsqueeze(1):
        exact = exact_values(network, fractions(x))
        for relu in network.relus:
            z = exact[network.node(relu).inputs[0]]
            assert all(a <= b for a, b in zip(fractions(proof.bounds.lower[relu]), z, strict=True))
            assert all(a >= b for a, b in zip(fractions(proof.bounds.upper[relu]), z, strict=True))
            assert all(
                a <= y <= b
                for a, y, b in zip(fractions(tight.lower[relu]), z, fractions(tight.upper[relu]), strict=True)
            )
        low, high = intervals(small, Box(x, x))[0][-1]
        assert all(a <= y <= b for a, y, b in zip(fractions(low), exact[-1], fractions(high), strict=True))


def test_a_merged_matrix_needs_its_slack_and_stays_within_it() -> None:
    needed = 0
    for seed in range(12):
        source = Source.of(seed)
        rows = source.uniform(1, 3) + torch.zeros(8, 3, dtype=F64) + 1e-12 * source.uniform(8, 3)
        columns = source.uniform(2, 1) * torch.tensor([1.0, -1.0] * 4, dtype=F64)
        b = Builder((3,))
        h = b.relu(b.emit(Dense(rows, source.uniform(8)), 0))
        network = b.finish(b.emit(Dense(columns, None), h))
        small, done, proof = certified.compact(network)
        (op,) = [node.op for node in small.nodes if isinstance(node.op, Dense)]
        assert (done.on, small.neurons) == (8, 0) and op.slack is not None
        for x in random_points(seed, proof.domain, 6).unsqueeze(1):
            exact, merged = (exact_values(n, fractions(x))[-1] for n in (network, small))
            far = [abs(a - c) for a, c in zip(exact, merged, strict=True)]
            assert all(d <= s for d, s in zip(far, fractions(op.slack), strict=True))
            # What a bound of the new network would allow for without it.
            own = gamma(3, F64) * (op.weight.abs() @ x[0].abs())
            needed += sum(d > Fraction(float(a)) for d, a in zip(far, own, strict=True))
    assert needed > 0


def test_the_slack_of_a_merged_matrix_survives_what_is_folded_into_it() -> None:
    source = Source.of(0)
    b = Builder((1,))
    h = b.relu(b.emit(Dense(1 / 3 + 1e-9 * source.uniform(60, 1), None), 0))
    z = b.emit(Dense(source.uniform(1, 1) * torch.tensor([1.0, -1.0] * 30, dtype=F64), None), h)
    # One column: it only scales, and the product with the merged matrix is smaller than the two.
    network = b.finish(b.emit(Dense(source.uniform(61, 1), None), z))
    small, done, _ = certified.compact(network, domain=(0.5, 1.0))
    assert (done.on, len(small.nodes)) == (60, 1)
    x = torch.ones(1, 1, dtype=F64)
    exact = exact_values(network, fractions(x))[-1]
    low, high = intervals(small, Box(x, x))[0][-1]
    assert all(a <= y <= b for a, y, b in zip(fractions(low), exact, fractions(high), strict=True))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_verdicts_stay_what_they_were(name: str) -> None:
    base = trained(name, pruned=True)
    network, _ = compact(base.network)
    small, done, _ = certified.compact(base.network)
    assert small.neurons < network.neurons and done.off > 0
    images, labels = base.images[:4].float(), base.labels[:4]
    for eps in (EPS, 3 * EPS):
        found = [
            {o.index: o for o in verify(n, images, labels, eps=eps, budget=Budget(nodes=2000))}
            for n in (network, small)
        ]
        verdicts = [[found[k][i].verdict for i in range(len(images))] for k in (0, 1)]
        assert verdicts[0] == verdicts[1] and Verdict.UNKNOWN not in verdicts[0]
