"""CIFAR-10 and CIFAR-100 in their binary form (Krizhevsky 2009): label bytes, then 3x32x32 pixel bytes.

The Python form of these sets is a pickle, which can run code when it is opened; it is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from certiprune.core.errors import DataError
from certiprune.data.files import locate, missing, read_bytes, required_folder
from certiprune.data.source import Part, Raw, checked_part

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def read_records(paths: Sequence[Path], *, label_bytes: int, classes: int) -> Part:
    """The records of some files, in order; of several label bytes the last (CIFAR-100's fine label) counts.

    Raises:
        DataError: a file is not a whole number of records, or a label is out of range.
    """
    return _join([_records(path, label_bytes, classes) for path in paths])


def read_binary(
    name: str,
    folder: Path | None,
    *,
    subfolder: str,
    train: Sequence[str],
    test: str,
    label_bytes: int,
    class_names: tuple[str, ...],
    advice: str,
) -> Raw:
    """The official training and test parts from ``folder`` or its ``subfolder``."""
    folder = required_folder(folder, name, advice)
    paths = find_binary(folder, subfolder, (*train, test))
    if paths is None:
        place = folder / subfolder if (folder / subfolder).is_dir() else folder
        raise DataError(f"{place} lacks {missing(place, (*train, test))}; {advice}")
    classes = len(class_names)
    return Raw(
        read_records(paths[:-1], label_bytes=label_bytes, classes=classes),
        read_records(paths[-1:], label_bytes=label_bytes, classes=classes),
        class_names,
    )


def find_binary(folder: Path | None, subfolder: str, files: Sequence[str]) -> list[Path] | None:
    """The paths of ``files`` in ``folder`` or its ``subfolder``, or None."""
    return None if folder is None else locate((folder, folder / subfolder), files)


def _records(path: Path, label_bytes: int, classes: int) -> Part:
    content = read_bytes(path)
    size = label_bytes + PIXELS
    if not content or len(content) % size:
        raise DataError(
            f"{path} has {len(content)} bytes, which is no whole number of {size}-byte records; "
            "it is truncated or no CIFAR binary file: unpack it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    images = records[:, label_bytes:].reshape(-1, *SHAPE)
    return checked_part(images, records[:, label_bytes - 1], where=str(path), classes=classes, shape=SHAPE)


def _join(parts: list[Part]) -> Part:
    return Part(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
