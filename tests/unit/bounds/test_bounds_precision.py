"""When float32 may prove: only while its sums are plain float32 sums."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from certiprune.bounds import Engine
from certiprune.net import lower


@pytest.fixture
def engine() -> Iterator[Engine]:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    yield Engine.of(lower(module, shape=(1, 2, 2)))
    torch.set_float32_matmul_precision("highest")


def test_plain_float32_may_prove(engine: Engine) -> None:
    assert engine.single


def test_quicker_products_may_not(engine: Engine) -> None:
    torch.set_float32_matmul_precision("medium")
    assert not engine.single


def test_autocast_may_not(engine: Engine) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not engine.single


def test_quicker_convolutions_may_not(engine: Engine) -> None:
    conv = getattr(torch.backends.mkldnn, "conv", None)
    if conv is None or not hasattr(conv, "fp32_precision"):
        pytest.skip("this torch has no such setting")
    before = conv.fp32_precision
    conv.fp32_precision = "bf16"
    try:
        assert not engine.single
    finally:
        conv.fp32_precision = before
