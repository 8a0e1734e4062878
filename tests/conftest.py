"""What every test runs under: one thread per process, and the same hypothesis examples each time in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# Several workers share the cores, and threads that wait for each other slow all of them down. Equal numbers
# need an equal order of additions, too, and so an equal number of threads.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Commands that a test runs in this process leave their number of threads behind."""
    yield
    torch.set_num_threads(1)
