"""Models of the zoo on disk, as safetensors: any reader of that format opens them, and they run no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from certiprune.core.errors import ModelError
from certiprune.core.mask import Mask
from certiprune.net.tensor_file import read_tensors, write_tensors
from certiprune.net.zoo import ModelSpec, build

FILE = "model.safetensors"
"""The file's name where a folder is given."""

_KIND = "checkpoint"
_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What ``load`` returns: the model in evaluation mode, and what was saved with it."""

    model: nn.Module
    spec: ModelSpec
    mask: Mask | None
    note: Mapping[str, Any]


def save(
    path: str | Path, model: nn.Module, spec: ModelSpec, *, mask: Mask | None, note: Mapping[str, Any]
) -> Path:
    """Save ``model`` atomically, and return the file's path.

    Args:
        path: a file called ``*.safetensors``, or else a folder, in which ``model.safetensors`` is written.
        model: a model built from ``spec``; its pruned weights must be zero, so that the saved tensors
            alone are the pruned model.
        spec: how to build it again.
        mask: which weights are kept, if it was pruned.
        note: anything that JSON can hold.

    Raises:
        ModelError: the tensors are not those of ``spec``, a number is not finite, or a pruned weight is not
            zero.
        InputError: the note cannot be written as JSON, or the file cannot be written.
    """
    file = file_of(path)
    tensors = model.state_dict()
    _fit(build(spec), tensors, str(file))
    _check(tensors, mask or Mask(), str(file))
    masks = {f"mask.{name}": keep.to(torch.uint8) for name, keep in (mask or {}).items()}
    header = {"spec": asdict(spec), "mask": None if mask is None else list(mask), "note": dict(note)}
    weights = {f"model.{name}": tensor for name, tensor in tensors.items()}
    write_tensors(file, weights | masks, header, kind=_KIND, version=_VERSION)
    return file


def load(path: str | Path) -> Checkpoint:
    """Load what ``save`` wrote at ``path``, a file or a folder; the model is on the CPU, in evaluation mode.

    Raises:
        ModelError: the file is missing, damaged, of another version or not a checkpoint, its tensors are not
            those of its model, a number is not finite, or a pruned weight is not zero.
    """
    file = file_of(path)
    tensors, header = read_tensors(file, kind=_KIND, version=_VERSION)
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    try:
        spec = ModelSpec(**header["spec"])
        masked, note = header["mask"], header["note"]
        mask = None if masked is None else Mask({name: tensors[f"mask.{name}"].bool() for name in masked})
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"the checkpoint {file} is damaged: its header lacks or misstates {error}"
        ) from error
    model = build(spec)
    _fit(model, weights, str(file))
    _check(weights, mask or Mask(), str(file))
    model.load_state_dict(weights)
    return Checkpoint(model.eval(), spec, mask, note)


def file_of(path: str | Path) -> Path:
    """The file that ``save`` writes and ``load`` reads for ``path``, a file or a folder."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / FILE


def _fit(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Names, shapes and precisions must be the model's own: loading must never change a number."""
    expected = {name: (tuple(t.shape), t.dtype) for name, t in model.state_dict().items()}
    found = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            have, want = found.get(name, "nothing"), expected.get(name, "nothing")
            raise ModelError(f"{where}: {name} is {have}, and the model's description says {want}")


def _check(tensors: Mapping[str, Tensor], mask: Mask, where: str) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{where}: {name} holds numbers that are not finite")
    for name, keep in mask.items():
        if name not in tensors or tensors[name].shape != keep.shape:
            raise ModelError(f"{where}: the mask of {name} {tuple(keep.shape)} fits no tensor of the model")
        if bool((tensors[name][~keep.to(tensors[name].device)] != 0).any()):
            raise ModelError(f"{where}: {name} has pruned weights that are not zero; apply the mask first")
