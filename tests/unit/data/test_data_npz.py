import re

import numpy as np
import pytest
import torch

from certiprune.core.errors import DataError
from certiprune.data import load
from helpers.data_files import labels, pixels

IMAGES = pixels(0, 20, 3, 4, 5)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_training_and_test_arrays(tmp_path, keys):
    arrays = dict(zip(keys, (IMAGES, labels(20, 4), IMAGES[:6], labels(6, 4)), strict=True))
    data = load("npz", folder=save(tmp_path, **arrays))
    assert data.shape == (3, 4, 5) and data.classes == 4
    assert torch.equal(data.test.images, torch.from_numpy(IMAGES[:6]).float() / 255)
    assert len(data.train) == 18 and len(data.validation) == 2


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels")])
def test_one_set(tmp_path, keys):
    folder = save(tmp_path, **dict(zip(keys, (IMAGES, labels(20, 3)), strict=True)))
    data = load("npz", folder=folder / "own.npz")
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize("shape", [(20, 4, 5), (20, 1, 4, 5), (20, 4, 5, 1)])
def test_grey_images_in_every_layout(tmp_path, shape):
    data = load("npz", folder=save(tmp_path, x=IMAGES[:, 0].reshape(shape), y=labels(20, 2)))
    assert data.shape == (1, 4, 5)


def test_channels_last_equals_channels_first(tmp_path):
    first = load("npz", folder=save(tmp_path, x=IMAGES, y=labels(20, 2)))
    last = load("npz", folder=save(tmp_path, x=IMAGES.transpose(0, 2, 3, 1), y=labels(20, 2)))
    assert torch.equal(first.train.images, last.train.images)


def test_floats_are_taken_as_they_are(tmp_path):
    floats = IMAGES / 255.0
    data = load(
        "npz", folder=save(tmp_path, x_train=floats, y_train=labels(20), x_test=floats, y_test=labels(20))
    )
    assert torch.equal(data.test.images, torch.from_numpy(floats.astype(np.float32)))


def broken(value):
    images = IMAGES / 255.0
    images[3, 1, 2, 2] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": broken(1.5), "y": labels(20)}, r"between 0 and 1.5, not in \[0, 1\]"),
        ({"x": broken(-0.1), "y": labels(20)}, r"not in \[0, 1\]"),
        ({"x": broken(np.nan), "y": labels(20)}, r"between nan and nan, not in \[0, 1\]"),
        ({"x": IMAGES.astype(np.int64), "y": labels(20)}, "images are int64; save them as uint8"),
        ({"x": IMAGES.reshape(20, -1), "y": labels(20)}, r"\[n, c, h, w\], not \[20, 60\]"),
        ({"x": IMAGES, "y": labels(19)}, r"20 images, but labels of shape \[19\]"),
        ({"x": IMAGES, "y": labels(20)[:, None]}, r"labels of shape \[20, 1\]"),
        ({"x": IMAGES, "y": labels(20) / 2.0}, "labels must be whole numbers, not float64"),
        ({"x": IMAGES, "y": labels(20).astype(int) - 1}, "label -1 at index 0"),
        ({"x": IMAGES, "y": labels(20).astype(int) * 1000}, "label 9000 is above the number of images"),
        ({"x": IMAGES}, "holds x; it must hold x_train"),
        ({"x": IMAGES[:0], "y": labels(0)}, "non-empty"),
        ({"x": np.array([{}] * 20, dtype=object), "y": labels(20)}, "no readable .npz archive"),
        (
            {"x_train": IMAGES, "y_train": labels(20), "x_test": IMAGES[..., :4], "y_test": labels(20)},
            "different shapes",
        ),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        load("npz", folder=save(tmp_path, **arrays))
    assert "own.npz" in str(caught.value)


def test_damaged_archives_are_named(tmp_path):
    path = save(tmp_path, x=IMAGES, y=labels(20)) / "own.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[400] ^= 0xFF
    for content in (whole[:-100], whole[:50], b"", b"text", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(str(path))):
            load("npz", folder=path)


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "own.npy", IMAGES)
    with pytest.raises(DataError, match="single array"):
        load("npz", folder=tmp_path / "own.npy")


def test_no_archive_or_several(tmp_path):
    with pytest.raises(DataError, match=r"no \.npz file, or several"):
        load("npz", folder=tmp_path)
    np.savez(tmp_path / "a.npz", x=IMAGES)
    np.savez(tmp_path / "b.npz", x=IMAGES)
    with pytest.raises(DataError, match=r"no \.npz file, or several"):
        load("npz", folder=tmp_path)


def test_an_mnist_archive_must_hold_mnist(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=IMAGES, y_train=labels(20), x_test=IMAGES, y_test=labels(20))
    with pytest.raises(DataError, match=r"\[3, 4, 5\], but \[1, 28, 28\]"):
        load("mnist", folder=tmp_path)
    np.savez(path, x=pixels(0, 20, 28, 28), y=labels(20))
    with pytest.raises(DataError, match="has no test part"):
        load("mnist", folder=tmp_path)
