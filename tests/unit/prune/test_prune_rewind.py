import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune import rewind_, snapshot


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))


def test_a_snapshot_does_not_follow_the_model(model):
    stored = snapshot(model)
    before = stored["0.weight"].clone()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(stored["0.weight"], before)


def test_training_after_rewinding_does_not_change_the_stored_weights(model):
    stored = snapshot(model)
    rewind_(model, stored, Mask())
    with torch.no_grad():
        model[0].weight.add_(1)
    assert not torch.equal(stored["0.weight"], model[0].weight)


def test_batch_norm_statistics_are_rewound_too(model):
    stored = snapshot(model)
    model(torch.randn(4, 1, 5, 5))
    assert model[1].num_batches_tracked == 1
    rewind_(model, stored, Mask())
    assert model[1].num_batches_tracked == 0
    assert torch.equal(model[1].running_mean, torch.zeros(2))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("1.bias"), "1.bias is in the model alone"),
        (lambda s: s.update(extra=torch.ones(1)), "extra is in the stored weights alone"),
        (lambda s: s.update({"1.bias": torch.ones(3)}), r"1.bias was stored as torch.float32 \(3,\)"),
        (lambda s: s.update({"1.bias": torch.ones(2).double()}), "1.bias was stored as torch.float64"),
    ],
)
def test_weights_of_another_model_are_refused_before_anything_changes(model, change, text):
    stored = {name: tensor + 1 for name, tensor in snapshot(model).items()}
    change(stored)
    before = snapshot(model)
    with pytest.raises(InputError, match=text):
        rewind_(model, stored, Mask())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_mask_of_another_model_is_refused_before_anything_changes(model):
    stored = {name: tensor + 1 for name, tensor in snapshot(model).items()}
    before = model[0].weight.clone()
    with pytest.raises(InputError, match="does not fit the model"):
        rewind_(model, stored, Mask({"0.weight": torch.ones(3).bool()}))
    assert torch.equal(model[0].weight, before)
