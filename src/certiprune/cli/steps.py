"""``certiprune prune`` and ``export``: one step on one model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.net.checkpoint import Checkpoint


def prune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint of certiprune's own.")],
    out: Annotated[Path, typer.Option(help="The new checkpoint, a .safetensors file or a folder.")],
    amount: Annotated[
        float, typer.Option(help="The fraction of the weights still there to remove, such as 0.5.")
    ],
    method: Annotated[str, typer.Option(help="How weights are ranked: magnitude, random.")] = "magnitude",
    scope: Annotated[str, typer.Option(help="global, or layer: rank within each layer.")] = "global",
    seed: Annotated[int, typer.Option(help="Decides the randomness of the method.")] = 0,
) -> None:
    """Remove the weights of a model that matter least, by one method.

    \b
    Example:
      certiprune prune model.safetensors --amount 0.5 --out pruned.safetensors
    """
    _same(model, out)
    found = _checkpoint(model)
    from certiprune import api
    from certiprune.net import checkpoint

    pruned, mask = api.prune(
        found.model,
        method=method,
        amount=amount,
        mask=found.mask,
        seed=seed,
        scope=scope,  # type: ignore[arg-type]
    )
    note = {**found.note, "pruned": {"method": method, "amount": amount, "scope": scope, "seed": seed}}
    file = checkpoint.save(out, pruned, found.spec, mask=mask, note=note)
    print(f"{mask.kept} of {mask.total} weights are left: {file}")  # noqa: T201


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
    if model.exists() and out.exists() and model.samefile(out):
        raise InputError(f"{out} is the model itself; choose another name")
