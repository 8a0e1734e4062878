"""What holds of every score: the model is left alone, the generator decides, pruned weights do not count."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net import zoo
from certiprune.net.prunable import prunable
from certiprune.prune import Calibration, prune, scores, select
from certiprune.train import losses
from helpers.networks import Source
from helpers.pruned import pruned_and_mask
from helpers.scoring import images, scored, weights
from helpers.training import Own

# What makes them quick.
OPTIONS: dict[str, dict[str, Any]] = {"hydra": {"epochs": 2}, "synflow": {"iterations": 4}}
NAMES = [name for name in scores.names() if not scores.build(name).of_units]
ZOO = {"cnn_small": 0.3, "cnn_b": 0.05, "cnn7": 0.1, "resnet": 0.15, "mlp": 0.05}
EPS = 0.03


def built(name: str) -> nn.Module:
    return zoo.build(zoo.ModelSpec(name, (1, 8, 8), 3, (0.4,), (0.3,), width=ZOO[name]))


def data(loss: str = "ibp", n: int = 14) -> Calibration:
    return Calibration(images(n, (1, 8, 8)), losses.build(loss), EPS, 8)


def half(model: nn.Module) -> Mask:
    source = Source.of(4)
    return Mask({n: source.uniform(*kept.shape) < 0.5 for n, kept in weights(model).items()})


def every(name: str, model: nn.Module, mask: Mask, seed: int = 0, **more: Any) -> scores.Scores:
    keep = max(1, mask.kept // 3)
    return scored(name, model, mask, more.pop("data", data()), keep=keep, seed=seed, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("model", ZOO)
@pytest.mark.parametrize("name", NAMES)
def test_all_networks_can_be_scored_and_pruned(name: str, model: str) -> None:
    network = built(model)
    mask = weights(network)
    found = every(name, network, mask)
    assert {n: s.shape for n, s in found.items()} == {n: m.shape for n, m in mask.items()}
    values = torch.cat([s.double().flatten() for s in found.values()])
    assert len(values.unique()) > 0.2 * len(values), "it ranks"
    assert select(found, mask, keep=mask.kept // 3).kept == mask.kept // 3


@pytest.mark.parametrize("loss", ["natural", "pgd", "gradalign", "crown_ibp", "mtl_ibp"])
@pytest.mark.parametrize("name", ["snip", "taylor", "grasp", "hydra"])
def test_all_kinds_of_losses_can_be_asked(name: str, loss: str) -> None:
    network = built("resnet")
    mask = Mask.ones(network, prunable(network))
    found, other = (every(name, network, mask, data=data(which)) for which in (loss, "ibp"))
    assert any(not torch.equal(found[n], other[n]) for n in mask) or loss == "crown_ibp"  # which ends as IBP


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_left_exactly_as_it_was(name: str) -> None:
    network = built("resnet").train()
    network.get_submodule("block1").eval()
    network.get_parameter("hidden.weight").requires_grad_(False)
    network.get_parameter("conv.weight").grad = torch.ones_like(network.get_parameter("conv.weight"))
    state, global_state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    modes = [module.training for module in network.modules()]
    asking = [parameter.requires_grad for parameter in network.parameters()]
    every(name, network, half(network))
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == asking
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert list(gradients) == ["conv.weight"]
    assert torch.equal(gradients["conv.weight"], torch.ones_like(gradients["conv.weight"]))
    assert torch.equal(torch.get_rng_state(), global_state)
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


@pytest.mark.parametrize("name", NAMES)
def test_the_mode_it_came_in_does_not_matter(name: str) -> None:
    network = built("resnet")
    mask = weights(network)
    training, evaluation = (every(name, mode(), mask) for mode in (network.train, network.eval))
    assert all(torch.equal(training[n], evaluation[n]) for n in mask)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str) -> None:
    network = built("cnn_small")
    mask = weights(network)
    first, again, other = (every(name, network, mask, seed=seed) for seed in (5, 5, 6))
    assert all(torch.equal(first[n], again[n]) for n in mask)
    differs = any(not torch.equal(first[n], other[n]) for n in mask)
    assert differs == (name not in ("magnitude", "synflow"))


@pytest.mark.parametrize("name", NAMES)
def test_pruned_weights_never_count(name: str) -> None:
    network = built("resnet")
    mask = half(network)
    mask.apply_(network)
    clean = every(name, network, mask)
    for layer, kept in mask.items():
        with torch.no_grad():
            network.get_parameter(layer)[~kept] = 7.0
    garbage = every(name, network, mask)
    assert all(torch.equal(clean[layer][kept], garbage[layer][kept]) for layer, kept in mask.items())
    assert select(garbage, mask, keep=mask.kept // 3).nested_in(mask)


class Unused(nn.Module):
    """A layer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.flat = nn.Linear(16, 3), nn.Linear(4, 4), nn.Flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(self.flat(x))


@pytest.mark.parametrize("name", ["snip", "taylor", "grasp", "synflow"])
def test_weights_that_the_loss_does_not_reach_score_zero(name: str) -> None:
    torch.manual_seed(0)
    network = Unused()
    some = Calibration(images(14), batch_size=8)
    found = scored(
        name, network, weights(network), some, keep=64, **({"iterations": 1} if name == "synflow" else {})
    )
    assert not found["idle.weight"].any()
    assert found["used.weight"].any()
    alone = scored(name, network, Mask.ones(network, ["idle.weight"]), some, keep=16)
    assert not alone["idle.weight"].any()


@pytest.mark.parametrize("name", ["snip", "taylor", "grasp", "hydra"])
def test_dropout_draws_no_numbers(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).train()
    mask, some = weights(network), Calibration(images(14), batch_size=8)
    before = torch.get_rng_state()
    first, again = (every(name, network, mask, data=some) for _ in range(2))
    assert all(torch.equal(first[n], again[n]) for n in mask)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_users_network_in_float64_is_as_good(name: str) -> None:
    torch.manual_seed(0)
    network = Own()
    some = Calibration(images(14), losses.build("ibp"), EPS, 8)
    mask = weights(network)
    single, double = (every(name, mode(), mask, data=some) for mode in (network.float, network.double))
    for layer in mask:
        largest = float(double[layer].abs().max())
        if name not in ("hydra", "synflow"):  # where two ranks may change places
            torch.testing.assert_close(single[layer].double(), double[layer], rtol=0, atol=1e-3 * largest)


@pytest.mark.parametrize("name", ["snip", "taylor", "grasp", "hydra"])
def test_methods_that_need_data_say_so(name: str) -> None:
    network = built("cnn_small")
    assert scores.build(name).needs_data
    with pytest.raises(InputError, match=f"pruning by {name} needs data"):
        prune(network, method=name, amount=0.5)
    with pytest.raises(InputError, match=f"pruning by {name} needs data"):
        every(name, network, weights(network), data=data(n=0))
    with pytest.raises(InputError, match="no batch of at least two images to take gradients on: 1 images"):
        every(name, network, weights(network), data=data(n=1))
    pruned, mask = pruned_and_mask(network, method=name, amount=0.5, data=data(), **OPTIONS.get(name, {}))
    assert mask.kept == mask.total - round(0.5 * mask.total)
    assert int((pruned.get_parameter("conv1.weight") != 0).sum()) == int(mask["conv1.weight"].sum())


def test_synflow_needs_images_for_their_shape_alone() -> None:
    assert not scores.build("synflow").needs_data
    network = built("cnn_small")
    one = Calibration(images(1, (1, 8, 8)))
    assert pruned_and_mask(network, method="synflow", amount=0.5, data=one)[1].kept > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_of_another_model_is_refused(name: str) -> None:
    network = built("cnn_small")
    for mask in (Mask({"other.weight": torch.ones(2).bool()}), Mask({"hidden.weight": torch.ones(2).bool()})):
        with pytest.raises(InputError, match=r"the mask of (other|hidden).weight \(2,\) does not fit"):
            scored(name, network, mask, data(), keep=1)


def test_what_a_round_draws_does_not_depend_on_what_was_drawn_before() -> None:
    # GraSP sets the generator back for each of its gradients, and leaves it as one pass does.
    network = built("cnn_small")
    mask = weights(network)
    states = []
    for name in ("snip", "grasp"):
        source = generator(3)
        scores.build(name).score(network, mask, data("pgd"), keep=1, generator=source)
        states.append(source.get_state())
    assert torch.equal(*states)
