"""``certiprune datasets``: what there is, and images for the other commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certiprune.core.errors import InputError


def datasets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A dataset to write images of; leave out for the list."),
    ] = None,
    npz: Annotated[
        Path | None, typer.Option(help="Write images to this file, for `certiprune verify`.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    count: Annotated[int | None, typer.Option(help="How many images, from the first on.")] = None,
    folder: Annotated[Path | None, typer.Option("--data", help="Where the dataset's files are.")] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the splits; an experiment's own seed gives its splits.")
    ] = 0,
) -> None:
    """List the datasets and where they are, or write images of one to a file.

    \b
    Example:
      certiprune datasets digits --npz digits.npz --count 50
    """
    from certiprune import data

    if name is None:
        width = max(len(info.name) for info in data.available(folder))
        for info in data.available(folder):
            state = "found" if info.found else "missing"
            print(f"{info.name:<{width}}  {state:<7}  {info.description}: {info.where}")  # noqa: T201
        return
    if npz is None:
        raise InputError(f"say where to write images of {name}, such as --npz {name}.npz")
    if split not in ("train", "validation", "test"):
        raise InputError(f"there is no split {split!r}; choose train, validation or test")
    if count is not None and count < 1:
        raise InputError(f"--count {count} must be at least 1")
    import io

    import numpy as np

    from certiprune.store import write_bytes

    chosen = getattr(data.load(name, folder=folder, seed=seed), split)
    chosen = chosen if count is None else chosen.head(count)
    content = io.BytesIO()
    np.savez_compressed(content, x=chosen.images.numpy(), y=chosen.labels.numpy())
    write_bytes(npz, content.getvalue())
    print(f"{len(chosen)} {split} images of {name}: {npz}")  # noqa: T201
