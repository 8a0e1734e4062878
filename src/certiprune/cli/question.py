"""What tells the question behind one CSV of verdicts from another: digests of model and images, and eps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from certiprune.cli.images import Images


def question(model: Path, images: Images, eps: float | None) -> dict[str, str]:
    """The question's parts by name; a time limit is none, since what is decided does not depend on it.

    Args:
        model: an ONNX file, a checkpoint or its folder.
        images: all of the file's images: a part of them is a part of the same question.
        eps: the radius of all images; None where the images have their own.

    Raises:
        OSError: a file of the model cannot be read.
    """
    own = images.eps if eps is None else eps
    return {
        "model": _digest(_file_digest(file) for file in _files(model)),
        "images": _digest([repr(images.x.shape).encode(), images.x.tobytes(), images.y.tobytes()]),
        "eps": repr(own) if own is None or isinstance(own, float) else _digest([own.tobytes()]),
    }


def _files(model: Path) -> Iterator[Path]:
    """The files that hold a model's weights."""
    if model.is_dir():
        yield model / "model.safetensors"
        return
    yield model
    if model.suffix == ".onnx" and b"location" in model.read_bytes():
        yield from _external(model)


def _external(model: Path) -> Iterator[Path]:
    """The files beside an ONNX file in which it keeps weights."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        graph = onnx.load(str(model), load_external_data=False).graph
    except Exception:  # protobuf's errors are classes of its own
        # What is no ONNX file is refused by who reads it, with a better word than could be found here.
        return
    names = {ExternalDataInfo(t).location for t in graph.initializer if uses_external_data(t)}
    yield from (file for name in sorted(names) if (file := model.parent / name).is_file())


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # Lengths keep the parts apart.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
