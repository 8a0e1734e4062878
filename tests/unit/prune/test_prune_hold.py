"""Weights that were pruned stay zero in anyone's training, and in copies of the model."""

from __future__ import annotations

import io
import pickle
import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn

import certiprune
from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.hold import hold, mask_of, release


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))


@pytest.fixture
def mask(model: nn.Module) -> Mask:
    source = torch.Generator().manual_seed(1)
    names = ("0.weight", "0.bias", "1.weight", "4.weight")
    return Mask({n: torch.rand(model.get_parameter(n).shape, generator=source) < 0.5 for n in names})


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
}


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    source = torch.Generator().manual_seed(2)
    for _ in range(count):
        x, y = torch.rand(8, 1, 6, 6, generator=source), torch.randint(3, (8,), generator=source)
        optimizer.zero_grad()
        # Two passes before one backward pass, as adversarial losses make.
        total = model(x) + model(1 - x)
        nn.functional.cross_entropy(total, y).backward()
        optimizer.step()


def zeros_hold(model: nn.Module, mask: Mask) -> bool:
    return all(bool((model.get_parameter(n)[~keep] == 0).all()) for n, keep in mask.items())


def moved(model: nn.Module, before: dict[str, torch.Tensor], mask: Mask) -> bool:
    state = model.state_dict()
    return all(bool((state[n][keep] != before[n][keep]).any()) for n, keep in mask.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_stay_right_after_every_step(model, mask, optimizer):
    hold(model, mask)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    built = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(3):
        steps(model, built, 1)
        assert zeros_hold(model, mask)
    assert moved(model, before, mask)


def copies(model: nn.Module) -> dict[str, nn.Module]:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return {
        "deepcopy": deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),
        "saved": torch.load(file, weights_only=False),
    }


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "saved"])
def test_copies_hold_on_their_own(model, mask, way, trained):
    hold(model, mask)
    if trained:
        steps(model, OPTIMIZERS["adam"](model.parameters()))
    copy = copies(model)[way]
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    steps(copy, OPTIMIZERS["adam"](copy.parameters()))
    assert zeros_hold(copy, mask)
    assert moved(copy, weights, mask)
    assert all(torch.equal(t, weights[n]) for n, t in model.state_dict().items())
    found = mask_of(copy)
    assert found is not None
    assert all(torch.equal(found[n], keep) for n, keep in mask.items())


def test_the_module_stays_what_it_was(model, mask):
    names, kinds = list(model.state_dict()), [type(m) for m in model.modules()]
    hold(model, mask)
    assert list(model.state_dict()) == names
    assert [type(m) for m in model.modules()] == kinds


def test_weights_from_elsewhere_are_zeroed_at_the_next_pass(model, mask):
    hold(model, mask)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    model(torch.rand(2, 1, 6, 6))
    assert zeros_hold(model, mask)


def test_a_state_dict_goes_into_a_new_model(model, mask):
    other = deepcopy(model)
    hold(model, mask)
    other.load_state_dict(model.state_dict())
    assert zeros_hold(other, mask)
    assert mask_of(other) is None


def test_release_lets_go(model, mask):
    hold(model, mask)
    release(model)
    assert mask_of(model) is None
    steps(model, OPTIMIZERS["sgd"](model.parameters()), 1)
    assert not zeros_hold(model, mask)


def test_a_new_mask_takes_the_place_of_the_old(model, mask):
    hold(model, mask)
    fewer = Mask({"0.weight": mask["0.weight"] & (torch.arange(9).view(3, 3) % 2 == 0)})
    hold(model, fewer)
    found = mask_of(model)
    assert found is not None
    assert list(found) == ["0.weight"]
    steps(model, OPTIMIZERS["adam"](model.parameters()))
    assert zeros_hold(model, fewer)


def test_frozen_layers_are_left_frozen(model, mask):
    model[0].weight.requires_grad_(False)
    hold(model, mask)
    steps(model, OPTIMIZERS["sgd"](p for p in model.parameters() if p.requires_grad), 1)
    model[0].weight.requires_grad_(True)
    steps(model, OPTIMIZERS["sgd"](model.parameters()), 1)
    assert zeros_hold(model, mask)


def test_a_functional_call_uses_its_own_tensors(model, mask):
    hold(model, mask)
    ones = {n: torch.ones_like(p).detach() for n, p in model.named_parameters()}
    torch.func.functional_call(model, ones, torch.rand(2, 1, 6, 6))
    assert bool((ones["0.weight"] == 1).all())


def test_a_mask_that_does_not_fit_is_refused_before_anything_changes(model, mask):
    before = deepcopy(model.state_dict())
    with pytest.raises(InputError, match="mask of other"):
        hold(model, Mask({**mask, "other.weight": torch.ones(2).bool()}))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert mask_of(model) is None


def test_export_and_tracing_see_the_model_without_hooks(model, mask):
    hold(model.eval(), mask)
    x = torch.rand(2, 1, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own deprecations
        exported = torch.export.export(model, (x,)).module()
        traced = torch.jit.trace(model, x)
    for other in (exported, traced):
        assert torch.allclose(other(x), model(x), atol=1e-6)


def test_a_copy_needs_no_pass_of_its_own_before_it_is_compiled(model, mask):
    hold(model, mask)
    for copy in copies(model).values():
        compiled = torch.compile(copy, backend="eager")
        optimizer = OPTIMIZERS["adam"](copy.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            compiled(torch.rand(8, 1, 6, 6)).square().sum().backward()
            optimizer.step()
        assert zeros_hold(copy, mask)


def test_a_parameter_that_was_replaced_has_all_of_its_gradient(model, mask):
    hold(model, mask)
    old = model[0].weight
    model[0].weight = nn.Parameter(old.detach().clone())
    model(torch.rand(2, 1, 6, 6))
    old.sum().backward()
    assert old.grad is not None and bool((old.grad == 1).all())


def load(model: nn.Module, before: nn.Module) -> None:
    model.load_state_dict(before.state_dict())


def go_on(model: nn.Module, before: nn.Module) -> None:
    """Train with the momentum of the dense model."""
    dense, pruned = (torch.optim.SGD(m.parameters(), 0.1, momentum=0.9) for m in (before, model))
    steps(before, dense, 2)
    pruned.load_state_dict(dense.state_dict())
    steps(model, pruned, 1)


@pytest.mark.parametrize("change", [load, go_on])
def test_what_looks_at_the_weights_sees_the_pruned_ones(model, mask, change):
    held = deepcopy(model)
    hold(held, mask)
    x, y, shape = torch.rand(2, 1, 6, 6), torch.tensor([0, 1]), (1, 6, 6)
    looks = (
        lambda: certiprune.lower(held, shape=shape)(x.double()),
        lambda: certiprune.compact(held, shape=shape)[0](x),
        lambda: certiprune.verify(held, x, y, eps=0.001),
    )
    for look in looks:
        change(held, model)
        assert not zeros_hold(held, mask)
        seen = look()
        assert zeros_hold(held, mask)
        if isinstance(seen, torch.Tensor):
            torch.testing.assert_close(seen.float(), deepcopy(held).eval()(x), rtol=1e-4, atol=1e-5)
