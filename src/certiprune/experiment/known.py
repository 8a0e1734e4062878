"""What is known of the datasets that come by name before they are read."""

from __future__ import annotations

from typing import NamedTuple


class Images(NamedTuple):
    """Images as networks see them.

    Attributes:
        shape: channels, height and width.
        classes: how many there are.
        training: those of the training split, with a tenth kept for validation.
    """

    shape: tuple[int, int, int]
    classes: int
    training: int


DATA: dict[str, Images] = {
    "digits": Images((1, 8, 8), 10, 1293),
    "mnist": Images((1, 28, 28), 10, 54000),
    "fashion_mnist": Images((1, 28, 28), 10, 54000),
    "cifar10": Images((3, 32, 32), 10, 45000),
    "cifar100": Images((3, 32, 32), 100, 45000),
    "svhn": Images((3, 32, 32), 10, 65931),
}
OTHER = DATA["cifar10"]
"""What data of one's own is taken for."""
