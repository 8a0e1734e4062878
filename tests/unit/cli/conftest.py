"""A small model and images for the commands, made without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from certiprune import data
from certiprune.cli.entry import status
from certiprune.net import checkpoint, zoo


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def certiprune(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run ``certiprune`` in this process with the given arguments."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        result = status([str(argument) for argument in arguments])
        return Said(result, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset) -> Path:
    """The checkpoint of an untrained network for the digits."""
    spec = zoo.ModelSpec("mlp", digits.shape, digits.classes, digits.mean, digits.std, width=0.1)
    return checkpoint.save(
        tmp_path_factory.mktemp("model") / "model.safetensors", zoo.build(spec), spec, mask=None, note={}
    )


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset) -> Path:
    """Ten test images, without an eps."""
    file = tmp_path_factory.mktemp("images") / "images.npz"
    ten = digits.test.head(10)
    np.savez(file, x=ten.images.numpy(), y=ten.labels.numpy())
    return file
