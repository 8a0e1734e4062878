"""Which neurons the root bounds again, and what that may cost."""

from __future__ import annotations

import math
import time
from unittest import mock

import pytest
import torch

from certiprune.bounds import Engine, PreActivation, intermediate, preactivations
from certiprune.bounds.intermediate import Ends, OutOfTime
from certiprune.bounds.window import Window, plan
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.verify import Budget, Cascade, Problem, Stage, Verdict, cascade, decide
from certiprune.verify.root import RowBounds, bound_rows, choose
from helpers.networks import Source, random_box, random_network


def deep(seed: int, kind: str = "conv_net") -> tuple[Network, Box, Engine, PreActivation]:
    """A network with unstable neurons behind its first ReLU, and CROWN's bounds."""
    for k in range(seed, seed + 50):
        network = random_network(k, 60, kind)
        box = random_box(k, network, n=2, radius=0.8)
        engine = Engine.of(network)
        with torch.no_grad():
            pre = preactivations(engine, box)
        if len(network.relus) >= (3 if kind == "mlp" else 2) and all(
            bool(pre.unstable(v).any()) for v in network.relus
        ):
            return network, box, engine, pre
    raise AssertionError("no such network")


def rows(
    network: Network,
    box: Box,
    engine: Engine,
    pre: PreActivation,
    *,
    some: bool = True,
    deadline: float = math.inf,
) -> RowBounds:
    matrix = torch.eye(network.outputs, dtype=torch.float64).repeat(2, 1, 1)
    margin = Margin(
        matrix, torch.zeros(2, network.outputs, dtype=torch.float64), torch.arange(network.outputs)
    )
    wanted = torch.full((2, network.outputs), some)
    with torch.no_grad():
        return bound_rows(engine, box, margin, pre, wanted, steps=2, rates=Cascade().rates, deadline=deadline)


def weights(network: Network, box: Box, engine: Engine, pre: PreActivation) -> dict[int, torch.Tensor]:
    return dict(rows(network, box, engine, pre).weight)


def test_no_rows_take_no_walk_and_some_rows_take_no_more_time_than_there_is() -> None:
    found = rows(*deep(3, "mlp"), some=False, deadline=0.0)
    assert len(found.value) == 0 and all(not bool(t.any()) for t in found.weight.values())
    with pytest.raises(OutOfTime):
        rows(*deep(3, "mlp"), deadline=time.perf_counter())


@pytest.mark.parametrize("kind", ["conv_net", "mlp"])
def test_chosen_ends_cost_no_more_than_they_may(kind: str) -> None:
    network, box, engine, pre = deep(3, kind)
    weight = weights(network, box, engine, pre)
    whole = plan(network, network.output).numel(network)
    spent = []
    for walks in (0, 10, 100, 10**6):
        ends = choose(engine, pre, weight, walks, 5)
        cost = torch.zeros(2)
        for v, e in ends.items():
            assert not bool(((e.lower | e.upper) & ~pre.unstable(v)).any())
            each = plan(network, network.node(v).inputs[0], windowed=True).numel(network)
            cost += 5 * each * (e.lower.flatten(1).sum(1) + e.upper.flatten(1).sum(1))
        assert bool((cost <= walks * whole).all())
        spent.append(float(cost.sum()))
    assert spent[0] == 0
    assert spent == sorted(spent)
    assert spent[-1] > spent[0]
    # The first ReLU's bounds are exact: no slopes are in front of it.
    assert network.relus[0] not in choose(engine, pre, weight, 10**6, 5)


def test_the_end_that_the_chord_depends_on_more_comes_first() -> None:
    network, box, engine, pre = deep(3, "mlp")
    weight = weights(network, box, engine, pre)
    last = network.relus[-1]
    alone = {last: weight[last]}
    each = plan(network, network.node(last).inputs[0], windowed=True).numel(network)
    whole = plan(network, network.output).numel(network)
    ends = choose(engine, pre, alone, -(-each // whole), 1)[last]
    low, high = pre.lower[last], pre.upper[last]
    worth = weight[last] / (high - low) * pre.unstable(last)
    for k in range(2):
        below, above = worth[k] * high[k] ** 2, worth[k] * low[k] ** 2
        best = torch.stack([below, above]).flatten().argmax()
        assert bool(torch.stack([ends.lower[k], ends.upper[k]]).flatten()[best])


def test_only_chosen_ends_are_bounded() -> None:
    network, box, engine, pre = deep(3, "mlp")
    v = network.relus[-1]
    nothing = torch.zeros_like(pre.unstable(v))
    with torch.no_grad():
        upper = preactivations(engine, box, steps=5, known=pre, chosen={v: Ends(nothing, ~nothing)})
        late = preactivations(
            engine,
            box,
            steps=5,
            known=pre,
            chosen={v: Ends(nothing, ~nothing)},
            until=time.perf_counter() - 1,
        )
    assert bool((upper.upper[v] < pre.upper[v]).any())
    assert bool((upper.lower[v] == pre.lower[v]).all())
    # No time is left for these: what is known stays.
    assert bool((late.upper[v] == pre.upper[v]).all())


def test_a_neuron_that_is_proved_off_needs_no_lower_end() -> None:
    network = random_network(4, 90, "mlp")
    box, engine = random_box(4, network, n=2, radius=0.15), Engine.of(network)
    forms: list[int] = []
    bound = intermediate.form_bounds

    def counted(rows, *args, **more):  # type: ignore[no-untyped-def]
        forms.append(len(rows))
        return bound(rows, *args, **more)

    with torch.no_grad(), mock.patch.object(intermediate, "form_bounds", counted):
        found = preactivations(engine, box)
    both = {
        v: Ends(torch.ones_like(t, dtype=torch.bool), torch.ones_like(t, dtype=torch.bool))
        for v, t in found.lower.items()
    }
    ones = sum(forms)
    forms.clear()
    with torch.no_grad(), mock.patch.object(intermediate, "form_bounds", counted):
        full = preactivations(engine, box, chosen=both)
    assert ones < sum(forms)
    for v in network.relus:
        assert bool((found.unstable(v) == full.unstable(v)).all())
        same = found.upper[v] > 0
        torch.testing.assert_close(found.lower[v][same], full.lower[v][same], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.upper[v][same], full.upper[v][same], rtol=1e-4, atol=1e-4)


def test_few_windows_are_cut_out_like_many() -> None:
    window = Window((2, 1), (-2, -1), (4, 3))
    t = torch.arange(2 * 3 * 5 * 6, dtype=torch.float64).reshape(2, 3, 5, 6)
    owner = torch.tensor([0, 1, 1]).repeat(20)
    position = torch.tensor([[0, 0], [2, 5], [1, 3]]).repeat(20, 1)
    many = window.take(t, owner, position)
    assert bool((many[:3] == window.take(t, owner[:3], position[:3])).all())


def test_what_the_rows_alone_prove_needs_no_neurons() -> None:
    """The stage that optimises slopes begins with the rows', and ends where these prove everything."""
    seen = []
    source = Source.of(0)
    for seed in range(60):
        network = random_network(seed, 40, "mlp")
        x = source.uniform(1, *network.input_shape).float()
        label = network(x.double()).argmax(1)
        problem = Problem.robust(x, label, 0.05 + 0.005 * seed, classes=network.outputs, domain=None)
        with mock.patch.object(cascade, "tighten_neurons", wraps=cascade.tighten_neurons) as tightened:
            (outcome,) = decide(network, problem)
        if outcome.stage is Stage.ALPHA and outcome.verdict is Verdict.CERTIFIED:
            seen.append(tightened.call_count)
        if outcome.stage is Stage.BRANCHING:
            assert tightened.call_count == 1
    assert 0 in seen


def test_the_time_that_the_rows_took_is_gone_when_neurons_begin() -> None:
    budget, rest, seen = 2.0, 0.5, []
    bound, tighten = cascade.bound_rows, cascade.tighten_neurons

    def slow(*args, steps, **more):  # type: ignore[no-untyped-def]
        if steps:
            time.sleep(rest)
        return bound(*args, steps=steps, **more)

    def watched(*args, deadline, until, **more):  # type: ignore[no-untyped-def]
        seen.append((time.perf_counter(), until, deadline))
        return tighten(*args, deadline=deadline, until=until, **more)

    network = random_network(0, 60, "mlp")
    box = random_box(0, network, radius=0.9)
    matrix = Source.of(3).normal(1, 1, network.outputs)
    offset = 0.02 - (matrix @ network(box.centre).T).squeeze(2)
    problem = Problem(box, Margin(matrix, offset, torch.zeros(1, dtype=torch.int64)), box.centre)
    how = Cascade(attack_steps=0, attack_restarts=0)
    with (
        mock.patch.object(cascade, "bound_rows", slow),
        mock.patch.object(cascade, "tighten_neurons", watched),
    ):
        start = time.perf_counter()
        list(decide(network, problem, how=how, budget=Budget(seconds=budget)))
    ((now, until, deadline),) = seen
    assert now - start >= rest
    assert deadline <= start + budget + 0.1
    assert until <= now + (start + budget - now) / 2 + 0.1
