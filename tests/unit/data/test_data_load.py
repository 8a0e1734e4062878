import subprocess
import sys

import numpy as np
import pytest
import torch

from certiprune.core.errors import DataError, InputError
from certiprune.data import Split, available, load, names
from certiprune.data.fashion_mnist import DEBIAN
from certiprune.data.statistics import channel_statistics
from helpers.data_files import pixels, write_cifar10, write_cifar100, write_folder, write_idx, write_svhn


def is_sound(data):
    """What every dataset promises."""
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == torch.float32 and split.labels.dtype == torch.int64
        assert split.shape == data.shape
        assert float(split.images.min()) >= 0.0 and float(split.images.max()) <= 1.0
        assert int(split.labels.min()) >= 0 and int(split.labels.max()) < data.classes
    assert len(data.class_names) == data.classes
    assert len(data.mean) == len(data.std) == data.shape[0]
    assert all(value > 0 for value in data.std)
    return True


def test_digits():
    data = load("digits")
    assert is_sound(data)
    assert data.shape == (1, 8, 8) and data.classes == 10
    assert len(data.train) + len(data.validation) + len(data.test) == 1797
    assert float(data.train.images.max()) == 1.0
    assert data.mean[0] == pytest.approx(float(data.train.images.mean()))
    assert data.std[0] == pytest.approx(float(data.train.images.std()), rel=1e-4)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "raw"])
def test_idx_files(tmp_path, name, packed, below):
    write_idx(tmp_path / below, packed=packed)
    data = load(name, folder=tmp_path)
    assert is_sound(data)
    assert data.shape == (1, 28, 28)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)


def test_mnist_from_an_archive_equals_mnist_from_idx_files(tmp_path):
    write_idx(tmp_path / "idx", packed=True)
    (tmp_path / "npz").mkdir()
    np.savez(
        tmp_path / "npz" / "mnist.npz",
        x_train=pixels(0, 40, 28, 28),
        y_train=np.arange(40) % 10,
        x_test=pixels(1, 10, 28, 28),
        y_test=np.arange(10),
    )
    idx = load("mnist", folder=tmp_path / "idx")
    for folder in (tmp_path / "npz", tmp_path / "npz" / "mnist.npz"):
        npz = load("mnist", folder=folder)
        for one, other in ((idx.train, npz.train), (idx.validation, npz.validation), (idx.test, npz.test)):
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_cifar10(tmp_path, below):
    write_cifar10(tmp_path / below)
    data = load("cifar10", folder=tmp_path)
    assert is_sound(data)
    assert (len(data.train), len(data.validation), len(data.test)) == (45, 5, 10)
    assert data.mean == (0.4914, 0.4822, 0.4465) and data.std == (0.2470, 0.2435, 0.2616)
    first = pixels(6, 10, 3 * 32 * 32)[0].reshape(3, 32, 32)
    assert torch.equal(data.test.images[0], torch.from_numpy(first).float() / 255)
    assert data.class_names[int(data.test.labels[9])] == "truck"


def test_cifar100_uses_fine_labels(tmp_path):
    write_cifar100(tmp_path)
    data = load("cifar100", folder=tmp_path)
    assert is_sound(data)
    assert data.classes == 100 and len(set(data.class_names)) == 100
    assert data.test.labels.tolist() == list(range(99, 79, -1))
    assert list(data.class_names) == sorted(data.class_names)


def test_svhn_turns_label_ten_into_zero(tmp_path):
    write_svhn(tmp_path)
    data = load("svhn", folder=tmp_path)
    assert is_sound(data)
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    stored = pixels(20, 32, 32, 3, 20)
    assert torch.equal(data.test.images[4, 2], torch.from_numpy(stored[:, :, 2, 4].copy()).float() / 255)
    assert data.mean == (0.0, 0.0, 0.0) and data.std == (1.0, 1.0, 1.0)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_found():
    data = load("fashion_mnist", test_limit=200)
    assert is_sound(data)
    assert (len(data.train), len(data.validation), len(data.test)) == (54000, 6000, 200)
    assert data.class_names[int(data.test.labels[0])] == "ankle boot"
    mean, std = channel_statistics(data.train.images)
    assert mean[0] == pytest.approx(data.mean[0], abs=0.002)
    assert std[0] == pytest.approx(0.353, abs=0.002)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_does_not_pass_for_mnist():
    with pytest.raises(DataError, match="holds fashion_mnist, not mnist; load it as fashion_mnist"):
        load("mnist", folder=DEBIAN)


def test_a_constant_channel_has_deviation_one():
    images = torch.rand(20, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 0.3
    mean, std = channel_statistics(images, chunk=7)
    assert mean[0] == pytest.approx(float(images[:, 0].mean()), rel=1e-5)
    assert mean[1] == pytest.approx(0.3) and std[1] == 1.0


def test_the_listing_says_what_is_where(tmp_path):
    writers = {
        "mnist": lambda folder: write_idx(folder, packed=True),
        "cifar10": write_cifar10,
        "cifar100": write_cifar100,
        "svhn": write_svhn,
        "folder": write_folder,
    }
    for name, write in writers.items():
        write(tmp_path / name)
        info = {row.name: row for row in available(tmp_path / name)}
        assert info[name].found and str(tmp_path / name) in info[name].where
    listing = {row.name: row for row in available()}
    assert list(listing) == names()
    assert listing["digits"].found
    assert not listing["cifar10"].found and "cifar-10-binary.tar.gz" in listing["cifar10"].where
    assert all(row.description for row in listing.values())


def test_importing_loads_no_heavy_library():
    heavy = ("sklearn", "scipy", "PIL", "pooch")
    code = f"import sys, certiprune.data; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_split_is_indexed_and_cut():
    split = Split(torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(5))
    assert split[torch.tensor([3, 1])].labels.tolist() == [3, 1]
    assert split[1:3].labels.tolist() == [1, 2]
    assert split.head(2).labels.tolist() == [0, 1]
    assert len(split.head(9)) == 5 and len(split.head(-1)) == 0
    assert torch.equal(split.to("cpu").images, split.images)
    assert split.shape == (1, 2, 2) and Split(split.images.flatten(1), split.labels).shape == (4,)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "must be float32"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64), "must be float32"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(3, dtype=torch.int64), r"must be int64 \[2\]"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(2), r"must be int64 \[2\]"),
    ],
)
def test_a_split_of_wrong_tensors_is_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        Split(images, labels)
