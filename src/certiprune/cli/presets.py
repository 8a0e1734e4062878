"""``certiprune presets``: the experiments that come with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from certiprune.experiment.estimate import Estimate


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A preset to write out; leave out for the list.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="List what a file's base can put together besides presets.")
    ] = False,
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="List the sweeps, with what they take on this machine.")
    ] = False,
    time: Annotated[
        bool,
        typer.Option("--time", help="Say what each preset takes on this machine; times a few steps for it."),
    ] = False,
) -> None:
    """List the presets, or write out every setting of one.

    A file that says base: [fashion-0.1, n_fgsm, imp, slim] is the setting fashion-0.1, trained by n_fgsm, pruned by
    two methods. What a preset takes is estimated from a few timed steps; verification is at most what it says.

    \b
    Example:
      certiprune presets mnist-0.3/ibp
      certiprune presets --time
      certiprune presets --sweeps
    """
    from certiprune.core.errors import InputError
    from certiprune.experiment import load
    from certiprune.experiment import presets as known

    if sum((name is not None, parts, sweeps, time)) > 1:
        raise InputError("a NAME, --parts, --sweeps and --time each ask for something else; give one of them")
    if name is not None:
        _write(name)
    elif parts:
        _print({part: known.comment(known.base(part)) for part in known.parts()})
    elif sweeps:
        _print(_sweeps())
    elif time:
        from certiprune.experiment.estimate import Pace, estimate

        pace = Pace()
        _print({preset: _text(estimate([load.load(preset)], pace)) for preset in known.names()})
    else:
        print("\n".join(known.names()))  # noqa: T201


def _write(name: str) -> None:
    from pathlib import Path

    from certiprune.core.errors import ConfigError, hint
    from certiprune.experiment import load
    from certiprune.experiment import presets as known
    from certiprune.experiment.sweep import config

    valid = [*known.names(), *known.sweeps()]
    if name not in valid:
        raise ConfigError(f"there is no preset {name!r}; {hint(name, valid)}")
    if name in known.sweeps():
        print(config.dump(config.load(Path(name))))  # noqa: T201
    else:
        print(load.dump(load.load(name)))  # noqa: T201


def _sweeps() -> dict[str, str]:
    from pathlib import Path

    from certiprune.experiment import presets as known
    from certiprune.experiment import sweep
    from certiprune.experiment.estimate import Pace, estimate
    from certiprune.experiment.sweep import config

    pace, found = Pace(), {}
    for name in known.sweeps():
        cells = sweep.grid(config.load(Path(name)), name=name)
        total = estimate([cell.experiment for cell in cells], pace)
        found[name] = f"{known.comment(known.sweep(name))} {_text(total)}"
    return found


def _print(lines: dict[str, str]) -> None:
    width = max(map(len, lines))
    print("\n".join(f"{name:{width}}  {text}".rstrip() for name, text in lines.items()))  # noqa: T201


def _text(found: Estimate) -> str:
    networks = f"{found.networks} network{'s' if found.networks > 1 else ''}"
    return f"{networks}: training about {_time(found.training)}, verification at most {_time(found.verification)}"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
