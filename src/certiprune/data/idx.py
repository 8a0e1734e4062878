"""The idx format of MNIST and Fashion-MNIST: a big-endian header, then unsigned bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from certiprune.core.errors import DataError
from certiprune.data.files import cache_folder, download, locate, missing, read_bytes
from certiprune.data.identity import refuse_other_set
from certiprune.data.source import Part, Raw, checked_part

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SUFFIXES = ("", ".gz")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of ``dimensions`` dimensions in an idx file, plain or gzipped.

    Raises:
        DataError: the magic number, or the length that the header promises, is wrong.
    """
    content = read_bytes(path)
    expected, header = 0x0800 + dimensions, 4 + 4 * dimensions
    magic = int.from_bytes(content[:4], "big")
    if len(content) < header or magic != expected:
        raise DataError(
            f"{path} is no idx file of {dimensions} dimensions (it starts with 0x{magic:08x}, "
            f"not 0x{expected:08x}); delete it and get it again"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} holds {len(content) - header} bytes of data where its header promises "
            f"{math.prod(shape)}; delete it and get it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def find_idx(name: str, folder: Path | None, usual: tuple[Path, ...]) -> list[Path] | None:
    """The four files: in ``folder`` or its ``raw`` subfolder, or for None in a usual place or the cache."""
    if folder is not None:
        return locate((folder, folder / "raw"), FILES, SUFFIXES)
    return locate(usual, FILES, SUFFIXES) or locate((cache_folder() / name,), FILES, SUFFIXES)


def read_idx_set(
    name: str,
    folder: Path | None,
    *,
    usual: tuple[Path, ...],
    url: str,
    checksums: dict[str, str],
    class_names: tuple[str, ...],
) -> Raw:
    """A set in four idx files: from ``folder``, or for None from a usual place, the cache, or ``url``.

    Raises:
        DataError: a file is missing, damaged or of the other set, or cannot be downloaded.
    """
    paths = find_idx(name, folder, usual)
    if paths is None and folder is None:
        download(name, url, checksums)
        paths = find_idx(name, None, usual)
    if paths is None:
        place = folder or cache_folder() / name
        raise DataError(f"{place} lacks {missing(place, FILES, SUFFIXES)} (plain or .gz) for dataset {name}")
    images, labels, test_images, test_labels = paths
    train = _part(images, labels, len(class_names))
    test = _part(test_images, test_labels, len(class_names))
    refuse_other_set(test, name=name, where=str(test_labels))
    return Raw(train, test, class_names)


def _part(images: Path, labels: Path, classes: int) -> Part:
    pixels, numbers = read_idx(images, 3)[:, None], read_idx(labels, 1)
    where = f"{images} with {labels.name}"
    return checked_part(pixels, numbers, where=where, classes=classes, shape=(1, 28, 28))
