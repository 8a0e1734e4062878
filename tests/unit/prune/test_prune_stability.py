"""The stability scores against loops that follow their formulas, and what they say of units that are special."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from certiprune.bounds.ibp import ibp
from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.bounds.preact import PreActivation
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Batch, Split
from certiprune.net import lower
from certiprune.prune import Calibration, Scores, scores
from certiprune.prune.coupling import groups
from certiprune.train.penalties.rs import stability
from certiprune.train.scene import Scene
from helpers.training import own, shaken

EPS = 0.03


def data(n: int = 5, eps: float = EPS, shape: tuple[int, ...] = (1, 4, 4)) -> Calibration:
    random = torch.Generator().manual_seed(5)
    return Calibration(Split(torch.rand(n, *shape, generator=random), torch.zeros(n).long()), eps=eps)


def model(seed: int = 0) -> nn.Module:
    """A residual network whose stem is read by two ReLUs, the second without a BatchNorm right before it."""
    return own(seed).float().eval()


def ranked(name: str, network: nn.Module, given: Calibration, **options: object) -> Scores:
    found = groups(network, layers="all")
    method = scores.build(name, **options)
    return method.score_units(network, found, found.ones(), given, keep=1, generator=generator(4))


def losses(name: str, network: nn.Module, given: Calibration, bounds: str) -> dict[str, list[float]]:
    """The formula, neuron by neuron, from the bounds of the lowered network, by the ReLUs of the known model."""
    lowered = lower(network, shape=given.split.shape)
    images = given.split.images.double()
    box = Box((images - EPS).clamp(0, 1), (images + EPS).clamp(0, 1))
    if bounds == "ibp":
        pre = ibp(lowered, box).pre
    else:
        pre = preactivations(Engine.of(lowered), box, steps=10 if bounds == "alpha-crown" else 0)
    readers = {"first": [(0, "norm1"), (1, None)], "hidden": [(2, "norm3")]}
    found: dict[str, list[float]] = {}
    for group, relus in readers.items():
        sizes = []
        for position, norm in relus:
            value = lowered.relus[position]
            low, high = (t[value].reshape(*t[value].shape[:2], -1) for t in (pre.lower, pre.upper))
            rows = []
            for unit in range(low.shape[1]):
                gamma = 1.0
                if name == "nrs" and norm is not None:
                    gamma = float(network.get_parameter(f"{norm}.weight")[unit].detach())
                terms = [
                    -math.tanh(1 + float(low[i, unit, k]) * float(high[i, unit, k]) / gamma**2)
                    for i in range(low.shape[0])
                    for k in range(low.shape[2])
                ]
                rows.append(sum(terms) / len(terms))
            sizes.append(rows)
        found[group] = [sum(parts) / len(parts) for parts in zip(*sizes, strict=True)]
    return found


@pytest.mark.parametrize("bounds", ["ibp", "crown", "alpha-crown"])
@pytest.mark.parametrize("name", ["rs", "nrs"])
def test_the_score_is_minus_the_mean_loss(name: str, bounds: str) -> None:
    network, given = model(), data()
    expected = losses(name, network, given, bounds)
    found = ranked(name, network, given, bounds=bounds)
    assert set(found) == set(expected)
    for group, rows in expected.items():
        assert (1 - found[group].exp()).tolist() == pytest.approx(rows, abs=2e-4)


@torch.no_grad()
def test_it_is_the_penalty_of_training_for_all_neurons_of_a_layer() -> None:
    network, given = model(), data()
    batch = Batch(given.split.images, given.split.labels)
    scene = Scene.of(network, batch, eps=EPS, generator=generator(0))
    hidden, pre = scene.network.relus[2], scene.bounds.pre
    alone = PreActivation({hidden: pre.lower[hidden]}, {hidden: pre.upper[hidden]})
    for name, units in (("rs", {}), ("nrs", scene.scales)):
        mean = float((1 - ranked(name, network, given)["hidden"].exp()).mean())
        assert mean == pytest.approx(float(stability(alone, units)), abs=1e-5)


def chain(scales: list[float], shifts: list[float], weight: float = 1.0) -> nn.Module:
    """Channels that are BatchNorm's scale times the mean pixel less a half, plus its shift."""
    layers = [nn.Conv2d(1, len(scales), 4, bias=False), nn.BatchNorm2d(len(scales)), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(len(scales), 2)).eval()
    with torch.no_grad():
        network[0].weight.fill_(weight / 16)
        network[1].running_mean.fill_(weight / 2)
        network[1].weight.copy_(torch.tensor(scales))
        network[1].bias.copy_(torch.tensor(shifts))
    return network


def grey(n: int = 3) -> Calibration:
    return Calibration(Split(torch.full((n, 1, 4, 4), 0.5), torch.zeros(n).long()), eps=0.25)


def test_stable_units_rank_above_unstable_ones_on_either_side() -> None:
    network = chain([1.0, 1.0, 1.0, 1.0], [0.0, 0.1, 0.5, -0.5])
    for name in ("rs", "nrs"):
        middle, near, on, off = ranked(name, network, grey())["0"].tolist()
        assert middle < near < on == pytest.approx(off)


def test_nrs_blames_small_scales_and_rs_does_not() -> None:
    network = chain([1.0, 0.1], [0.0, 0.0])
    rs, nrs = (ranked(name, network, grey())["0"] for name in ("rs", "nrs"))
    assert rs[1] > rs[0]
    assert nrs[0] == pytest.approx(float(nrs[1]), rel=1e-4)


def test_constant_units_rank_below_all_others() -> None:
    """Dead ones are the most stable of all, and are in the way of nothing: the first to be removed."""
    network = chain([1.0, 0.0, 0.0, 0.0, 50.0], [0.0, 0.0, 2.0, -3.0, 0.0])
    for name in ("rs", "nrs"):
        for bounds in ("ibp", "crown"):
            live, *dead, wild = ranked(name, network, grey(), bounds=bounds)["0"].tolist()
            assert max(dead) < min(live, wild)


def test_the_most_unstable_units_are_told_apart_where_tanh_rounds_to_one_number() -> None:
    network = chain([1.0, 40.0, 30.0, 400.0], [0.0] * 4)
    found = ranked("rs", network, grey())["0"]
    assert float(torch.tanh(torch.tensor(1 - 7.5**2, dtype=torch.float64))) == -1.0
    assert found.argsort().tolist() == [3, 1, 2, 0]


def test_units_that_no_relu_reads_are_as_stable_as_can_be() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)]
    found = ranked("rs", nn.Sequential(*layers).eval(), data())
    assert found["0"].tolist() == pytest.approx([math.log(2)] * 2)
    assert float(found["1"].max()) <= math.log(2)


def test_flattened_channels_are_read_channel_by_channel() -> None:
    torch.manual_seed(1)
    before = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)]
    after = [before[0], nn.Flatten(), nn.ReLU(), before[3]]
    one, two = (ranked("rs", nn.Sequential(*layers).eval(), data())["0"] for layers in (before, after))
    torch.testing.assert_close(one, two)


def test_the_images_are_the_first_of_a_seeded_order() -> None:
    network, given = model(), data(60)
    few = ranked("nrs", network, given, images=7)
    assert all(torch.equal(few[name], t) for name, t in ranked("nrs", network, given, images=7).items())
    order = torch.randperm(60, generator=generator(4))[:7]
    by_hand = ranked("nrs", network, Calibration(given.split[order], eps=EPS))
    for name in few:
        torch.testing.assert_close(few[name], by_hand[name])
    everything = ranked("nrs", network, given, images=1000)
    assert not torch.allclose(everything["first"], few["first"])


def test_training_mode_does_not_matter_and_nothing_changes() -> None:
    network, given = model(), data()
    expected = ranked("nrs", network, given)
    network.train()
    before: dict[str, Tensor] = {key: t.clone() for key, t in network.state_dict().items()}
    found = ranked("nrs", network, given)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert network.training and all(torch.equal(before[k], t) for k, t in network.state_dict().items())
    assert not any(t.requires_grad for t in found.values())


def test_what_is_wrong_is_said() -> None:
    network = shaken(model(), 0).float()
    found = groups(network)
    units = found.ones()
    with pytest.raises(InputError, match="pruning by nrs needs data"):
        scores.build("nrs").score_units(network, found, units, None, keep=1, generator=generator(0))
    with pytest.raises(InputError, match="pruning by rs needs a radius eps above 0"):
        ranked("rs", network, data(eps=0.0))
    with pytest.raises(
        InputError, match="option bounds of the pruning method rs is 'crwn'; did you mean crown"
    ):
        scores.build("rs", bounds="crwn")
    for wrong in (0, 1.5, True, "many"):
        with pytest.raises(
            InputError, match="option images of the pruning method nrs must be a whole number"
        ):
            scores.build("nrs", images=wrong)
