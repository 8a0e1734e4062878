from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Dataset, Split
from certiprune.train import Plan, losses, train
from certiprune.train.evaluate import accuracy, correct, pgd_accuracy, withstands


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above a half."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def flat(*values: float) -> Split:
    images = torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    return Split(images, (images[:, 0, 0, 0] > 0.5).long())


def test_accuracy_is_the_fraction_that_is_right() -> None:
    split = flat(0.1, 0.4, 0.6, 0.9)
    assert accuracy(Threshold(), split) == 1.0
    assert accuracy(Threshold(), Split(split.images, 1 - split.labels)) == 0.0
    assert accuracy(Threshold(), Split(split.images, torch.tensor([0, 0, 0, 1])), batch_size=3) == 0.75


def test_pgd_accuracy_is_exact_where_the_worst_point_is_a_corner() -> None:
    split = flat(0.1, 0.35, 0.45, 0.55, 0.62, 0.9)
    assert pgd_accuracy(Threshold(), split, 0.1, steps=10, restarts=1, generator=generator(0)) == 4 / 6
    assert pgd_accuracy(Threshold(), split, 0.0, steps=2, restarts=1, generator=generator(0)) == 1.0


def test_a_wrong_image_does_not_withstand_even_if_the_attack_would_mend_it() -> None:
    split = flat(0.45, 0.9)
    wrong = Split(split.images, torch.tensor([1, 1]))
    answers = withstands(Threshold(), wrong, 0.2, steps=5, restarts=1, generator=generator(0))
    assert answers.tolist() == [False, True]


def test_answers_depend_neither_on_the_batch_size_nor_on_the_order(
    model: nn.Module, dataset: Dataset
) -> None:
    def answers(split: Split, size: int) -> Tensor:
        return withstands(model, split, 0.15, steps=3, restarts=2, generator=generator(1), batch_size=size)

    split = dataset.validation
    train(model, losses.build("natural"), dataset, Plan(2, batch_size=32, learning_rate=0.05))
    whole = answers(split, 500)
    assert 0 < int(whole.sum()) < int(correct(model, split).sum())
    assert torch.equal(whole, answers(split, 7))
    assert torch.equal(whole.flip(0), answers(split[torch.arange(len(split)).flip(0)], 500))
    assert bool((whole <= correct(model, split)).all())


def test_the_model_keeps_its_mode_and_statistics(model: nn.Module, dataset: Dataset) -> None:
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pgd_accuracy(model, dataset.validation, 0.1, steps=2, restarts=1, generator=generator(0))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_no_images_are_an_error() -> None:
    with pytest.raises(InputError, match="no images"):
        accuracy(Threshold(), flat(0.1)[:0])
    with pytest.raises(InputError, match="no images"):
        pgd_accuracy(Threshold(), flat(0.1)[:0], 0.1, steps=1, restarts=1, generator=generator(0))
