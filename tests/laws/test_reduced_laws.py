"""Laws of the reduced form: inside its box it is the network, and bounds from it are the layered ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.bounds import PreActivation
from certiprune.bounds import reduced_walker as walks
from certiprune.bounds.optimise import Rates, Trace
from certiprune.bounds.reduced import Layer, Reduced, reduce
from certiprune.bounds.reduced_walker import Prefix
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.verify import Budget, Cascade, Outcome, Problem, Verdict, cascade, decide, forms
from certiprune.verify.bab import Settings
from certiprune.verify.subproblem import Columns, Subproblems
from helpers.exact import minimum
from helpers.networks import F64, Source, random_box, random_margin, random_points
from helpers.reduced import NAMES, Scene, crossed, network_of, scene, scene_of, subproblems, weighted

SEEDS = st.integers(0, 10_000)
# Of a coefficient nearer to 0 than this float32 does not know the sign, on which all that follows depends.
DOUBTFUL = 1e-4

everywhere = pytest.mark.parametrize("name", NAMES)


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None)


def layers_of(form: Reduced, network: Network, x: Tensor) -> list[tuple[Layer, Tensor]]:
    """Each layer with what enters its neurons at points x (or comes out of the network), [n, k]."""
    values = network.run(x)
    inner = [(t, values[network.node(t.relu).inputs[0]].flatten(1)[:, t.neuron]) for t in form.layers]
    return [*inner, (form.out, values[-1])]


@everywhere
@examples(4)
@given(SEEDS)
def test_rows_are_the_network_at_every_point_of_the_box(name: str, seed: int) -> None:
    made = scene(name, seed)
    form = made.form
    x = random_points(seed, made.box, 60)
    seen = x.flatten(1)
    assert bool((seen.abs() <= form.largest).all())
    for layer, true in layers_of(form, made.network, x):
        now = seen[:, : layer.matrix.shape[1]]
        torch.testing.assert_close(now @ layer.matrix.T + layer.const, true, rtol=1e-10, atol=1e-10)
        terms = now.abs() @ layer.matrix.abs().T + layer.const.abs()
        assert bool((terms <= layer.size * (1 + 1e-12)).all())
        assert layer.columns == slice(
            seen.shape[1] - form.inputs, seen.shape[1] - form.inputs + true.shape[1]
        )
        if layer is not form.out:
            assert bool((true.abs() <= form.reach[layer.columns]).all())
            seen = torch.cat([seen, true.clamp(min=0)], 1)
    assert seen.shape[1] == form.inputs + form.width


@everywhere
@examples(4)
@given(SEEDS)
def test_both_forms_prove_the_same(name: str, seed: int) -> None:
    made = scene(name, seed)
    source = Source.of(seed + 2)
    assert made.reduced.width == made.layered.width
    root, other = made.reduced.root(), made.layered.root()
    assert torch.equal(root.lower, other.lower) and torch.equal(root.upper, other.upper)
    for bent in (False, True):
        for goals in (False, True):
            sub = subproblems(made, source, 12, bent=bent, goals=goals)
            proved = made.reduced.prove(sub, sign_only=False)
            layered = made.layered._prove_in(sub, torch.float64)
            torch.testing.assert_close(proved, layered, rtol=1e-9, atol=1e-9)
    little = replace(made.reduced, engine=replace(made.reduced.engine, memory=1))
    assert little.batch() == 1
    torch.testing.assert_close(little.prove(sub), proved, rtol=1e-12, atol=1e-12)


@dataclass(frozen=True)
class Reference:
    """The dual function on the reduced form in float64, with its gradient by automatic differentiation."""

    value: Tensor
    gradient: Tensor
    coeff: Tensor
    entering: Tensor
    minimiser: Tensor
    sure: Tensor

    @staticmethod
    def of(made: Scene, sub: Subproblems) -> Reference:
        """``sure`` [m]: no coefficient is so near to 0 that float32 may have another sign for it."""
        form = made.form
        own = Columns.of(sub, F64)
        theta = sub.theta.double().requires_grad_()
        width, inputs = form.width, form.inputs
        low = own.on + own.free * theta[:, :width]
        push = -sub.sign.double() * theta[:, :width]
        weight = torch.ones(len(sub), 1, dtype=F64)
        if sub.goal is not None:
            push, weight = push + sub.goal.double(), theta[:, -1:]
        form_in, const = made.reduced.coeff[sub.task], made.reduced.const[sub.task]
        if made.reduced.several is not None:
            mix = made.reduced.several.mix[sub.task]
            form_in, const = mix.form(theta[:, width : width + mix.rows])
        c = weight * (form_in @ form.out.matrix)
        value = weight[:, 0] * (form_in @ form.out.const + const)
        behind, line = [], []
        for layer in reversed(form.layers):
            at = layer.columns
            here, c = c[:, inputs + at.start :], c[:, : inputs + at.start]
            above = (here > 0).double()
            slope, level = torch.lerp(own.up[:, at], low[:, at], above), own.gap[:, at] * (1 - above)
            back = here * slope + push[:, at]
            value = value + (here * level).sum(1) + back @ layer.const
            c = c + torch.nn.functional.pad(back @ layer.matrix, (0, c.shape[1] - layer.matrix.shape[1]))
            behind.insert(0, here)
            line.insert(0, (slope, level))
        ends = [t.flatten() for t in (made.box.lower, made.box.upper)]
        minimiser = torch.where(c > 0, *ends)
        value = value + (c * minimiser).sum(1)
        seen, z = minimiser, []
        for layer, (slope, level) in zip(form.layers, line, strict=True):
            z.append(seen[:, : layer.matrix.shape[1]] @ layer.matrix.T + layer.const)
            seen = torch.cat([seen, slope * z[-1] + level], 1)
        (gradient,) = torch.autograd.grad(value.sum() + 0 * theta.sum(), theta)
        coeff = torch.cat([c[:, :0], *behind], 1).detach()
        entering = torch.cat([c[:, :0], *z], 1).detach()
        every = torch.cat([c, coeff], 1).detach().abs()
        sure = ((every == 0) | (every > DOUBTFUL)).all(1)
        return Reference(value.detach(), gradient, coeff, entering, minimiser.detach(), sure)


def assert_near(mine: Tensor, true: Tensor) -> None:
    """Equal up to rounding in float32, in units of the largest number."""
    size = float(true.abs().max()) + 1.0 if true.numel() else 1.0
    torch.testing.assert_close(mine.double(), true, rtol=0, atol=1e-4 * size)


def assert_trace(
    made: Scene, sub: Subproblems, trace: Trace, seen: tuple[Tensor, Tensor], true: Reference
) -> None:
    assert_near(trace.value, true.value)
    sure = true.sure
    assert_near(seen[0][sure], true.coeff[sure])
    assert_near(seen[1][sure], true.entering[sure])
    assert_near(trace.minimiser[sure].flatten(1), true.minimiser[sure])
    assert bool(made.box.to(torch.float32).contains(trace.minimiser).all())


@everywhere
@examples(4)
@given(SEEDS)
def test_both_walkers_see_the_dual_function_and_its_gradient(name: str, seed: int) -> None:
    made = scene(name, seed)
    source = Source.of(seed + 3)
    for bent, goals, rows in ((False, False, 0), (True, False, 0), (True, True, 0), (True, False, 3)):
        sub = subproblems(made, source, 10, bent=bent, goals=goals)
        if rows:
            made = crossed(made, source, rows)
            sub = weighted(sub, source, rows)
        true = Reference.of(made, sub)
        # The weights are float32 numbers, whose sum is 1 up to rounding.
        allowed = (1e-6 if rows else 1e-9) * (1 + true.value.abs())
        proved = made.reduced.prove(sub, sign_only=False)
        assert bool(((proved <= true.value + allowed * bool(rows)) & (proved >= true.value - allowed)).all())
        for relaxation in (made.reduced, made.layered):
            trace = relaxation.quick_value(sub)
            assert_trace(made, sub, trace, relaxation.seen(sub, trace), true)
            walker, parameters = relaxation.walker(sub), sub.parameters()
            walker.set(parameters)
            trace = walker.walk()
            gradient = walker.gradient(trace, parameters)
            assert_near(gradient[true.sure], true.gradient[true.sure])


def test_most_traces_are_compared() -> None:
    """What the law above leaves out is a small part, for every kind of network but few."""
    share = []
    for name in NAMES:
        made = scene(name, 3)
        sub = subproblems(made, Source.of(4), 40, bent=True)
        share.append(float(Reference.of(made, sub).sure.double().mean()))
    assert sorted(share)[2] > 0.5


@everywhere
@examples(3)
@given(SEEDS)
def test_an_ascent_reports_what_is_proved_though_forms_are_dropped_on_the_way(name: str, seed: int) -> None:
    made = scene(name, seed)
    relaxation = made.reduced
    sub = subproblems(made, Source.of(seed + 4), 9)
    start = relaxation.quick_value(sub).value
    goal = float(start.median())
    end = relaxation.ascend(sub, steps=4, rates=Rates(), goal=goal)
    assert torch.equal(end.reached, end.value > goal)
    assert bool((end.reached | (start <= goal)).all())
    assert bool((end.value >= start - 1e-5 * (1 + start.abs())).all())
    proved = relaxation.prove(sub[end.reached].using(end.theta[end.reached]))
    assert_near(end.value[end.reached], proved)
    left = ~end.reached
    assert (end.trace is None) == (not bool(left.any()))
    if end.trace is not None:
        again = relaxation.quick_value(sub[left].using(end.theta[left]))
        for mine, other in zip(trace_parts(end.trace), trace_parts(again), strict=True):
            torch.testing.assert_close(mine, other)


def trace_parts(trace: Trace) -> tuple[Tensor, ...]:
    return trace.value, trace.form, trace.coeff[0], trace.entering[0], trace.minimiser


@everywhere
@examples(3)
@given(SEEDS)
def test_any_parameters_bound_the_form_where_the_splits_hold(name: str, seed: int) -> None:
    made = scene(name, seed)
    source = Source.of(seed + 5)
    x = random_points(seed, made.box, 400)
    z = torch.cat([t for _, t in layers_of(made.form, made.network, x)][:-1] or [x.new_zeros(len(x), 0)], 1)
    for goals in (False, True):
        sub = subproblems(made, source, 8, goals=goals)
        better = made.reduced.ascend(sub, steps=3, rates=Rates(), goal=1e9).theta
        form = made.reduced.coeff[sub.task] @ made.network(x).T + made.reduced.const[sub.task].unsqueeze(1)
        inside = (z.unsqueeze(0) * sub.sign.unsqueeze(1) >= 0).all(2)
        what = form
        if sub.goal is not None:
            # What is bounded then is the neuron, where the form is not positive.
            what, inside = sub.goal.double() @ z.T, inside & (form <= 0)
        # Numbers that are no slopes and no multipliers are taken for the nearest ones that are.
        for theta in (sub.theta, better, 4 * sub.theta - 2):
            proved = made.reduced.prove(sub.using(theta), sign_only=False).unsqueeze(1)
            assert bool((~inside | (proved <= what + 1e-12 * (1 + what.abs()))).all())


@pytest.mark.parametrize(
    "name", ["conv_net", "pooled_net", "residual_conv", "pruned", "images", "mixed", "mlp"]
)
@examples(3)
@given(SEEDS)
def test_operations_applied_as_they_are_equal_their_matrix(name: str, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for price in (1e9, 0):
            patch.setattr(walks, "CONVOLUTION", price)
            found.append(scene(name, seed))
        by_matrix, as_is = found
    prefix = as_is.reduced.quick.prefix
    assert by_matrix.reduced.quick.prefix is None
    if prefix is None:
        # The first ReLU has no unstable neuron.
        assert not by_matrix.form.layers or by_matrix.form.layers[0].relu != by_matrix.network.relus[0]
        return
    layer = as_is.form.layers[0]
    source = Source.of(seed + 6)
    x, c = (source.normal(5, n).float() for n in (as_is.form.inputs, len(layer.neuron)))
    assert_near(prefix.linear(x), x.double() @ layer.matrix.T)
    assert_near(prefix.pull(c), c.double() @ layer.matrix)
    sub = subproblems(as_is, source, 8, bent=True)
    traces = [t.reduced.quick_value(sub) for t in found]
    true = Reference.of(as_is, sub)
    for trace in traces:
        assert_trace(as_is, sub, trace, as_is.reduced.seen(sub, trace), true)


def test_only_chains_of_affine_operations_are_applied_as_they_are() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(walks, "CONVOLUTION", 0)
    network = network_of("residual_conv", 1).to(torch.float32)
    first, second = network.relus
    assert Prefix.of(network, first, torch.tensor([0])) is not None
    assert Prefix.of(network, second, torch.tensor([0])) is None
    patch.undo()
    # A matrix of few rows costs less than the convolution.
    assert Prefix.of(network_of("images", 1).to(torch.float32), 2, torch.tensor([0])) is None


# Answers.


def answers(network: Network, problem: Problem, price: float, how: Cascade) -> list[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "_NEURON", price)
        found = list(decide(network, problem, budget=Budget(seconds=20), how=how))
    return sorted(found, key=lambda o: o.index)


BARE = {"attack_steps": 0, "attack_restarts": 0, "alpha_steps": 0, "tighten_steps": 0}
WAYS = {
    "bare": Cascade(**BARE),
    "tight": Cascade(search=Settings(batch=3, candidates=3, refresh=1, refresh_after=0, refresh_layers=0)),
    "leaves": Cascade(**BARE, search=Settings(batch=8, steps=1, goal=1e30)),
}
# Without ReLUs the layered search has nothing to walk through.
WITH_RELUS = [name for name in NAMES if name != "affine"]
ASKED = [(name, seed, (way,)) for name in WITH_RELUS for seed, way in ((6, "bare"), (8, "tight"))]
ASKED += [("residual_mlp", 3, ("leaves",)), ("conv_net", 4, ("leaves",))]


def test_answers_are_the_same_with_either_form_and_the_exact_ones() -> None:
    searched = set()
    for name, seed, ways in ASKED:
        network = network_of(name, seed, relus=8)
        box = random_box(seed, network, radius={"images": 0.03, "mixed": 0.1}.get(name, 0.8))
        margin = random_margin(seed, network.outputs, most_rows=1 + seed % 2)
        exact = minimum(network, box, margin)
        by = torch.tensor([[0.03 - exact.upper], [-0.03 - exact.upper]], dtype=F64)
        hard = Margin(margin.matrix.expand(2, -1, -1), margin.offset + by, margin.clause)
        item = torch.zeros(2, dtype=torch.int64)
        problem = Problem(box[item], hard, box[item].centre)
        for way in ways:
            always, never = (answers(network, problem, price, WAYS[way]) for price in (1e9, -1e9))
            for outcome in (*always, *never):
                assert outcome.verdict is not Verdict.UNKNOWN
                assert (outcome.verdict is Verdict.CERTIFIED) == (outcome.index == 0)
                assert outcome.lower <= exact.upper + float(by[outcome.index]) + 1e-6
            searched |= {name for outcome in always if outcome.nodes}
    assert len(searched) >= 7


def test_the_reduced_form_is_used_where_it_is_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(
        cascade, "reduce", lambda *args, **options: used.append(1) or reduce(*args, **options)
    )
    made = scene("mlp", 1)
    least = float(made.network(random_points(1, made.box, 500))[:, 0].min())
    row = torch.eye(made.network.outputs, dtype=F64)[:1].reshape(1, 1, -1)
    margin = Margin(row, torch.tensor([[0.01 - least]], dtype=F64), torch.zeros(1, dtype=torch.int64))
    problem = Problem(made.box, margin, made.box.centre)
    for price, count in ((1e9, 1), (-1e9, 0)):
        used.clear()
        answers(made.network, problem, price, Cascade())
        assert len(used) == count


# Edges.


def test_bounds_that_are_not_numbers_are_refused() -> None:
    made = scene("mlp", 1)
    pre = made.reduced.pre[slice(0, 1)]
    v = made.network.relus[0]
    engine = made.reduced.engine
    for low, high in ((torch.nan, 1.0), (-1.0, torch.nan), (torch.nan, torch.nan)):
        lower, upper = dict(pre.lower), dict(pre.upper)
        lower[v], upper[v] = torch.full_like(lower[v], low), torch.full_like(upper[v], high)
        with pytest.raises(ValueError, match=f"ReLU {v}"):
            reduce(engine, made.box, PreActivation(lower, upper))
    with pytest.raises(ValueError, match="one box"):
        reduce(engine, made.reduced.box, made.reduced.pre)


def test_infinite_bounds_prove_nothing() -> None:
    made = scene("mlp", 1)
    pre = made.reduced.pre
    v = made.network.relus[-1]
    for low, high in ((-torch.inf, torch.inf), (-torch.inf, 1.0), (-1.0, torch.inf)):
        lower, upper = dict(pre.lower), dict(pre.upper)
        lower[v], upper[v] = torch.full_like(lower[v], low), torch.full_like(upper[v], high)
        wide = PreActivation(lower, upper)
        form = reduce(made.reduced.engine, made.box, wide[slice(0, 1)])
        given = made.reduced.engine, made.reduced.box, made.reduced.coeff, made.reduced.const, wide
        relaxation = type(made.reduced).of(*given, form)
        assert relaxation.prove(relaxation.root()).tolist() == [-torch.inf] * 2


def test_a_box_of_one_point_has_no_unstable_neuron() -> None:
    for name in NAMES:
        network = network_of(name, 3)
        x = Source.of(1).uniform(1, *network.input_shape)
        made = scene_of(network, Box(x, x), Source.of(2))
        root = made.reduced.root()
        exact = made.reduced.coeff @ network(x)[0] + made.reduced.const
        if made.form.width == 0:
            torch.testing.assert_close(made.reduced.prove(root), exact, rtol=1e-9, atol=1e-9)
            assert_near(made.reduced.quick_value(root).value, exact)
            assert len(made.reduced.ascend(root, steps=2, rates=Rates(), goal=1e9).value) == 2
        assert bool((made.reduced.prove(root) <= exact).all())
