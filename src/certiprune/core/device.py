"""Devices by name."""

from __future__ import annotations

import torch

from certiprune.core.errors import InputError


def find_device(name: str) -> torch.device:
    """The device called ``name``: ``cpu``, ``cuda`` or such as ``cuda:1``.

    Raises:
        InputError: there is no such device here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"there is no device called {name!r}; choose cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name} is not supported; choose cpu or cuda")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        raise InputError(f"device {name} is not there; choose cpu")
    return device
