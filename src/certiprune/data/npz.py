"""Images of the user's own in a NumPy archive.

Accepted keys: ``x_train``, ``y_train``, ``x_test``, ``y_test`` (or ``train_images``, ``train_labels``,
``test_images``, ``test_labels``), or one set to be split by seed under ``x``, ``y`` (or ``images``,
``labels``). Images are [n, h, w], [n, c, h, w] or, with 1 or 3 channels, [n, h, w, c]; uint8, or float in
[0, 1].
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from certiprune.core.errors import DataError
from certiprune.data.files import required_folder
from certiprune.data.source import Part, Raw, Source, checked_part

TWO_PARTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
ONE_PART = (("x", "y"), ("images", "labels"))
ADVICE = "name an .npz file, or a folder with one, that holds x_train, y_train, x_test, y_test, or x and y"


def read_npz(
    path: Path, *, class_names: tuple[str, ...] | None = None, shape: tuple[int, int, int] | None = None
) -> Raw:
    """The arrays of one archive; without ``class_names`` the largest label says how many classes there are.

    Raises:
        DataError: the archive is missing or damaged, lacks keys, or its arrays are no images with labels.
    """
    arrays = _arrays(path)
    labels = arrays[1::2]
    if class_names is None:
        class_names = _numbered_classes(path, labels)
    parts = [
        checked_part(channels_first(images), numbers, where=str(path), classes=len(class_names), shape=shape)
        for images, numbers in zip(arrays[::2], labels, strict=True)
    ]
    _same_shape(path, parts)
    return Raw(parts[0], parts[1] if len(parts) == 2 else None, class_names)


def channels_first(images: np.ndarray) -> np.ndarray:
    """``images`` as [n, c, h, w]; anything but the three known layouts is given back as it is."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    return images


def _arrays(path: Path) -> list[np.ndarray]:
    try:
        with path.open("rb") as file:
            # Without pickle an archive is data only; an array of objects is refused with a ValueError.
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{path} is a single array; {ADVICE}")
            for keys in (*TWO_PARTS, *ONE_PART):
                if all(key in archive for key in keys):
                    return [archive[key] for key in keys]
            found = ", ".join(archive.files) or "nothing"
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is no readable .npz archive ({error}); save it again with numpy.savez"
        ) from error
    raise DataError(f"{path} holds {found}; it must hold x_train, y_train, x_test and y_test, or x and y")


def _numbered_classes(path: Path, labels: list[np.ndarray]) -> tuple[str, ...]:
    most = max((int(part.max()) for part in labels if part.size and part.dtype.kind in "iu"), default=0)
    if most >= max(sum(part.size for part in labels), 2):
        raise DataError(f"{path}: label {most} is above the number of images; number the classes from 0")
    return tuple(str(number) for number in range(max(most + 1, 2)))


def _same_shape(path: Path, parts: list[Part]) -> None:
    shapes = {tuple(part.images.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise DataError(f"{path}: training and test images have different shapes: {sorted(shapes)}")


def _archive(folder: Path | None) -> Path | None:
    """The archive that ``folder`` is, or the only one that lies in it."""
    if folder is None or not folder.exists():
        return None
    if folder.is_file():
        return folder
    archives = sorted(folder.glob("*.npz"))
    return archives[0] if len(archives) == 1 else None


def read(folder: Path | None) -> Raw:
    """The archive's parts, or its one set."""
    folder = required_folder(folder, "npz", ADVICE)
    archive = _archive(folder)
    if archive is None:
        raise DataError(f"{folder} holds no .npz file, or several; {ADVICE}")
    return read_npz(archive)


def find(folder: Path | None) -> str | None:
    archive = _archive(folder)
    return str(archive) if archive and archive.suffix == ".npz" else None


SOURCE = Source(
    name="npz", description="your own images in a NumPy archive", advice=ADVICE, read=read, find=find
)
