"""Finding and opening the files of a dataset, with errors that name them."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from certiprune.core.errors import DataError


def required_folder(folder: Path | None, name: str, advice: str) -> Path:
    """``folder``, once it is seen to be there.

    Raises:
        DataError: no folder was named, or it does not exist.
    """
    if folder is None:
        raise DataError(f"dataset {name} needs a folder (or file) of yours: {advice}")
    if not folder.exists():
        raise DataError(f"{folder} does not exist; for dataset {name}, {advice}")
    return folder


def locate(
    folders: Sequence[Path], files: Sequence[str], suffixes: Sequence[str] = ("",)
) -> list[Path] | None:
    """The paths of ``files``, each with one of ``suffixes``, in the first of ``folders`` that has all."""
    for folder in folders:
        paths = [_under(folder, file, suffixes) for file in files]
        present = [path for path in paths if path is not None]
        if len(present) == len(files):
            return present
    return None


def missing(folder: Path, files: Sequence[str], suffixes: Sequence[str] = ("",)) -> str:
    """The names of those ``files`` that ``folder`` lacks, for a message."""
    return ", ".join(file for file in files if _under(folder, file, suffixes) is None)


def _under(folder: Path, file: str, suffixes: Sequence[str]) -> Path | None:
    paths = (folder / (file + suffix) for suffix in suffixes)
    return next((path for path in paths if path.is_file()), None)


def read_bytes(path: Path) -> bytes:
    """The contents of a file, unpacked if its name ends in ``.gz``.

    Raises:
        DataError: it cannot be read, or is no whole gzip file.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); delete it and get it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def cache_folder() -> Path:
    """Where downloads and decoded images are kept: ``$CERTIPRUNE_CACHE``, else the user's cache folder."""
    named = os.environ.get("CERTIPRUNE_CACHE")
    if named:
        return Path(named)
    import pooch

    return Path(pooch.os_cache("certiprune"))


def download(name: str, url: str, checksums: dict[str, str]) -> None:
    """Fetch the files of ``checksums`` (name -> SHA-256) from ``url`` into the cache of dataset ``name``.

    A file that is there already and has the right checksum is kept.

    Raises:
        DataError: a file cannot be fetched, or is not the one that the checksum belongs to.
    """
    import pooch

    target = cache_folder() / name
    for file, sha256 in checksums.items():
        try:
            pooch.retrieve(url + file, known_hash=f"sha256:{sha256}", fname=file, path=target)
        except (OSError, ValueError) as error:
            # requests' errors are OSErrors, and pooch reports a wrong checksum as a ValueError.
            raise DataError(
                f"dataset {name}: {url}{file} could not be downloaded ({_first_line(error)}); "
                f"put {', '.join(checksums)} into a folder yourself and name that folder"
            ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
