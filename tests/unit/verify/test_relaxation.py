"""The root relaxation: columns, padding, and subproblems whose questions differ in size."""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.bounds import Engine, interval, preactivations
from certiprune.bounds.optimise import Rates
from certiprune.core.box import Box
from certiprune.net import Network
from certiprune.verify.branching.choose import choose, split
from certiprune.verify.relaxation import LayeredRelaxation, Relaxation
from certiprune.verify.subproblem import Subproblems
from helpers.networks import F64, Source, random_box, random_network


def network_and_boxes() -> tuple[Network, Box]:
    """Three boxes of very different widths, so that their unstable neurons differ in number."""
    network = random_network(10, 16, "mlp")
    centre = Source.of(3).uniform(3, *network.input_shape)
    width = torch.tensor([1e-9, 0.3, 1.5], dtype=F64).unsqueeze(1)
    return network, Box(centre - width, centre + width)


def relaxation() -> Relaxation:
    network, box = network_and_boxes()
    engine = Engine.of(network)
    with torch.no_grad():
        pre = preactivations(engine, box)
    coeff = Source.of(1).normal(3, network.outputs)
    return LayeredRelaxation.of(engine, box, coeff, torch.zeros(3, dtype=F64), pre)


def test_there_is_a_column_for_each_unstable_neuron_and_padding_is_not_free() -> None:
    made = relaxation()
    counts = made.pre.counts()
    assert counts[0] == 0 and counts[1] < counts[2]
    assert made.root().free.sum(1).tolist() == counts.tolist()
    assert made.width >= int(counts.max())


def test_a_root_without_parameters_equals_crown() -> None:
    made = relaxation()
    root = made.root()
    network = made.engine.exact
    x = made.box.centre
    exact = (network(x) * made.coeff).sum(1)
    proved = made.prove(root)
    assert bool((proved <= exact + 1e-9).all())
    torch.testing.assert_close(proved[0], exact[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.quick_value(root).value.double(), proved, rtol=1e-3, atol=1e-3)


def test_each_task_equals_itself_alone() -> None:
    _, box = network_and_boxes()
    made = relaxation()
    engine = made.engine
    together = made.prove(made.root())
    for k in range(3):
        with torch.no_grad():
            pre = preactivations(engine, box[slice(k, k + 1)])
        alone = LayeredRelaxation.of(
            engine, box[slice(k, k + 1)], made.coeff[k : k + 1], made.const[k : k + 1], pre
        )
        torch.testing.assert_close(alone.prove(alone.root()), together[k : k + 1], rtol=1e-4, atol=1e-4)


def all_splits(made: Relaxation, task: int) -> Subproblems:
    """Every pattern of the first four free columns of the task."""
    root = made.root()[torch.tensor([task])]
    free = root.free[0].nonzero()[:4, 0]
    sub = root[torch.zeros(2 ** len(free), dtype=torch.int64)]
    for place, column in enumerate(free.tolist()):
        sign = torch.tensor([1.0 if k >> place & 1 else -1.0 for k in range(len(sub))]).unsqueeze(1)
        sub = split(sub, torch.full((len(sub),), column), sign)
    return sub


def test_optimised_children_are_not_below_their_root() -> None:
    """Multipliers of 0 can make a child worse than its parent; good ones cannot."""
    made = relaxation()
    for task in (1, 2):
        root = made.root()[torch.tensor([task])]
        children = all_splits(made, task)
        end = made.ascend(children, steps=60, rates=Rates(decay=0.97), goal=1e9)
        proved = made.prove(children.using(end.theta))
        assert float(proved.min()) >= float(made.prove(root)) - 1e-3


def test_ascent_reports_what_the_trusted_function_confirms() -> None:
    made = relaxation()
    sub = all_splits(made, 2)
    goal = float(made.prove(sub).median())
    end = made.ascend(sub, steps=12, rates=Rates(), goal=goal)
    assert bool(end.reached.any())
    proved = made.prove(sub[end.reached].using(end.theta[end.reached]))
    assert bool((proved >= goal - 1e-3).all())
    assert bool((end.value[end.reached] > goal).all())
    assert bool((end.value[~end.reached] <= goal).all())


def test_branching_picks_free_neurons_until_none_is_left() -> None:
    made = relaxation()
    for candidates in (1, 3, 100):
        sub = made.root()
        for _ in range(made.width + 1):
            column = choose(made, sub, made.quick_value(sub), candidates)
            free = sub.free
            for k, c in enumerate(column.tolist()):
                assert c == -1 if not bool(free[k].any()) else float(free[k, c]) == 1.0
            sub = split(sub, column.clamp(min=0), _signs(sub, column))
        assert not bool(sub.free.any())


def _signs(sub: Subproblems, column: Tensor) -> Tensor:
    """+1 for the column that was picked; what is at column 0 stays where none was."""
    kept = sub.sign[:, :1]
    return torch.where(column.unsqueeze(1) >= 0, torch.ones_like(kept), kept)


def test_memory_changes_only_the_batches() -> None:
    network, box = network_and_boxes()
    pre = interval(network, box)[0]
    coeff = Source.of(1).normal(3, network.outputs)
    found = []
    for memory in (1, 1 << 30):
        made = LayeredRelaxation.of(
            Engine.of(network, memory=memory), box, coeff, torch.zeros(3, dtype=F64), pre
        )
        assert made.batch() >= 1
        found.append(made.prove(made.root()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_a_network_without_open_neurons_has_no_columns() -> None:
    network = random_network(3, 8)
    box = random_box(3, network, n=2, radius=1e-12)
    pre = interval(network, box)[0]
    coeff = Source.of(1).normal(2, network.outputs)
    made = LayeredRelaxation.of(Engine.of(network), box, coeff, torch.zeros(2, dtype=F64), pre)
    assert made.width == 0
    root = made.root()
    exact = (network(box.centre) * coeff).sum(1)
    torch.testing.assert_close(made.prove(root), exact, rtol=1e-4, atol=1e-4)
    assert choose(made, root, made.quick_value(root), 3).tolist() == [-1, -1]
    made.ascend(root, steps=3, rates=Rates(), goal=1e9)
