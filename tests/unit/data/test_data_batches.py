import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Augment, Split, batches

SETTINGS = settings(derandomize=True, deadline=None, max_examples=40)


def random_split(n: int, shape=(2, 5, 6)) -> Split:
    images = torch.rand(n, *shape, generator=generator(0, "images")) * 0.9 + 0.1
    return Split(images, torch.arange(n))


def labels_of(parts) -> list[int]:
    return [int(label) for part in parts for label in part.labels]


@SETTINGS
@given(n=st.integers(0, 40), size=st.integers(1, 50))
def test_every_image_comes_once(n, size):
    split = random_split(n, (1, 2, 2))
    assert labels_of(batches(split, size, generator=None)) == list(range(n))
    shuffled = list(batches(split, size, generator=generator(1)))
    assert sorted(labels_of(shuffled)) == list(range(n))
    for batch in shuffled:
        assert torch.equal(batch.images, split.images[batch.labels])


def test_the_order_comes_from_the_generator_alone():
    split = random_split(50)
    one = labels_of(batches(split, 8, generator=generator(3)))
    torch.manual_seed(99)
    assert labels_of(batches(split, 8, generator=generator(3))) == one
    assert labels_of(batches(split, 8, generator=generator(4))) != one
    assert [len(batch.labels) for batch in batches(split, 8, generator=None)] == [8] * 6 + [2]


def test_wrong_use_is_refused_at_once():
    split = random_split(3)
    with pytest.raises(InputError, match="at least one image, not 0"):
        batches(split, 0, generator=None)
    with pytest.raises(InputError, match="give batches\\(\\) a generator"):
        batches(split, 2, generator=None, augment=Augment(flip=True))
    with pytest.raises(InputError, match="crop_padding=-1"):
        Augment(crop_padding=-1)


def test_augmented_batches_are_repeatable_and_leave_the_split_alone():
    split = random_split(20)
    before = split.images.clone()
    augment = Augment(crop_padding=2, flip=True)
    one = [batch.images for batch in batches(split, 6, generator=generator(0), augment=augment)]
    two = [batch.images for batch in batches(split, 6, generator=generator(0), augment=augment)]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert torch.equal(split.images, before)
    plain = next(iter(batches(split, 6, generator=generator(0)))).images
    assert not torch.equal(one[0], plain)


def test_without_options_nothing_changes():
    images = random_split(4).images
    assert torch.equal(Augment()(images, generator=generator(0)), images)


def test_a_flip_mirrors_about_half_of_the_images():
    images = random_split(400).images
    flipped = Augment(flip=True)(images, generator=generator(0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 150 < int(mirrored.sum()) < 250


@SETTINGS
@given(padding=st.integers(1, 4), seed=st.integers(0, 20))
def test_a_crop_is_a_window_of_the_padded_image(padding, seed):
    images = random_split(5).images
    crops = Augment(crop_padding=padding)(images, generator=generator(seed))
    assert crops.shape == images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    for crop, whole in zip(crops, padded, strict=True):
        windows = [
            whole[:, top : top + 5, left : left + 6]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
        assert any(torch.equal(crop, window) for window in windows)


def test_crops_reach_every_offset():
    image = torch.zeros(1, 1, 3, 3)
    image[..., 1, 1] = 1.0
    crops = Augment(crop_padding=1)(image.expand(300, 1, 3, 3), generator=generator(0))
    assert bool((crops.sum(0) > 0).all())
    assert torch.equal(crops.sum((1, 2, 3)), torch.ones(300))
