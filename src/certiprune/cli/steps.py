"""``certiprune prune`` and ``export``: one step on one model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certiprune.cli.words import same_file
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.net.checkpoint import Checkpoint


def _list_methods(wanted: bool) -> None:
    if wanted:
        from certiprune.prune import scores

        print("\n".join(scores.names()))  # noqa: T201
        raise typer.Exit


def prune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint of certiprune's own.")],
    out: Annotated[Path, typer.Option(help="The new checkpoint, a .safetensors file or a folder.")],
    amount: Annotated[
        float,
        typer.Option(help="The fraction of the weights or channels still there to remove, such as 0.5."),
    ],
    method: Annotated[
        str,
        typer.Option(
            help="How they are ranked: magnitude, snip, taylor, l1-channel, ... (--methods lists all)."
        ),
    ] = "magnitude",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Training images x and labels y, for methods that look at data."
        ),
    ] = None,
    loss: Annotated[str, typer.Option(help="The training loss that gradients are of.")] = "natural",
    eps: Annotated[
        str, typer.Option(help="The radius of the loss and of bounds, such as 2/255 or 0.1.")
    ] = "2/255",
    scope: Annotated[str, typer.Option(help="global, or layer: rank within each layer.")] = "global",
    granularity: Annotated[
        str | None,
        typer.Option(help="weights or channels; by default what the method ranks.", show_default=False),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="convolutions, linear or all; by default the layers pruned before, else convolutions.",
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An option of the method, such as batches=20; several times."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides all randomness.")] = 0,
    methods: Annotated[  # noqa: ARG001 - the callback does it
        bool, typer.Option("--methods", callback=_list_methods, is_eager=True, help="List the methods.")
    ] = False,
) -> None:
    """Remove the weights or channels of a model that matter least, by one method.

    \b
    Example:
      certiprune prune model.safetensors --amount 0.5 --out pruned.safetensors
      certiprune prune model.safetensors --amount 0.25 --method taylor --images train.npz --out pruned.safetensors
    """
    from certiprune.net.checkpoint import file_of

    _same(file_of(model), file_of(out))
    found = _checkpoint(model)
    from certiprune import api
    from certiprune.cli import images as files
    from certiprune.net import checkpoint

    settings = {"method": method, "amount": amount, "loss": loss, "eps": eps, "scope": scope, "seed": seed}
    settings |= {"granularity": granularity, "layers": layers}
    given = None if images is None else files.read(images)
    pruned = api.prune(
        found.model,
        data=None if given is None else (given.x, given.y),
        mask=found.mask,
        **settings,  # type: ignore[arg-type]
        **_options(method, option or []),
    )
    mask = api.mask_of(pruned)
    note = {**found.note, "pruned": settings | {"options": option or []}}
    file = checkpoint.save(out, pruned, found.spec, mask=mask, note=note)
    assert mask is not None
    weights = [keep for keep in mask.values() if keep.dim() > 1]
    left, total = sum(int(keep.sum()) for keep in weights), sum(keep.numel() for keep in weights)
    print(f"{left} of {total} weights are left: {file}")  # noqa: T201


def _options(method: str, given: list[str]) -> dict[str, Any]:
    """The options of ``method`` from ``NAME=VALUE`` pairs; values are numbers, true or false, or text."""
    from certiprune.prune import scores

    options: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--option {pair}: write NAME=VALUE, such as batches=20")
        options[name] = _value(value)
    # What the method does not know must not be taken for something else that ``prune`` is told.
    scores.build(method, **options)
    return options


def _value(text: str) -> bool | float | int | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A checkpoint of certiprune's own, or an ONNX file.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file to write.")],
    compact: Annotated[bool, typer.Option(help="Leave out dead channels and neurons.")] = True,
) -> None:
    """Write a model as ONNX, without the channels and neurons that pruning has killed, and say what that saves.

    \b
    Example:
      certiprune export model.safetensors model.onnx
    """
    _same(model, out)
    if out.suffix != ".onnx":
        raise InputError(f"{out}: an ONNX file's name must end in .onnx")
    from certiprune import api
    from certiprune.net import onnx_out
    from certiprune.net.cost import sizes

    network, _ = api.read(model)
    before = sizes(network)
    if compact:
        network, _ = api.compact(network)
    onnx_out.write(network, out)
    after = sizes(network)
    print(f"{after.neurons} of {before.neurons} neurons are left: {out}")  # noqa: T201
    for name in ("parameters", "multiply_adds", "bytes"):
        old, new = getattr(before, name), getattr(after, name)
        print(f"{name.replace('_', '-')}: {old:,} before, {new:,} after")  # noqa: T201


def _checkpoint(path: Path) -> Checkpoint:
    if path.suffix == ".onnx":
        raise InputError(f"{path}: an ONNX file cannot be pruned; give a checkpoint (.safetensors)")
    if not path.exists():
        raise InputError(f"{path}: no such model file; give a checkpoint (.safetensors)")
    from certiprune.net import checkpoint

    return checkpoint.load(path)


def _same(model: Path, out: Path) -> None:
    if same_file(model, out):
        raise InputError(f"{out} is the model itself; choose another name")
