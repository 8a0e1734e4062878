"""Random generators derived from a seed and a purpose, so that no stage shifts the numbers of another."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and on every word of ``purpose``."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for one purpose, such as ``generator(0, "train", "epoch", 3)``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *purpose))
