"""Fashion-MNIST: 28x28 grey images of clothes (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747)."""

from __future__ import annotations

from pathlib import Path

from certiprune.data.idx import find_idx, read_idx_set
from certiprune.data.source import Raw, Source

# Where Debian's package dataset-fashion-mnist puts the four files.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
CLASS_NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def read(folder: Path | None) -> Raw:
    """The official training and test parts."""
    return read_idx_set(
        "fashion_mnist", folder, usual=(DEBIAN,), url=URL, checksums=CHECKSUMS, class_names=CLASS_NAMES
    )


def find(folder: Path | None) -> str | None:
    paths = find_idx("fashion_mnist", folder, (DEBIAN,))
    return str(paths[0].parent) if paths else None


SOURCE = Source(
    name="fashion_mnist",
    description="Fashion-MNIST: 60,000 + 10,000 grey images of clothes, 28x28, 10 classes",
    advice="install Debian's dataset-fashion-mnist, or name a folder with the idx files, or let it download",
    read=read,
    find=find,
    mean=(0.286,),
    std=(0.315,),
)
