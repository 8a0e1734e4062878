"""SVHN, cropped digits: 32x32 colour images of house numbers (Netzer et al. 2011), in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certiprune.core.errors import DataError
from certiprune.data.files import locate, missing, required_folder
from certiprune.data.source import Part, Raw, Source, checked_part

FILES = ("train_32x32.mat", "test_32x32.mat")
ADVICE = "name a folder with train_32x32.mat and test_32x32.mat (ufldl.stanford.edu/housenumbers)"


def read(folder: Path | None) -> Raw:
    """The official training and test parts, not the extra images; the digit 0, stored as 10, is label 0."""
    folder = required_folder(folder, "svhn", ADVICE)
    paths = locate((folder,), FILES)
    if paths is None:
        raise DataError(f"{folder} lacks {missing(folder, FILES)}; {ADVICE}")
    train, test = (_part(path) for path in paths)
    return Raw(train, test, tuple("0123456789"))


def _part(path: Path) -> Part:
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1)
    except Exception as error:
        # SciPy reads a damaged file as far as it goes and then raises almost anything.
        raise DataError(
            f"{path} is no readable MATLAB file with X and y ({type(error).__name__}: {error}); get it again"
        ) from error
    if images.ndim != 4 or images.dtype != np.uint8:
        raise DataError(f"{path}: X must be uint8 [32, 32, 3, n], not {images.dtype} {list(images.shape)}")
    if labels.dtype.kind not in "iu" or np.any((labels < 1) | (labels > 10)):
        raise DataError(f"{path}: y must hold whole numbers from 1 to 10 (10 means the digit 0)")
    where = str(path)
    return checked_part(images.transpose(3, 2, 0, 1), labels % 10, where=where, classes=10, shape=(3, 32, 32))


def find(folder: Path | None) -> str | None:
    return str(folder) if folder is not None and locate((folder,), FILES) else None


SOURCE = Source(
    name="svhn",
    description="SVHN, cropped digits: 73,257 + 26,032 colour images of house numbers, 32x32, 10 classes",
    advice=ADVICE,
    read=read,
    find=find,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
