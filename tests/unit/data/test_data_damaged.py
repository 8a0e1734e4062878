"""Whatever is wrong with a file, the message names it."""

import gzip
import re

import numpy as np
import pytest

from certiprune.core.errors import DataError
from certiprune.data import load
from helpers.data_files import (
    IDX_FILES,
    idx_bytes,
    labels,
    pixels,
    write_cifar10,
    write_cifar100,
    write_idx,
    write_svhn,
)


def fails(name, folder, *words):
    with pytest.raises(DataError) as caught:
        load(name, folder=folder)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert re.search(word, text), text


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("name", ["npz", "folder", "cifar10", "cifar100", "svhn"])
def test_a_dataset_without_a_usual_place_needs_a_folder(name):
    fails(name, None, f"dataset {name} needs a folder", "name")


@pytest.mark.parametrize("name", ["npz", "folder", "cifar10", "cifar100", "svhn", "mnist", "fashion_mnist"])
def test_a_folder_that_is_not_there(tmp_path, name):
    fails(name, tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize("missing", IDX_FILES)
def test_a_missing_idx_file(tmp_path, missing):
    write_idx(tmp_path, packed=True)
    (tmp_path / f"{missing}.gz").unlink()
    fails("mnist", tmp_path, str(tmp_path), f"lacks {missing} ")


def test_an_idx_file_with_a_wrong_magic_number(tmp_path):
    write_idx(tmp_path, packed=False)
    path = tmp_path / IDX_FILES[0]
    path.write_bytes(idx_bytes(labels(40)))
    fails("mnist", tmp_path, IDX_FILES[0], "0x00000801", "0x00000803")


@pytest.mark.parametrize("keep", [0, 3, 10])
def test_an_idx_file_cut_in_its_header(tmp_path, keep):
    write_idx(tmp_path, packed=False)
    cut(tmp_path / IDX_FILES[2], keep)
    fails("fashion_mnist", tmp_path, IDX_FILES[2], "no idx file", "get it again")


def test_an_idx_file_cut_in_its_data(tmp_path):
    write_idx(tmp_path, packed=False)
    cut(tmp_path / IDX_FILES[0], 16 + 100)
    fails("fashion_mnist", tmp_path, IDX_FILES[0], "100 bytes of data", str(40 * 28 * 28))


def test_a_truncated_or_false_gzip_file(tmp_path):
    write_idx(tmp_path, packed=True)
    path = tmp_path / f"{IDX_FILES[0]}.gz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (whole[:-500], b"<html>not found</html>", bytes(flipped)):
        path.write_bytes(content)
        fails("mnist", tmp_path, path.name, "damaged gzip file", "get it again")


def test_idx_images_of_another_size_or_number(tmp_path):
    write_idx(tmp_path, packed=False)
    path = tmp_path / IDX_FILES[0]
    path.write_bytes(idx_bytes(pixels(0, 40, 20, 20)))
    fails("mnist", tmp_path, path.name, r"\[1, 20, 20\]", r"\[1, 28, 28\]")
    path.write_bytes(idx_bytes(pixels(0, 39, 28, 28)))
    fails("mnist", tmp_path, path.name, "39 images", r"\[40\]")
    path.write_bytes(idx_bytes(pixels(0, 0, 28, 28)))
    fails("mnist", tmp_path, path.name, "non-empty")


def test_idx_labels_out_of_range(tmp_path):
    write_idx(tmp_path, packed=True)
    wrong = labels(40)
    wrong[7] = 10
    (tmp_path / f"{IDX_FILES[1]}.gz").write_bytes(gzip.compress(idx_bytes(wrong)))
    fails("mnist", tmp_path, IDX_FILES[1], "label 10 at index 7", "between 0 and 9")


def test_cifar_files_missing_cut_or_of_the_wrong_kind(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    whole = path.read_bytes()
    for content in (whole[:-1], b""):
        path.write_bytes(content)
        fails("cifar10", tmp_path, "data_batch_3.bin", "whole number of 3073-byte records")
    path.write_bytes(bytes([10]) + whole[1:])
    fails("cifar10", tmp_path, "data_batch_3.bin", "label 10 at index 0")
    path.unlink()
    fails("cifar10", tmp_path, "lacks data_batch_3.bin", "cifar-10-binary.tar.gz")


def test_cifar100_with_a_fine_label_out_of_range(tmp_path):
    write_cifar100(tmp_path)
    content = bytearray((tmp_path / "test.bin").read_bytes())
    content[1] = 100
    (tmp_path / "test.bin").write_bytes(content)
    fails("cifar100", tmp_path, "test.bin", "label 100 at index 0", "0 and 99")


def test_svhn_files_missing_cut_or_of_the_wrong_kind(tmp_path):
    from scipy.io import savemat

    write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no matlab at all", b""):
        path.write_bytes(content)
        fails("svhn", tmp_path, "test_32x32.mat", "no readable MATLAB file")
    for X, y, word in (
        (pixels(0, 32, 32, 3, 5), np.full((5, 1), 11), "from 1 to 10"),
        (pixels(0, 32, 32, 3, 5), np.zeros((5, 1), np.uint8), "from 1 to 10"),
        (pixels(0, 32, 32, 5), np.ones((5, 1), np.uint8), r"uint8 \[32, 32, 3, n\]"),
        (pixels(0, 16, 16, 3, 5), np.ones((5, 1), np.uint8), r"\[3, 16, 16\]"),
        (pixels(0, 32, 32, 3, 5), np.ones((4, 1), np.uint8), "5 images"),
    ):
        savemat(path, {"X": X, "y": y})
        fails("svhn", tmp_path, "test_32x32.mat", word)
    savemat(path, {"X": pixels(0, 32, 32, 3, 5)})
    fails("svhn", tmp_path, "test_32x32.mat", "X and y")
    path.unlink()
    fails("svhn", tmp_path, "lacks test_32x32.mat")
