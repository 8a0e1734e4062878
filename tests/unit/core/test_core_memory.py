"""What a process keeps of its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_KEEPING = """
import resource
import torch
from certiprune.core.memory import free, keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(25 << 20).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults(), faults()
keep_freed()
# What is kept may first lie in pieces that are a little too small.
again = [faults() for _ in range(10)][-1]
assert again * 100 < min(fresh), (fresh, again)
held = torch.ones(100 << 20)
less = free()
del held
assert free() - less > 200 << 20, (less, free())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_what_is_freed_is_kept_for_its_next_use_and_counts_as_free() -> None:
    subprocess.run([sys.executable, "-c", _KEEPING], check=True)
