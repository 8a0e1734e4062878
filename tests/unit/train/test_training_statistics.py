"""Statistics of bounds: against independent computations on a tiny network, and without a trace in training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Dataset, Split
from certiprune.net.zoo import ModelSpec, build
from certiprune.train import (
    Capture,
    Plan,
    Statistics,
    TrainState,
    accuracy,
    losses,
    pgd_accuracy,
    statistics,
    train,
)
from certiprune.train.statistics import (
    MEASURES,
    QUANTILES,
    bound_statistics,
    ibp_accuracy,
    width_quantiles,
)
from certiprune.train.tensorboard import TensorBoard, writer

EPS = 0.03
PLAN = Plan(4, batch_size=32, learning_rate=0.02, eps=EPS, eps_length=2)


@pytest.fixture
def trained(spec: ModelSpec, dataset: Dataset) -> tuple[nn.Module, Dataset]:
    """A network some of whose images are certified, with channels of either sign and one of scale 0."""
    model = build(spec)
    with torch.no_grad():
        model.get_parameter("norm1.weight")[0] *= -1
    plan = Plan(8, batch_size=32, learning_rate=0.02, eps=EPS, eps_length=2)
    train(model, losses.build("ibp"), dataset, plan)
    with torch.no_grad():
        model.get_parameter("norm2.weight")[1] = 0
    return model, dataset


def layer_by_layer(
    model: nn.Module, images: Tensor
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, Tensor]:
    """Lower and upper ends before each module, and of the outputs, by the modules' own arithmetic in float64.

    An affine map is applied to the box's centre, and its radius is pushed through absolute weights read off the
    module's derivative: |A| r = sum_j |A e_j| r_j, neuron by neuron.
    """
    low, high = (images - EPS).clamp(0, 1), (images + EPS).clamp(0, 1)
    ends = {}
    for name, module in model.named_children():
        ends[name] = (low, high)
        if isinstance(module, nn.ReLU):
            low, high = low.relu(), high.relu()
            continue
        centre, radius = (low + high) / 2, (high - low) / 2
        units = torch.eye(centre[0].numel(), dtype=centre.dtype).reshape(-1, *centre.shape[1:])
        zero = module(torch.zeros_like(units[:1]))
        columns = (module(units) - zero).abs().flatten(1)
        reach = (radius.flatten(1) @ columns).reshape(-1, *zero.shape[1:])
        centre = module(centre)
        low, high = centre - reach, centre + reach
    return ends, low, high


def test_layers_equal_an_independent_computation(trained: tuple[nn.Module, Dataset]) -> None:
    model, dataset = trained
    split = dataset.validation.head(9)
    found = bound_statistics(model, split, EPS, crown=False)
    double = build(ModelSpec("cnn_small", (1, 8, 8), 4, (0.4,), (0.3,), width=0.5)).double().eval()
    double.load_state_dict(
        {k: v.double() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    )
    with torch.no_grad():
        ends, _, _ = layer_by_layer(double, split.images.double())
    assert [layer.name for layer in found.layers] == ["relu1", "relu2", "relu3"]
    for layer, name in zip(found.layers, ("relu1", "relu2", "relu"), strict=True):
        low, high = ends[name]
        assert layer.unstable == pytest.approx(float(((low < 0) & (high > 0)).double().mean()), abs=1e-9)
        assert layer.product == pytest.approx(float(-(low * high).mean()), rel=1e-4)
        assert layer.rs == pytest.approx(float(-torch.tanh(1 + low * high).mean()), rel=1e-4)
        assert layer.width == pytest.approx(float((high - low).mean() / 2), rel=1e-4)
        if name == "relu":
            assert math.isnan(layer.nrs) and math.isnan(layer.width_before)
            continue
        number = layer.name[-1]
        before_low, before_high = ends[f"norm{number}"]
        width = (before_high - before_low) / 2
        scale = double.get_parameter(f"norm{number}.weight").detach().reshape(-1, 1, 1)
        kept = (scale != 0).flatten()
        assert layer.width_before == pytest.approx(float(width[:, kept].mean()), rel=1e-4)
        product = low * high / scale.square().clamp(min=1e-12)
        assert layer.nrs == pytest.approx(float(-torch.tanh(1 + product).mean()), rel=1e-3)
    assert found.layers[1].width_before > 0 and not bool(model.get_parameter("norm2.weight")[1])


def test_widths_are_spread_as_their_sorted_list_says(
    trained: tuple[nn.Module, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset = trained
    monkeypatch.setattr(
        statistics, "_BATCH", 4
    )  # an image counts as much in a batch of one as in one of four
    split = dataset.validation.head(9)
    found = width_quantiles(model, split, EPS)
    double = build(ModelSpec("cnn_small", (1, 8, 8), 4, (0.4,), (0.3,), width=0.5)).double().eval()
    double.load_state_dict(
        {k: v.double() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    )
    with torch.no_grad():
        ends, _, _ = layer_by_layer(double, split.images.double())
    assert list(found) == ["relu1", "relu2", "relu3"]
    for layer, name in zip(found.values(), ("relu1", "relu2", "relu"), strict=True):
        low, high = ends[name]
        images = [np.quantile((high - low)[k].flatten().numpy(), QUANTILES) for k in range(9)]
        assert layer == pytest.approx(np.mean(images, axis=0), rel=1e-4, abs=1e-6)
        assert list(layer) == sorted(layer)
    # One of relu2's eight channels has the scale 0: nothing moves it, at the batch's end as little as before.
    assert found["relu2"][:2] == (0.0, 0.0) and found["relu2"][3] > 0


def test_widths_of_four_neurons_by_hand() -> None:
    """z_k = k x for k = 1, 2, 4, 9 and x in an interval of width 0.2, or at the domain's edge 0.1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[9.0], [1.0], [-4.0], [2.0]]))
    split = Split(torch.tensor([0.5, 0.0]).reshape(2, 1, 1, 1), torch.tensor([0, 1]))
    (quantiles,) = width_quantiles(model, split, 0.1).values()
    # Places 0, 0.15, 0.75, 1.5, 2.25, 2.85 and 3 of 1, 2, 4, 9; the mean of both images' widths is 0.15.
    assert quantiles == pytest.approx([0.15 * q for q in (1, 1.15, 1.75, 3, 5.25, 8.25, 9)], rel=1e-5)
    with pytest.raises(InputError, match="no images to measure the widths"):
        width_quantiles(model, split.head(0), 0.1)


def test_fractions_equal_those_of_every_image_alone(trained: tuple[nn.Module, Dataset]) -> None:
    model, dataset = trained
    split = dataset.validation
    found = bound_statistics(model, split, EPS)
    alone = [bound_statistics(model, split[torch.tensor([k])], EPS) for k in range(len(split))]
    assert found.clean == accuracy(model, split) == sum(one.clean for one in alone) / len(alone)
    assert found.ibp == ibp_accuracy(model, split, EPS) == sum(one.ibp for one in alone) / len(alone)
    assert found.crown == sum(one.crown for one in alone) / len(alone)
    assert 0 < found.ibp < found.clean and 0 < found.crown <= found.clean
    for position, layer in enumerate(found.layers):
        for name in MEASURES:
            mean = sum(getattr(one.layers[position], name) for one in alone) / len(alone)
            assert getattr(layer, name) == pytest.approx(mean, rel=1e-4, nan_ok=True)


def test_a_network_with_one_relu_layer_is_bounded_by_crown_as_by_hand() -> None:
    """f = relu(x) (-1, 1) with x in one pixel: by hand, the margin's lower bound is that of one line."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.relu, self.outer = nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)
            with torch.no_grad():
                self.inner.weight.fill_(1.0), self.inner.bias.fill_(-0.5)
                (
                    self.outer.weight.copy_(torch.tensor([[-1.0], [1.0]])),
                    self.outer.bias.copy_(torch.tensor([0.1, 0.0])),
                )

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.relu(self.inner(x.flatten(1))))

    # z = x - 0.5 in [-0.1, 0.3]: relu(z) <= 0.75 (z + 0.1) <= 0.3, and f_0 - f_1 = 0.1 - 2 relu(z) >= -0.5.
    images = torch.full((1, 1, 1, 1), 0.6)
    assert bound_statistics(One(), Split(images, torch.tensor([1])), 0.2).crown == 0.0
    # z in [-0.05, 0.01]: relu(z) <= 0.01 by either, so the margin of class 0 is at least 0.08.
    images = torch.full((1, 1, 1, 1), 0.48)
    found = bound_statistics(One(), Split(images, torch.tensor([0])), 0.03)
    assert (found.clean, found.ibp, found.crown) == (1.0, 1.0, 1.0)
    assert found.layers[0].unstable == 1.0 and found.layers[0].width == pytest.approx(0.03)


@pytest.mark.parametrize("trial", range(3))
def test_crown_bounds_are_those_of_a_walk_by_hand(trained: tuple[nn.Module, Dataset], trial: int) -> None:
    """Coefficients pulled back by automatic differentiation through fixed lines, in place of ``dual_value``."""
    model, dataset = trained
    split = dataset.validation[torch.arange(trial, 40, 3)]
    with torch.no_grad():
        ends, _, _ = layer_by_layer(model.eval(), split.images)
    certified = 0
    for k, label in enumerate(split.labels.tolist()):
        box = Box((split.images[k : k + 1] - EPS).clamp(0, 1), (split.images[k : k + 1] + EPS).clamp(0, 1))
        bounds = []
        for other in set(range(4)) - {label}:
            # From the output to the input, each step a vector-Jacobian product at 0.
            form, const = torch.zeros(1, 4), 0.0
            form[0, label], form[0, other] = 1.0, -1.0
            for name, module in reversed(list(model.named_children())):
                low, high = (t[k : k + 1] for t in ends[name])
                if isinstance(module, nn.ReLU):
                    on, off = (low >= 0).float(), (high <= 0).float()
                    mixed = 1 - on - off
                    up = on + mixed * high / (high - low).clamp(min=1e-12)
                    down = on + mixed * (high > -low).float()
                    const += float((form.clamp(max=0) * mixed * -up * low).sum())
                    form = form.clamp(min=0) * down + form.clamp(max=0) * up
                    continue
                point = torch.zeros_like(low).requires_grad_()
                value = module(point)
                const += float((form * value).sum().detach())
                (form,) = torch.autograd.grad((form * value).sum(), point)
            bounds.append(
                const + float((form.clamp(min=0) * box.lower + form.clamp(max=0) * box.upper).sum())
            )
        certified += min(bounds) > 0
    assert bound_statistics(model, split, EPS).crown == certified / len(split)


def same(one: TrainState, other: TrainState) -> bool:
    pairs = ((one.model, other.model), (one.optimizer, other.optimizer), (one.chosen, other.chosen))
    return all(set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


@pytest.mark.parametrize("name", ["fgsm", "ibp"])
def test_they_change_nothing_of_the_training(spec: ModelSpec, dataset: Dataset, name: str) -> None:
    before = torch.random.get_rng_state()
    plain = train(build(spec), losses.build(name), dataset, PLAN, seed=3)
    looked = train(build(spec), losses.build(name), dataset, PLAN, seed=3, statistics=Statistics(1, 2))
    assert same(plain, looked)
    for one, other in zip(plain.history, looked.history, strict=True):
        assert {k: v for k, v in other.metrics.items() if "/" not in k} == one.metrics
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_resumed_training_has_the_same_statistics(spec: ModelSpec, dataset: Dataset) -> None:
    capture, options = Capture([2]), {"seed": 3, "statistics": Statistics(1, 2)}
    loss = losses.build("ibp")
    whole = train(build(spec), loss, dataset, PLAN, callbacks=[capture], **options)  # type: ignore[arg-type]
    resumed = train(build(spec), loss, dataset, PLAN, start=capture.captured[2], **options)  # type: ignore[arg-type]
    assert same(whole, resumed)
    assert [r.metrics for r in whole.history] == [r.metrics for r in resumed.history]


def test_they_are_made_when_they_are_due(model: nn.Module, dataset: Dataset) -> None:
    def due(**settings: int) -> list[tuple[bool, bool]]:
        state = train(
            model, losses.build("fgsm"), dataset, replace(PLAN, epochs=5), statistics=Statistics(**settings)
        )
        return [("statistics/ibp" in r.metrics, "statistics/crown" in r.metrics) for r in state.history]

    yes, some, no = (True, True), (True, False), (False, False)
    assert due(every=1, dear_every=2) == [some, yes, some, yes, yes]
    assert due(every=2, dear_every=4) == [no, some, no, yes, yes]
    assert due(every=1, dear_every=0) == [some, some, some, some, yes]
    assert due(every=0, dear_every=1) == [no] * 5
    state = train(model, losses.build("natural"), dataset, Plan(1), statistics=Statistics())
    assert not any("/" in name for name in state.history[0].metrics)


def test_the_metrics_say_what_the_weights_of_that_epoch_do(spec: ModelSpec, dataset: Dataset) -> None:
    model = build(spec)
    settings = Statistics(images=25, pgd_steps=3)
    state = train(model, losses.build("ibp"), dataset, PLAN, seed=3, statistics=settings)
    some = dataset.validation.head(25)
    found, metrics = bound_statistics(model, some, EPS), state.history[-1].metrics
    attacked = pgd_accuracy(
        model, some, EPS, steps=3, restarts=1, generator=generator(3, "epoch", 3, "statistics")
    )
    measured = [metrics[f"statistics/{name}"] for name in ("clean", "ibp", "crown", "pgd")]
    assert measured == [found.clean, found.ibp, found.crown, attacked]
    layer = found.layers[0]
    assert all(metrics[f"{name}/relu1"] == getattr(layer, name) for name in MEASURES)
    assert "nrs/relu3" not in metrics and "width/relu3" in metrics


class FakeWriter:
    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.flushed = 0

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.scalars.append((tag, scalar_value, global_step))

    def flush(self) -> None:
        self.flushed += 1


def test_tensorboard_gets_every_metric_of_every_epoch(model: nn.Module, dataset: Dataset) -> None:
    fake = FakeWriter()
    state = train(
        model, losses.build("ibp"), dataset, PLAN, statistics=Statistics(), callbacks=[TensorBoard(fake)]
    )
    wanted = [(name, value, r.epoch) for r in state.history for name, value in r.metrics.items()]
    assert fake.scalars == wanted and fake.flushed == 4
    assert {"loss", "statistics/ibp", "unstable/relu1"} <= {tag for tag, _, _ in fake.scalars}


def test_tensorboard_that_is_missing_is_named(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certiprune.train.tensorboard.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed; run: pip install 'certiprune\[tensorboard\]'"):
        writer(tmp_path)  # type: ignore[arg-type]
