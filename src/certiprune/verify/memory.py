"""What to do where the machine has less memory than the search may take."""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.core.errors import CertipruneError

# Batches take less than ``_MUCH`` bytes anyway, so that only less makes a difference; ``_LEAST`` makes them of one.
_MUCH, _LEAST = 1 << 28, 1 << 20
# What libraries say of an allocation that failed. torch's own class is raised by devices only.
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "failed to allocate memory",
    # oneDNN says no more than this where it gets no memory for its code or its scratchpad.
    "could not create a primitive",
    "could not create a memory object",
    "could not execute a primitive",
    "out of memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there was no memory: Python's, torch's on CPU or device, or onnxruntime's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # onnxruntime's failures arrive as a ModelError with its text.
    return isinstance(error, RuntimeError | CertipruneError) and any(
        word in str(error).lower() for word in _WORDS
    )


def smaller(memory: int, questions: Tensor) -> list[tuple[int, Tensor]]:
    """Parts of ``questions`` [n] that failed within ``memory`` bytes, each with fewer bytes for its batches.

    Nothing where a single question has failed with the least memory.
    """
    less = max(_LEAST, min(memory, _MUCH) // 8)
    if len(questions) > 1:
        return [(less, part) for part in questions.split((len(questions) + 1) // 2)]
    return [(less, questions)] if memory > _LEAST else []
