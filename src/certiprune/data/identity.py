"""Telling MNIST and Fashion-MNIST apart, whose files have the same names and shapes."""

from __future__ import annotations

import hashlib

import torch

from certiprune.core.errors import DataError
from certiprune.data.source import Part

# SHA-256 of the 10,000 official test labels, one byte each.
TEST_LABELS = {
    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5": "mnist",
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": "fashion_mnist",
}


def refuse_other_set(test: Part, *, name: str, where: str) -> None:
    """Raise where ``test`` is the official test part of another set than ``name``.

    Raises:
        DataError: it is; everything would run all the same, under wrong names and a wrong normalisation.
    """
    digest = hashlib.sha256(test.labels.to(torch.uint8).numpy().tobytes()).hexdigest()
    actual = TEST_LABELS.get(digest, name)
    if actual != name:
        raise DataError(f"{where} holds {actual}, not {name}; load it as {actual} or name another folder")
