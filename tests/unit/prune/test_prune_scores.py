import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Split
from certiprune.prune import Calibration, Scores, scores


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", [name for name in scores.names() if not scores.build(name).of_units])
def test_every_method_scores_every_masked_parameter_and_leaves_the_model(name, model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    mask = Mask.ones(model, ["0.weight", "3.weight"])
    scorer, data = scores.build(name), Calibration(Split(torch.rand(4, 1, 4, 4), torch.arange(4) % 3))
    first, second = (scorer.score(model, mask, data, keep=1, generator=generator(1, "t")) for _ in range(2))
    assert scorer.name == name
    assert {key: value.shape for key, value in first.items()} == {
        key: value.shape for key, value in mask.items()
    }
    assert all(torch.equal(first[key], second[key]) for key in first), "the generator decides everything"
    assert not any(value.requires_grad for value in first.values())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match="mask of other"):
        scorer.score(
            model, Mask({"other.weight": torch.ones(2).bool()}), data, keep=1, generator=generator(1)
        )


def test_magnitude_is_the_absolute_value(model):
    result = scores.build("magnitude").score(
        model, Mask.ones(model, ["0.weight"]), None, keep=1, generator=generator(0)
    )
    assert torch.equal(result["0.weight"], model[0].weight.abs())


def test_random_depends_on_the_generator_and_not_on_the_weights(model):
    mask = Mask.ones(model, ["0.weight"])
    first = scores.build("random").score(model, mask, None, keep=1, generator=generator(0))
    other = scores.build("random").score(model, mask, None, keep=1, generator=generator(1))
    nn.init.zeros_(model[0].weight)
    again = scores.build("random").score(model, mask, None, keep=1, generator=generator(0))
    assert torch.equal(first["0.weight"], again["0.weight"])
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_wrong_names_and_options_get_a_hint():
    with pytest.raises(InputError, match="no pruning method is called 'magnitud'; did you mean magnitude"):
        scores.build("magnitud")
    with pytest.raises(InputError, match=r"choose one of .*magnitude, .*random"):
        scores.build("zzz")
    with pytest.raises(InputError, match="pruning by magnitude has no option 'power'; it takes none"):
        scores.build("magnitude", power=2)


def test_scores_are_finite_floats_and_frozen():
    with pytest.raises(ModelError, match="scores of a are not all finite"):
        Scores({"a": torch.tensor([1.0, torch.nan])})
    with pytest.raises(InputError, match="scores of a must be floating-point"):
        Scores({"a": torch.tensor([1, 2])})
    frozen = Scores({"a": torch.tensor([1.0])})
    with pytest.raises(TypeError):
        frozen.tensors["b"] = torch.tensor([1.0])
    assert [value.item() for value in frozen.values()] == [1.0]
