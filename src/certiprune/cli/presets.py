"""``certiprune presets``: the experiments that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A preset to write out; leave out for the list.")
    ] = None,
) -> None:
    """List the presets, or write out every setting of one.

    \b
    Example:
      certiprune presets mnist-0.3/ibp
    """
    from certiprune.experiment import load
    from certiprune.experiment import presets as known

    print(load.dump(load.load(name)) if name is not None else "\n".join(known.names()))  # noqa: T201
