"""The datasets by name: loading one, listing all."""

from __future__ import annotations

import difflib
from pathlib import Path

from certiprune.core.errors import DataError, InputError
from certiprune.data import cifar10, cifar100, digits, fashion_mnist, folder, mnist, npz, svhn
from certiprune.data.source import Part, Source, unit_pixels
from certiprune.data.splits import split_in_three
from certiprune.data.statistics import channel_statistics
from certiprune.data.types import Dataset, DatasetInfo, Split

SOURCES: tuple[Source, ...] = (
    digits.SOURCE,
    fashion_mnist.SOURCE,
    mnist.SOURCE,
    cifar10.SOURCE,
    cifar100.SOURCE,
    svhn.SOURCE,
    folder.SOURCE,
    npz.SOURCE,
)


def names() -> list[str]:
    """The names that ``load`` knows."""
    return [source.name for source in SOURCES]


def load(
    name: str,
    *,
    folder: Path | None = None,
    seed: int = 0,
    validation: float = 0.1,
    train_limit: int | None = None,
    test_limit: int | None = None,
) -> Dataset:
    """Load a dataset and divide it into its three splits.

    The splits depend on ``name``, ``seed`` and ``validation`` only. Mean and standard deviation are the
    field's usual constants where there are any, else those of the whole training split, whatever
    ``train_limit`` is.

    Args:
        folder: where its files are; None means the usual place, and for mnist and fashion_mnist a download.
        seed: which images become validation images (and test images, in a set without a test part).
        validation: the share of the training part that is held out, in [0, 1).
        train_limit: keep the first so many images of the training split.
        test_limit: keep the first so many images of the test split, as the study does with 200.

    Raises:
        InputError: an unknown name, or a share or limit out of range.
        DataError: files are missing or damaged.
    """
    source = _source(name)
    if not 0.0 <= validation < 1.0:
        raise InputError(f"validation={validation} must be a share in [0, 1), such as 0.1")
    for key, limit in (("train_limit", train_limit), ("test_limit", test_limit)):
        if limit is not None and limit < 1:
            raise InputError(f"{key}={limit} must be at least 1; leave it out to use all images")
    try:
        raw = source.read(None if folder is None else Path(folder).expanduser())
    except OSError as error:
        raise DataError(
            f"dataset {name} cannot be read: {error}; check the folder and its permissions"
        ) from error
    parts = split_in_three(raw, name=name, seed=seed, validation=validation)
    mean, std = source.mean, source.std
    if mean is None or std is None:
        mean, std = channel_statistics(parts.train.images)
    return Dataset(
        name=name,
        train=_split(parts.train, train_limit),
        validation=_split(parts.validation, None),
        test=_split(parts.test, test_limit),
        classes=len(raw.class_names),
        class_names=raw.class_names,
        mean=mean,
        std=std,
    )


def available(folder: Path | None = None) -> list[DatasetInfo]:
    """Every dataset, and whether it is there: in ``folder`` if given, or in its usual place."""
    place = None if folder is None else Path(folder).expanduser()
    return [_info(source, place) for source in SOURCES]


def _info(source: Source, folder: Path | None) -> DatasetInfo:
    where = (source.find(folder) if folder is not None else None) or source.find(None)
    return DatasetInfo(source.name, source.description, where is not None, where or source.advice)


def _source(name: str) -> Source:
    for source in SOURCES:
        if source.name == name:
            return source
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names())}"
    raise InputError(f"there is no dataset {name!r}; {hint}")


def _split(part: Part, limit: int | None) -> Split:
    return Split(unit_pixels(part.images[:limit]), part.labels[:limit])
