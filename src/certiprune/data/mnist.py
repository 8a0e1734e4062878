"""MNIST: 28x28 grey images of handwritten digits (LeCun, Cortes, Burges)."""

from __future__ import annotations

from pathlib import Path

from certiprune.core.errors import DataError
from certiprune.data.identity import refuse_other_set
from certiprune.data.idx import find_idx, read_idx_set
from certiprune.data.npz import read_npz
from certiprune.data.source import Raw, Source

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
CLASS_NAMES = tuple("0123456789")


def read(folder: Path | None) -> Raw:
    """The official training and test parts, from four idx files or from ``mnist.npz``."""
    archive = _archive(folder)
    if archive is None:
        return read_idx_set("mnist", folder, usual=(), url=URL, checksums=CHECKSUMS, class_names=CLASS_NAMES)
    raw = read_npz(archive, class_names=CLASS_NAMES, shape=(1, 28, 28))
    if raw.test is None:
        raise DataError(f"{archive} has no test part; MNIST needs x_train, y_train, x_test and y_test")
    refuse_other_set(raw.test, name="mnist", where=str(archive))
    return raw


def find(folder: Path | None) -> str | None:
    archive = _archive(folder)
    if archive is not None:
        # Any archive may be named for reading, but only this name says that it is MNIST.
        return str(archive) if archive.name == "mnist.npz" else None
    paths = find_idx("mnist", folder, ())
    return str(paths[0].parent) if paths else None


def _archive(folder: Path | None) -> Path | None:
    if folder is None:
        return None
    path = folder if folder.suffix == ".npz" else folder / "mnist.npz"
    return path if path.is_file() else None


SOURCE = Source(
    name="mnist",
    description="MNIST: 60,000 + 10,000 grey images of handwritten digits, 28x28, 10 classes",
    advice="name a folder with mnist.npz or the four idx files, or let it download",
    read=read,
    find=find,
    mean=(0.1307,),
    std=(0.3081,),
)
