"""CIFAR-10: 32x32 colour images of 10 classes."""

from __future__ import annotations

from pathlib import Path

from certiprune.data.cifar import find_binary, read_binary
from certiprune.data.source import Raw, Source

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SUBFOLDER = "cifar-10-batches-bin"
ADVICE = "unpack cifar-10-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) and name its folder"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(folder: Path | None) -> Raw:
    """The official training and test parts."""
    return read_binary(
        "cifar10",
        folder,
        subfolder=SUBFOLDER,
        train=TRAIN,
        test=TEST,
        label_bytes=1,
        class_names=CLASS_NAMES,
        advice=ADVICE,
    )


def find(folder: Path | None) -> str | None:
    paths = find_binary(folder, SUBFOLDER, (*TRAIN, TEST))
    return str(paths[0].parent) if paths else None


SOURCE = Source(
    name="cifar10",
    description="CIFAR-10, binary form: 50,000 + 10,000 colour images, 32x32, 10 classes",
    advice=ADVICE,
    read=read,
    find=find,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
