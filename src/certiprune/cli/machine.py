"""What of the machine a command uses."""

from __future__ import annotations

from certiprune.core.errors import InputError


def use_threads(threads: int | None) -> None:
    """Let torch use ``threads`` CPU threads; None leaves it to torch.

    Raises:
        InputError: the number is below 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise InputError(f"--threads {threads} must be at least 1")
    import torch

    torch.set_num_threads(threads)
