"""Tiny files in each of the formats that certiprune.data reads."""

import gzip
import struct
from pathlib import Path

import numpy as np

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(n: int, classes: int = 10) -> np.ndarray:
    return (np.arange(n) % classes).astype(np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, *, packed: bool, train: int = 40, test: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (pixels(0, train, 28, 28), labels(train), pixels(1, test, 28, 28), labels(test))
    for name, array in zip(IDX_FILES, arrays, strict=True):
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def records(seed: int, label_columns: list[np.ndarray]) -> bytes:
    rows = pixels(seed, len(label_columns[0]), 3 * 32 * 32)
    return np.column_stack([*label_columns, rows]).astype(np.uint8).tobytes()


def write_cifar10(folder: Path, each: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(records(number, [labels(each)]))
    (folder / "test_batch.bin").write_bytes(records(6, [labels(each)]))


def write_cifar100(folder: Path, train: int = 100, test: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, n in (("train.bin", train), ("test.bin", test)):
        (folder / file).write_bytes(records(n, [np.full(n, 19), 99 - labels(n, 100)]))


def write_svhn(folder: Path, train: int = 30, test: int = 20) -> None:
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for file, n in (("train_32x32.mat", train), ("test_32x32.mat", test)):
        savemat(folder / file, {"X": pixels(n, 32, 32, 3, n), "y": (labels(n) + 1)[:, None]})


def write_image(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_folder(
    folder: Path, *, n: int = 6, names: tuple[str, ...] = ("cat", "dog"), colour: bool = True
) -> None:
    for label, name in enumerate(names):
        for index in range(n):
            array = pixels(100 * label + index, 5, 4, *([3] if colour else []))
            write_image(folder / name / f"{index:03}.png", array)
