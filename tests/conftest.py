"""What every test runs under: one thread per process, and the same hypothesis examples each time in CI."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker is a process of its own; more threads than cores only get in each other's way.
    torch.set_num_threads(1)
