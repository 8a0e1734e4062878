"""``certiprune presets``: the experiments that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A preset to write out; leave out for the list.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="List what a file's base can put together besides presets.")
    ] = False,
) -> None:
    """List the presets, or write out every setting of one.

    A file that says base: [fashion-0.1, n_fgsm, imp, slim] is the setting fashion-0.1, trained by n_fgsm, pruned by
    two methods.

    \b
    Example:
      certiprune presets mnist-0.3/ibp
    """
    from certiprune.experiment import load
    from certiprune.experiment import presets as known

    if parts and name is None:
        width = max(map(len, known.parts()))
        print("\n".join(f"{part:{width}}  {known.comment(part)}".rstrip() for part in known.parts()))  # noqa: T201
        return
    print(load.dump(load.load(name)) if name is not None else "\n".join(known.names()))  # noqa: T201
