"""Decoding image files once: their pixels are cached until a file is added, removed or changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from certiprune.core.errors import DataError
from certiprune.data.files import cache_folder

FORMAT = 1
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "RGB", "RGBA", "CMYK", "YCbCr"})


def images(folder: Path, paths: Sequence[Path]) -> np.ndarray:
    """The images of ``paths``, all under ``folder``: uint8 [n, 3, h, w], or [n, 1, h, w] if all are grey.

    Raises:
        DataError: a file is no image, or has another size than the first.
    """
    cache = cache_folder() / "decoded" / f"{_digest([str(folder.resolve())])[:16]}.npz"
    fingerprint = _fingerprint(folder, paths)
    pixels = _load(cache, fingerprint)
    if pixels is None:
        pixels = decode(paths)
        # The cache only saves time: a full or read-only disk must not keep anybody from the images.
        with contextlib.suppress(OSError):
            _save(cache, fingerprint, pixels)
    return pixels


def decode(paths: Sequence[Path]) -> np.ndarray:
    """The images of ``paths`` as uint8 [n, c, h, w]."""
    arrays = [_decode_one(path) for path in paths]
    size = arrays[0].shape[1:]
    for path, array in zip(paths, arrays, strict=True):
        if array.shape[1:] != size:
            raise DataError(
                f"{path} is {array.shape[2]}x{array.shape[1]} pixels, but {paths[0]} is {size[1]}x{size[0]}; "
                "bring all images to one size"
            )
    channels = max(array.shape[0] for array in arrays)
    pixels = np.empty((len(arrays), channels, *size), np.uint8)
    for index, array in enumerate(arrays):
        pixels[index] = array
    return pixels


def _decode_one(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.mode in GREY_MODES:
                return np.asarray(image.convert("L"))[None]
            if image.mode in COLOUR_MODES:
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            mode = image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable PNG or JPEG file ({error}); replace or remove it") from error
    raise DataError(
        f"{path} has pixels of kind {mode}, which 8 bits cannot hold; convert it to 8-bit grey or RGB"
    )


def _fingerprint(folder: Path, paths: Sequence[Path]) -> str:
    lines = [f"format {FORMAT}"]
    for path in paths:
        state = path.stat()
        lines.append(f"{path.relative_to(folder).as_posix()} {state.st_size} {state.st_mtime_ns}")
    return _digest(lines)


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _load(cache: Path, fingerprint: str) -> np.ndarray | None:
    """The cached pixels, or None where they are absent, stale or damaged."""
    try:
        with cache.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            return archive["pixels"] if str(archive["fingerprint"]) == fingerprint else None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None


def _save(cache: Path, fingerprint: str, pixels: np.ndarray) -> None:
    """Write to a temporary file beside ``cache``, then rename: a reader sees all of it or nothing."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache.parent, prefix=cache.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, pixels=pixels, fingerprint=np.array(fingerprint))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(cache)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
