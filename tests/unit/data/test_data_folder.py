import os

import numpy as np
import pytest
import torch

from certiprune.core.errors import DataError
from certiprune.data import decoded, load
from helpers.data_files import pixels, write_folder, write_image


def test_classes_under_train_and_test(tmp_path):
    write_folder(tmp_path / "train", n=10)
    write_folder(tmp_path / "test", n=3)
    data = load("folder", folder=tmp_path)
    assert data.class_names == ("cat", "dog") and data.shape == (3, 5, 4)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 6)
    assert data.test.labels.tolist() == [0, 1] * 3, "the classes take turns"
    assert torch.equal(
        data.test.images[1], torch.from_numpy(pixels(100, 5, 4, 3)).permute(2, 0, 1).float() / 255
    )


@pytest.mark.parametrize("below", ["", "train"])
def test_classes_without_a_test_part_are_one_set(tmp_path, below):
    write_folder(tmp_path / below, n=10)
    data = load("folder", folder=tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)


def test_a_class_may_be_called_train(tmp_path):
    write_folder(tmp_path, n=10, names=("plane", "test", "train"))
    assert load("folder", folder=tmp_path).class_names == ("plane", "test", "train")


def test_the_test_part_may_lack_a_class(tmp_path):
    write_folder(tmp_path / "train", n=6, names=("a", "b", "c"))
    write_folder(tmp_path / "test", n=2, names=("a", "c"))
    assert load("folder", folder=tmp_path).test.labels.tolist() == [0, 2, 0, 2]


def test_grey_images_stay_grey_until_one_has_colour(tmp_path):
    write_folder(tmp_path, colour=False)
    assert load("folder", folder=tmp_path).shape == (1, 5, 4)
    write_image(tmp_path / "cat" / "new.png", pixels(9, 5, 4, 3))
    assert load("folder", folder=tmp_path).shape == (3, 5, 4)


def test_jpeg_files_of_any_case(tmp_path):
    write_folder(tmp_path)
    write_image(tmp_path / "cat" / "new.JPG", pixels(9, 5, 4, 3))
    write_image(tmp_path / "dog" / "new.jpeg", pixels(9, 5, 4, 3))
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    data = load("folder", folder=tmp_path)
    assert len(data.train) + len(data.validation) + len(data.test) == 14


def test_images_are_decoded_once(tmp_path, monkeypatch, own_cache):
    write_folder(tmp_path / "images")
    first = load("folder", folder=tmp_path / "images")
    assert [path.suffix for path in (own_cache / "decoded").iterdir()] == [".npz"]

    def refuse(paths):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded, "decode", refuse)
    second = load("folder", folder=tmp_path / "images")
    assert torch.equal(first.train.images, second.train.images)


def change(folder):
    path = folder / "cat" / "000.png"
    stamp = path.stat().st_mtime_ns
    write_image(path, np.zeros((5, 4, 3), np.uint8))
    os.utime(path, ns=(stamp + 10**9, stamp + 10**9))


def remove(folder):
    (folder / "cat" / "000.png").unlink()


def add(folder):
    write_image(folder / "cat" / "zzz.png", np.zeros((5, 4, 3), np.uint8))


@pytest.mark.parametrize("edit", [change, remove, add])
def test_an_edited_folder_is_decoded_again(tmp_path, edit):
    folder = tmp_path / "images"
    write_folder(folder)
    load("folder", folder=folder)
    edit(folder)
    edited = load("folder", folder=folder)
    fresh_copy = tmp_path / "copy"
    folder.rename(fresh_copy)
    fresh = load("folder", folder=fresh_copy)
    assert torch.equal(edited.train.images, fresh.train.images)
    assert torch.equal(edited.test.images, fresh.test.images)


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"junk"])
def test_a_damaged_cache_is_only_a_lost_cache(tmp_path, own_cache, damage):
    write_folder(tmp_path / "images")
    first = load("folder", folder=tmp_path / "images")
    (cache,) = (own_cache / "decoded").iterdir()
    cache.write_bytes(damage(cache.read_bytes()))
    assert torch.equal(load("folder", folder=tmp_path / "images").train.images, first.train.images)


def test_an_interrupted_save_leaves_no_cache(tmp_path, own_cache, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    write_folder(tmp_path / "images")
    monkeypatch.setattr(decoded.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        load("folder", folder=tmp_path / "images")
    assert list((own_cache / "decoded").iterdir()) == []


def test_an_unusable_cache_folder_does_not_matter(tmp_path, own_cache):
    own_cache.rmdir()
    own_cache.write_text("a file where a folder should be")
    write_folder(tmp_path / "images")
    assert load("folder", folder=tmp_path / "images").classes == 2


def put_text(folder):
    (folder / "cat" / "000.png").write_text("no image")


def cut_file(folder):
    path = folder / "cat" / "000.png"
    path.write_bytes(path.read_bytes()[:-30])


def other_size(folder):
    write_image(folder / "dog" / "005.png", pixels(0, 6, 4, 3))


def deep(folder):
    write_image(folder / "dog" / "005.png", np.zeros((5, 4), np.uint16))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put_text, r"000\.png is no readable PNG or JPEG"),
        (cut_file, r"000\.png is no readable PNG or JPEG"),
        (other_size, r"005\.png is 4x6 pixels, but .*000\.png is 4x5"),
        (deep, r"005\.png has pixels of kind I;16"),
    ],
)
def test_a_bad_image_is_named(tmp_path, damage, message):
    write_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load("folder", folder=tmp_path)


def test_wrong_layouts_are_named(tmp_path):
    with pytest.raises(DataError, match="0 class subfolders"):
        load("folder", folder=tmp_path)
    write_folder(tmp_path / "train")
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="test has no class subfolders"):
        load("folder", folder=tmp_path)
    write_folder(tmp_path / "test", names=("bird", "cat"))
    with pytest.raises(DataError, match=r"bird is a class that .*train does not have"):
        load("folder", folder=tmp_path)
    (tmp_path / "train" / "bird").mkdir()
    with pytest.raises(DataError, match="bird holds no PNG or JPEG file"):
        load("folder", folder=tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        load("folder", folder=tmp_path / "train" / "cat" / "000.png")
