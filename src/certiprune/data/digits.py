"""The handwritten digits that scikit-learn carries: nothing to download, quick to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certiprune.data.source import Raw, Source, checked_part


def read(folder: Path | None) -> Raw:
    """One set of 1,797 images 1x8x8; the 17 grey levels of the original are scaled to [0, 1].

    ``folder`` is not looked at: the images are part of scikit-learn.
    """
    del folder
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    part = checked_part(pixels, labels, where="digits", classes=10, shape=(1, 8, 8))
    return Raw(part, None, tuple("0123456789"))


def find(folder: Path | None) -> str | None:
    del folder
    return "inside scikit-learn"


SOURCE = Source(
    name="digits",
    description="handwritten digits of scikit-learn: 1,797 grey images, 8x8, 10 classes",
    advice="nothing to do: it comes with scikit-learn",
    read=read,
    find=find,
)
