"""Named tensors in a safetensors file: weights to rewind to, the state of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from certiprune.core.errors import InputError
from certiprune.store.commit import atomic


def save(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any] | None = None) -> None:
    """Write ``tensors`` and a JSON ``note`` to ``path``, atomically."""
    # Copies, because safetensors refuses tensors that share memory, which tied weights do.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(copies, temporary, metadata={"note": json.dumps(note or {})})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of ``path``, on the CPU and bit for bit as they were saved, and the note.

    Raises:
        InputError: the file is missing, damaged or not written by ``save``.
    """
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})["note"])
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"cannot read the tensors in {path}: {error}") from error
