"""A folder of the user's own with one subfolder of PNG or JPEG files per class.

The classes may lie under ``train/`` and ``test/``; without a ``test/`` all images are one set, split by seed.
Class numbers follow the alphabetical order of the subfolders' names.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from certiprune.core.errors import DataError
from certiprune.data import decoded
from certiprune.data.files import required_folder
from certiprune.data.source import Raw, Source, checked_part

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
ADVICE = "name a folder with one subfolder of PNG or JPEG files per class, or train/ and test/ with such"


class Item(NamedTuple):
    """One image file and its class."""

    path: Path
    label: int


class Listing(NamedTuple):
    """The image files of a folder; ``test`` is None where they are one set."""

    train: list[Item]
    test: list[Item] | None
    class_names: tuple[str, ...]


def list_folder(folder: Path) -> Listing:
    """Which files there are, without opening any.

    In each part the classes take turns, file by file in the order of names, so that the first images are of
    all classes and not of the first one only.

    Raises:
        DataError: there are fewer than two classes, a class without images, or an unknown class in test/.
    """
    divided = bool(_classes(folder / "train"))
    train, test = folder / "train" if divided else folder, folder / "test"
    names = _classes(train)
    if len(names) < 2:
        raise DataError(f"{train} has {len(names)} class subfolders, and two are needed; {ADVICE}")
    if not (divided and test.is_dir()):
        return Listing(_items(train, names), None, names)
    unknown = sorted(set(_classes(test)) - set(names))
    if unknown:
        raise DataError(f"{test / unknown[0]} is a class that {train} does not have; rename or remove it")
    present = tuple(name for name in names if (test / name).is_dir())
    if not present:
        raise DataError(f"{test} has no class subfolders; {ADVICE}")
    return Listing(_items(train, names), _items(test, names, present), names)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _items(folder: Path, names: tuple[str, ...], present: tuple[str, ...] | None = None) -> list[Item]:
    columns = []
    for label, name in enumerate(names):
        if present is not None and name not in present:
            continue
        paths = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise DataError(f"{folder / name} holds no PNG or JPEG file; add some or remove the subfolder")
        columns.append([Item(path, label) for path in paths])
    return [item for row in zip_longest(*columns) for item in row if item is not None]


def read(folder: Path | None) -> Raw:
    """All images of the folder, as colour images unless every one is grey.

    Decoded once: the pixels are kept in the cache folder until a file is added, removed or changed.

    Raises:
        DataError: a file is no image, or the images are not all of one size.
    """
    folder = required_folder(folder, "folder", ADVICE)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; {ADVICE}")
    listing = list_folder(folder)
    items = [*listing.train, *(listing.test or [])]
    images = decoded.images(folder, [item.path for item in items])
    labels = np.array([item.label for item in items])
    cut, classes = len(listing.train), len(listing.class_names)
    train = checked_part(images[:cut], labels[:cut], where=str(folder), classes=classes)
    if listing.test is None:
        return Raw(train, None, listing.class_names)
    test = checked_part(images[cut:], labels[cut:], where=str(folder), classes=classes)
    return Raw(train, test, listing.class_names)


def find(folder: Path | None) -> str | None:
    if folder is None:
        return None
    try:
        list_folder(folder)
    except (DataError, OSError):
        return None
    return str(folder)


SOURCE = Source(
    name="folder",
    description="your own PNG or JPEG files, one subfolder per class",
    advice=ADVICE,
    read=read,
    find=find,
)
