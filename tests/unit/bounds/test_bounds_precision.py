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


@pytest.mark.parametrize("place", ["fp32_precision", "mkldnn.fp32_precision", "mkldnn.matmul.fp32_precision"])
def test_the_newer_settings_may_not(engine: Engine, place: str) -> None:
    """With these torch refuses to say what ``get_float32_matmul_precision`` is."""
    *parts, name = place.split(".")
    owner = torch.backends
    for part in parts:
        owner = getattr(owner, part, None)
    if not hasattr(owner, name):
        pytest.skip("this torch has no such setting")
    before = getattr(owner, name)
    setattr(owner, name, "bf16")
    try:
        assert not engine.single
    finally:
        setattr(owner, name, before)


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_a_default_of_the_library_below_torch_may_not(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "BF16")
    assert not engine.single
    monkeypatch.setenv(name, "STRICT")
    assert engine.single
