"""The reduced form against rational arithmetic: rows are within their slack, and bounds below what they bound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from certiprune.bounds import Engine, preactivations
from certiprune.bounds.reduced import Layer, Reduced, reduce, reduced_value
from certiprune.core.box import Box
from certiprune.net import Network
from certiprune.net.build import Builder, fold
from certiprune.net.network import Node
from certiprune.net.ops import Affine, Dense, Relu, Scale
from certiprune.verify.relaxation import ReducedRelaxation
from certiprune.verify.subproblem import Subproblems
from helpers.networks import F64, Source, random_points
from helpers.rational import Numbers, exact_values, fractions
from helpers.reduced import scene, scene_of

ZERO = Fraction(0)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def dot(a: Numbers, b: Numbers) -> Fraction:
    """The sum of products; what ``a`` does not reach of ``b`` counts as 0."""
    return sum((s * t for s, t in zip(a, b, strict=False) if s and t), ZERO)


def matrix_of(layer: Layer) -> list[Numbers]:
    return [fractions(row) for row in layer.matrix]


def row_errors(form: Reduced, network: Network, x: Numbers) -> list[list[tuple[Fraction, Fraction]]]:
    """For each layer the rows' distances from the network's values at the point ``x``, with the rows' slacks."""
    values = exact_values(network, x)
    seen, found = list(x), []
    for layer in (*form.layers, form.out):
        known = values[-1] if layer is form.out else values[network.node(layer.relu).inputs[0]]
        true = [known[k] for k in layer.neuron.tolist()]
        rows = [dot(row, seen) + c for row, c in zip(matrix_of(layer), fractions(layer.const), strict=True)]
        far = [abs(a - b) for a, b in zip(rows, true, strict=True)]
        found.append([*zip(far, fractions(layer.slack), strict=True)])
        if layer is not form.out:
            seen += [max(z, ZERO) for z in true]
    return found


def test_slack_covers_what_rounding_does_to_a_row() -> None:
    moved = 0
    for name in ("mlp", "residual_mlp", "conv_net", "pooled_net", "residual_conv", "pruned", "apart"):
        for seed in (1, 5):
            made = scene(name, seed)
            form = made.form
            for x in random_points(seed, made.box, 4)[1:]:
                for errors in row_errors(form, made.network, fractions(x)):
                    assert all(far <= slack for far, slack in errors)
                    moved += sum(far > 0 for far, _ in errors)
            # It must not be so much that proofs suffer.
            assert all(
                bool((layer.slack <= 1e-11 * (1 + layer.size)).all()) for layer in (*form.layers, form.out)
            )
    assert moved >= 40


def wild(seed: int) -> Network:
    """Weights of very different sizes, rows that nearly cancel, and layers that undo each other's scale."""
    source = Source.of(seed)
    b = Builder((3,))
    value, width = 0, 3
    for factor in (1e20, 1e-40, 1e20):
        weight = source.normal(4, width) * 10.0 ** (12 * source.uniform(4, width) - 6)
        weight[1] = -weight[0] * (1 + 1e-9)
        weight[:, 1] = -weight[:, 0]
        bias = None if value else factor * source.normal(4)
        value, width = b.relu(b.emit(Dense(weight * factor, bias), value)), 4
    return b.finish(b.emit(source.dense(2, 4), value))


def test_rows_and_bounds_hold_at_every_scale() -> None:
    tight = 0
    for seed in range(20):
        network, source = wild(seed), Source.of(seed)
        centre = source.normal(1, 3)
        width = 10.0 ** (-9 * float(source.uniform(1)))
        made = scene_of(network, Box(centre - width, centre + width), source)
        root = made.reduced.root()
        proved = [fractions(made.reduced.prove(root, sign_only=s)) for s in (True, False)]
        for x in random_points(seed, made.box, 6)[2:]:
            exact = fractions(x)
            for errors in row_errors(made.form, network, exact):
                assert all(far <= slack for far, slack in errors)
            outputs = exact_values(network, exact)[-1]
            for k, c in enumerate(made.reduced.coeff):
                form = dot(fractions(c), outputs) + fractions(made.reduced.const)[k]
                assert all(value[k] <= form for value in proved)
                tight += form - proved[0][k] < Fraction(1e-3) * (1 + abs(form))
    assert tight >= 40


def test_slack_covers_what_folding_rounded() -> None:
    """Shifts that go through a number next to which they are nothing, folded into one that is not exact."""
    big = 2.0**55
    ops: list[Affine | Relu] = [
        Dense(tensor(1.0, 0.5, -1.0, 0.25).reshape(2, 2), tensor(0.1, 0.2)),
        Relu(),
        Scale(tensor(0.3).squeeze(), tensor(1.3, big)),
        Dense(tensor(1.0, 1.0).unsqueeze(0), tensor(-big)),
    ]
    plain = Network(tuple(Node(op, (k,)) for k, op in enumerate(ops)), (2,))
    folded = fold(plain, plain.output)
    ends = torch.ones(1, 2, dtype=F64)
    engine, box = Engine.of(folded), Box(-ends, ends)
    form = reduce(engine, box, preactivations(engine, box))
    assert form.width == 2
    for x in ([1.0, 1.0], [-1.0, 1.0], [0.3, -0.7]):
        exact = [Fraction(t) for t in x]
        hidden = [max(z, ZERO) for z in exact_values(folded, exact)[1]]
        row = dot(fractions(form.out.matrix), exact + hidden) + fractions(form.out.const)[0]
        far = abs(row - exact_values(plain, exact)[-1][0])
        assert Fraction(0.01) < far <= Fraction(float(form.out.slack))


# The trusted function on reduced forms made by hand, whose rows are exact.


def by_hand(low: Tensor, high: Tensor, *rows: tuple[Tensor, Tensor]) -> Reduced:
    """The form of exact ``rows`` (matrix, constants), the last ones of the outputs, in a box given by its ends."""
    largest = torch.maximum(low.abs(), high.abs())
    a, b = low, high
    layers, reach, at = [], [], 0
    for number, (matrix, const) in enumerate(rows):
        size = matrix.abs() @ torch.maximum(a.abs(), b.abs())[: matrix.shape[1]] + const.abs()
        neuron = torch.arange(len(const))
        layers.append(
            Layer(number, neuron, slice(at, at + len(const)), matrix, const, torch.zeros_like(const), size)
        )
        at += len(const)
        # Ends of what enters, and of what either line makes of it.
        width = matrix.shape[1]
        z = [
            matrix.clamp(min=0) @ s[:width] + matrix.clamp(max=0) @ t[:width] + const
            for s, t in ((a, b), (b, a))
        ]
        if number + 1 < len(rows):
            reach.append(torch.maximum(z[0].abs(), z[1].abs()) - z[0].clamp(max=0))
        a, b = torch.cat([a, z[0]]), torch.cat([b, z[1].clamp(min=0)])
    box = Box(low.unsqueeze(0), high.unsqueeze(0))
    return Reduced(box, tuple(layers[:-1]), layers[-1], largest, torch.cat([low[:0], *reach]))


def exact_dual(form: Reduced, coeff: Tensor, const: Tensor, *lines: Tensor) -> Fraction:
    """The dual function of one form (all arguments without their first dimension), in rational arithmetic."""
    low, up, gap, push = (fractions(t) for t in lines)

    def add(c: Numbers, factors: Numbers, layer: Layer) -> Fraction:
        for factor, row in zip(factors, matrix_of(layer), strict=True):
            for k, a in enumerate(row):
                c[k] += factor * a
        return dot(factors, fractions(layer.const))

    c = [ZERO] * (form.inputs + form.width)
    total = fractions(const)[0] + add(c, fractions(coeff), form.out)
    for layer in reversed(form.layers):
        back = []
        for j in range(layer.columns.start, layer.columns.stop):
            here = c[form.inputs + j]
            total += min(here, ZERO) * gap[j]
            back.append(here * (low[j] if here > 0 else up[j]) + push[j])
        total += add(c, back, layer)
    ends = [fractions(t) for t in (form.box.lower, form.box.upper)]
    return total + sum((k * (a if k > 0 else b) for k, a, b in zip(c, *ends, strict=False)), ZERO)


Question = tuple[Reduced, list[Tensor]]


def cancelling_rows(source: Source) -> Question:
    """Neurons in pairs whose rows are large, enter with nearly opposite signs, and together leave little."""
    n, k = 3, 6
    low = 1 + source.uniform(n)
    high = low + 1e-9
    weight = 1e6 * source.normal(k, n)
    weight[1::2] = -weight[::2] * (1 + 1e-9 * source.normal(k // 2, 1))
    const = -weight @ low
    out = source.normal(1, k).abs()
    out[:, 1::2] = out[:, ::2]
    form = by_hand(
        low, high, (weight, const), (torch.cat([torch.zeros(1, n, dtype=F64), out], 1), tensor(0.0))
    )
    one = torch.ones(k, dtype=F64)
    return form, [tensor(1.0), tensor(0.0), 0.7 * one, one, 0 * one, 0 * one]


def cancelling_outputs(source: Source) -> Question:
    """Outputs with large rows that the form weighs so that little is left."""
    n = 4
    low = 1 + source.uniform(n)
    weight, const = 1e6 * source.normal(4, n), 1e6 * source.normal(4)
    coeff = source.normal(4)
    weight[3] = -(coeff[:3] @ weight[:3]) / coeff[3]
    const[3] = -(coeff[:3] @ const[:3]) / coeff[3]
    form = by_hand(low, low, (weight, const))
    return form, [coeff, tensor(0.0), *[low[:0]] * 4]


def cancelling_pushes(source: Source) -> Question:
    """Neurons far below 0 whose coefficient a goal takes away again."""
    k = 5
    low, high = tensor(-1e9), tensor(1.0)
    weight = 0.5 + source.uniform(k, 1)
    out = source.uniform(1, k)
    slope = source.uniform(k)
    push = -(out[0] * slope)
    # The last place of each product is lost; some pushes are the next number below.
    push = torch.where(source.uniform(k) < 0.5, torch.nextafter(push, push * 2), push)
    zero = torch.zeros(k, dtype=F64)
    form = by_hand(
        low, high, (weight, zero), (torch.cat([torch.zeros(1, 1, dtype=F64), out], 1), tensor(0.0))
    )
    # What really comes out of them is small.
    form = replace(form, out=replace(form.out, size=out @ weight[:, 0]))
    return form, [tensor(1.0), tensor(0.0), slope, 1e-9 * torch.ones(k, dtype=F64), zero + 1.0, push]


ALLOWED = {
    "size": lambda form: replace(form, layers=tuple(replace(t, size=0 * t.size) for t in form.layers)),
    "outputs": lambda form: replace(form, out=replace(form.out, size=0 * form.out.size)),
    "reach": lambda form: replace(form, reach=0 * form.reach),
}


@pytest.mark.parametrize(
    ("make", "needed"),
    [(cancelling_rows, "size"), (cancelling_outputs, "outputs"), (cancelling_pushes, "reach")],
)
def test_no_bound_is_above_the_exact_dual_value_but_without_each_allowance_some_are(
    make, needed: str
) -> None:  # type: ignore[no-untyped-def]
    fooled = 0
    for seed in range(40):
        form, question = make(Source.of(seed))
        exact = exact_dual(form, *question)
        batch = [t.unsqueeze(0) if k != 1 else t for k, t in enumerate(question)]
        assert Fraction(float(reduced_value(form, *batch))) <= exact
        fooled += Fraction(float(reduced_value(ALLOWED[needed](form), *batch))) > exact
    assert fooled >= 4


@pytest.mark.parametrize("seed", range(12))
def test_random_forms_are_within_rounding_of_the_exact_dual_value(seed: int) -> None:
    """Three layers of which none sees all that comes before it, and every kind of line, push and scale."""
    source = Source.of(seed)
    scale = 10.0 ** (40 * float(source.normal(1)))
    n, sizes = 3, (4, 3, 2, 2)
    rows, width = [], n
    for number, k in enumerate(sizes):
        seen = width if number != 1 else n
        rows.append(
            (scale ** (number == 0) * source.normal(k, seen), scale ** (number == 0) * source.normal(k))
        )
        width += k
    low = source.normal(n)
    form = by_hand(low, low + source.uniform(n), *rows)
    w = form.width
    question = [source.normal(2), source.normal(1), source.uniform(w), source.uniform(w), scale * source.uniform(w),
                source.normal(w) * (source.uniform(w) < 0.4)]  # fmt: skip
    exact = exact_dual(form, *question)
    batch = [t.unsqueeze(0) if k != 1 else t for k, t in enumerate(question)]
    value = float(reduced_value(form, *batch))
    assert Fraction(value) <= exact
    assert exact - Fraction(value) <= Fraction(1e-11) * (1 + max(abs(exact), Fraction(scale)))


def test_a_weight_that_underflows_times_a_multiplier_is_not_forgotten() -> None:
    """The second output is so large, and its weight so small, that times the multiplier nothing is left of the weight.

    Where the form w_1 y_1 - w_2 y_2 <= 0 the neuron may be below 0; a bound that forgets y_2 says otherwise.
    """
    b = Builder((2,))
    hidden = b.relu(b.emit(Dense(tensor(1.0, 0.0).unsqueeze(0), None), 0))
    large = b.emit(Dense(tensor(0.0, 1e274, 0.0, 1e308).reshape(2, 2), None), 0)
    network = b.finish(b.add(large, b.emit(Dense(tensor(1.0, 0.0).unsqueeze(1), None), hidden)))
    box = Box(tensor(-1e-18, 1.0).unsqueeze(0), tensor(1e-18, 1.0).unsqueeze(0))
    engine = Engine.of(network)
    pre = preactivations(engine, box)
    form = reduce(engine, box, pre)
    assert form.width == 1
    coeff = tensor(1e-266, -1e-300).unsqueeze(0)
    x = fractions(tensor(-1e-18, 1.0))
    outputs = exact_values(network, x)[-1]
    assert dot(fractions(coeff), outputs) <= 0
    relaxation = ReducedRelaxation.of(engine, box, coeff, tensor(0.0), pre, form)
    root = relaxation.root()
    theta = torch.tensor([[0.5, 2e-24]])
    sub = Subproblems(root.task, theta, root.sign, root.lower, root.upper, torch.ones(1, 1))
    assert Fraction(max(float(relaxation.prove(sub, sign_only=False)), -1e300)) <= x[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_bound_holds_for_all_rows_within_their_slack(seed: int) -> None:
    source = Source.of(seed)
    rows = [
        (source.normal(3, 2), source.normal(3)),
        (source.normal(2, 5), source.normal(2)),
        (source.normal(2, 7), source.normal(2)),
    ]
    low = source.normal(2)
    form = by_hand(low, low + source.uniform(2), *rows)
    question = [
        source.normal(2),
        source.normal(1),
        source.uniform(5),
        source.uniform(5),
        source.uniform(5),
        source.normal(5),
    ]
    batch = [t.unsqueeze(0) if k != 1 else t for k, t in enumerate(question)]
    layers = (*form.layers, form.out)
    for number, layer in enumerate(layers):
        slack = 0.1 * source.uniform(len(layer.const))
        loose = [replace(t, slack=slack) if t is layer else t for t in layers]
        value = float(reduced_value(replace(form, layers=tuple(loose[:-1]), out=loose[-1]), *batch))
        for sign in source.normal(8, len(slack)).sign():
            moved = [
                replace(t, const=t.const + sign * slack) if k == number else t for k, t in enumerate(layers)
            ]
            assert (
                value
                <= float(exact_dual(replace(form, layers=tuple(moved[:-1]), out=moved[-1]), *question)) + 1e-9
            )
