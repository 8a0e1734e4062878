"""Named tensors and a JSON header in one safetensors file, replaced as a whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from certiprune.core.errors import InputError, ModelError

_KEY = "certiprune"


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, kind: str, version: int
) -> None:
    """Write ``tensors`` and ``header`` to ``path`` atomically: a reader sees the old file or the new one.

    Args:
        path: the file; its folder is made where it is missing.
        tensors: copied to the CPU.
        header: what JSON can hold.
        kind: what the file is, such as ``checkpoint``; ``read_tensors`` asks for it again.
        version: the number of the layout.

    Raises:
        InputError: the header holds what JSON cannot, or the file cannot be written.
    """
    try:
        text = json.dumps({"kind": kind, "version": version, **header}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {kind}'s header must hold plain numbers, texts and lists: {error}") from error
    data = to_bytes(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, metadata={_KEY: text}
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise InputError(f"cannot write the {kind} {path}: {error.strerror or error}") from error


def read_tensors(path: Path, *, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU, in memory of their own) and the header that ``write_tensors`` wrote.

    Raises:
        ModelError: the file is missing, damaged, of another kind, or of another version.
    """
    if not path.is_file():
        raise ModelError(f"there is no {kind} at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"the {kind} {path} is damaged: {error}") from error
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise ModelError(f"{path} is not a {kind} of certiprune's")
    if header.get("version") != version:
        raise ModelError(
            f"the {kind} {path} has version {header.get('version')}; this program reads {version}"
        )
    return tensors, header


def replace_file(path: Path, data: bytes) -> None:
    """Make ``data`` the content of ``path``, by way of a file beside it: a crash leaves the old file whole.

    Where ``path`` is a link, it stays one.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        what = errno.EISDIR if path.is_dir() else errno.EINVAL
        # Renamed over a device, a file would take its place for everyone.
        raise OSError(what, os.strerror(what), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
