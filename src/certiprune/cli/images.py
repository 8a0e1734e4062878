"""The images that ``certiprune verify`` is given: an .npz file with ``x``, ``y`` and, if wanted, ``eps``."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certiprune.core.errors import DataError, InputError
from certiprune.core.memory import free


@dataclass(frozen=True)
class Images:
    """What the file holds.

    Attributes:
        x: [n, ...] float32, before normalisation.
        y: [n] int64.
        eps: one number, [n] numbers, or None where the file has none.
    """

    x: np.ndarray
    y: np.ndarray
    eps: float | np.ndarray | None

    def cut(self, start: int, end: int | None) -> Images:
        """The images ``start`` to ``end`` - 1.

        Raises:
            InputError: there is no such image.
        """
        count = len(self.x)
        last = count if end is None else end
        if not 0 <= start < last <= count:
            raise InputError(
                f"--start {start} --end {last} chooses no images: 0 <= start < end <= {count} is needed"
            )
        part = slice(start, last)
        eps = self.eps[part] if isinstance(self.eps, np.ndarray) else self.eps
        return Images(self.x[part], self.y[part], eps)


def read(path: Path) -> Images:
    """The arrays of ``path``, checked as far as that goes without the model.

    Raises:
        DataError: the file is missing, is no .npz archive, lacks ``x`` or ``y``, or they do not fit together.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of images")
    try:
        # Without pickle an archive can hold data only, and no code.
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array; save one with numpy.savez(file, x=..., y=...)")
        with loaded as archive:
            # A small archive can unpack to any size.
            assert archive.zip is not None
            sizes: list[int] = [entry.file_size for entry in archive.zip.infolist()]
            unpacked = sum(sizes)
            if unpacked > free():
                raise DataError(f"{path} unpacks to {unpacked >> 20} MiB, more than the memory that is free")
            arrays = {key: archive[key] for key in ("x", "y", "eps") if key in archive}
            found = ", ".join(archive.files) or "nothing"
    except MemoryError as error:
        raise DataError(f"{path} holds arrays larger than the memory that is free") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no .npz file of plain arrays; save one with numpy.savez") from error
    if not {"x", "y"} <= set(arrays):
        raise DataError(f"{path} holds {found}; it must hold x (images) and y (labels)")
    # A member of the archive that is no array comes out as it is.
    strange = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise DataError(f"{path}: {strange[0]} is damaged; save arrays with numpy.savez")
    x, y, eps = arrays["x"], arrays["y"], arrays.get("eps")
    if x.dtype.kind != "f":
        raise DataError(f"{path}: x is {x.dtype}; it must be float32 with pixels in [0, 1]")
    if x.ndim < 2 or len(x) == 0:
        raise DataError(f"{path}: x is {list(x.shape)}; it must hold at least one image, [n, c, h, w]")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(
            f"{path}: y is {y.dtype} {list(y.shape)}; it must be int64 [{len(x)}], a label per image"
        )
    if eps is not None and (eps.dtype.kind not in "fiu" or eps.shape not in ((), (1,), (len(x),))):
        raise DataError(f"{path}: eps is {eps.dtype} {list(eps.shape)}; it must be one number or [{len(x)}]")
    return Images(
        x.astype(np.float32),
        y.astype(np.int64),
        None if eps is None else float(eps.item()) if eps.size == 1 else eps,
    )
