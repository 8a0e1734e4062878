"""What ``verify`` and ``certify`` are asked, checked before anything is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from certiprune.core.arrays import Array, radii, shape_of, tensor
from certiprune.core.device import find_device
from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.memory import parse_memory
from certiprune.net import Network
from certiprune.net import compact as _compact
from certiprune.net import lower as _lower
from certiprune.net.replay import replayed
from certiprune.prune.hold import settle

if TYPE_CHECKING:
    from certiprune.verify.outcome import Outcome
    from certiprune.verify.problem import Budget

Images = Array
Original = Callable[[Tensor], Tensor]
AnyModel = nn.Module | Network | str | Path


def lower(
    module: nn.Module, *, shape: Sequence[int], mask: Mask | None = None, probe: Tensor | None = None
) -> Network:
    """``module`` as an immutable graph of affine operations and ReLUs, checked against the module on a probe.

    Args:
        module: layers that certiprune knows; it is looked at in evaluation mode and left as it was, but for
            weights that are not zero although it holds them at zero (``prune.hold``).
        shape: an input's shape without the batch dimension, such as (1, 28, 28).
        mask: weights to take for zero.
        probe: inputs [n, *shape] on which the two are compared; random ones by default.

    Raises:
        InputError: ``shape`` or ``mask`` is none.
        ModelError: an operator is not supported, weights are not finite, or hooks or steps in place make it another
            function than its layers say.
        LoweringError: the two compute different things.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"{type(module).__name__} is no torch.nn.Module")
    if not (mask is None or isinstance(mask, Mask)):
        raise InputError(f"the mask must be a certiprune.Mask, not {type(mask).__name__}")
    settle(module)
    return _lower(module, shape=shape_of(shape), mask=mask, probe=probe)


def read(path: str | Path) -> tuple[Network, Original]:
    """The network in an ONNX file or in a checkpoint of certiprune's own, and what runs the original.

    Raises:
        InputError: there is no such file, or it is neither.
        ModelError: it holds an unsupported operator or is damaged.
    """
    file = Path(path)
    if not file.exists():
        raise InputError(f"{path}: no such model file; give an ONNX file or a checkpoint (.safetensors)")
    if file.suffix == ".onnx":
        from certiprune.net import onnx_in, onnx_run

        return onnx_in.read(file), onnx_run.runner(file)
    if file.is_dir() or file.suffix == ".safetensors":
        from certiprune.net import checkpoint

        found = checkpoint.load(file)
        model = found.model.eval()
        return lower(model, shape=found.spec.shape, mask=found.mask), model
    raise InputError(f"{path}: is no model file; give an ONNX file (.onnx) or a checkpoint (.safetensors)")


@dataclass(frozen=True)
class Questions:
    """Images about which ``verify`` is asked, with everything checked and the model ready: to be decided in parts.

    Attributes:
        network: the compacted network, in float64.
        original: the model that counterexamples are replayed on; the network itself where None.
        images: [n, *shape] float32.
        labels: [n] int64.
        eps: one radius, or one per image [n].
        domain: the smallest and largest value of a pixel.
        budget: what each image may cost.
        indices: [n] the images' numbers.
    """

    network: Network
    original: Original | None
    images: Tensor
    labels: Tensor
    eps: float | Tensor
    domain: tuple[float, float]
    budget: Budget
    indices: Sequence[int]

    def decide(self, chosen: Sequence[int] | None = None) -> Iterator[Outcome]:
        """The outcomes of the images at places ``chosen`` (all when None), each as soon as it is decided."""
        from certiprune.verify import verify as decide

        places = list(range(len(self.images)) if chosen is None else chosen)
        return decide(
            self.network,
            self.images[places],
            self.labels[places],
            eps=self.eps if isinstance(self.eps, float) else self.eps[places],
            domain=self.domain,
            budget=self.budget,
            indices=[self.indices[place] for place in places],
            original=self.original,
        )


def questions(
    model: AnyModel,
    images: Images,
    labels: Images,
    *,
    eps: float | str | Images,
    timeout: float = 300.0,
    nodes: int | None = None,
    memory: int | str | None = None,
    domain: tuple[float, float] = (0.0, 1.0),
    device: str = "cpu",
    indices: Sequence[int] | None = None,
) -> Questions:
    """What ``verify`` is asked, checked: for those who decide the images in parts. Arguments are those of ``outcomes``.

    Raises:
        InputError, ModelError: as ``verify`` does.
    """
    from certiprune.verify import Budget

    if not (isinstance(timeout, int | float) and timeout > 0):
        raise InputError(f"the timeout {timeout!r} must be a number of seconds above 0")
    if nodes is not None and not (isinstance(nodes, int) and nodes >= 1):
        raise InputError(f"the node limit {nodes!r} must be a whole number, at least 1")
    budget = Budget(float(timeout), nodes, None if memory is None else parse_memory(memory))
    where = find_device(device)
    x = tensor(images, torch.float32, "images")
    y = tensor(labels, torch.int64, "labels")
    numbers = range(len(x) if x.dim() else 0) if indices is None else indices
    radius = radii(eps, numbers)
    network, original = _network(model, x, where)
    _fit(network, x, y, domain, numbers)
    small, _ = _compact(network)
    return Questions(
        small.to(small.dtype, where),
        original,
        x.to(where),
        y.to(where),
        radius if isinstance(radius, float) else radius.to(where),
        domain,
        budget,
        numbers,
    )


def _network(model: AnyModel, images: Tensor, device: torch.device) -> tuple[Network, Original | None]:
    if isinstance(model, Network):
        return model, None
    if isinstance(model, nn.Module):
        if images.dim() < 2:
            raise InputError(f"images must be [n, ...], not {tuple(images.shape)}")
        return lower(model, shape=images.shape[1:]), replayed(model, device)
    if not isinstance(model, str | Path):
        raise InputError(
            f"{type(model).__name__} is no model; give a torch.nn.Module, a Network or a file's path"
        )
    network, original = read(model)
    return network, replayed(original, device) if isinstance(original, nn.Module) else original


def _fit(
    network: Network, images: Tensor, labels: Tensor, domain: tuple[float, float], numbers: Sequence[int]
) -> None:
    if tuple(images.shape[1:]) != tuple(network.input_shape) or images.dim() < 2:
        raise InputError(
            f"the images are {list(images.shape)}; the model takes [n, {str(list(network.input_shape))[1:]}"
        )
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"there are {len(images)} images and labels of shape {list(labels.shape)}; give one per image"
        )
    try:
        low, high = domain
        ordered = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        ordered = False
    if not ordered:
        raise InputError(f"the domain {domain} must be two numbers, the smaller first")
    if network.outputs < 2:
        raise InputError(
            "the model has one output, so no label can lose against another; it must have one per class"
        )
    # Written so that a pixel that is not a number fails as well.
    wrong = ~((images >= low) & (images <= high)).flatten(1).all(1)
    if bool(wrong.any()):
        raise InputError(
            f"image {numbers[int(wrong.nonzero()[0])]} has values outside [{low:g}, {high:g}] or not a number; "
            "give images before normalisation"
        )
    bad = ~((labels >= 0) & (labels < network.outputs))
    if bool(bad.any()):
        place = int(bad.nonzero()[0])
        raise InputError(
            f"label {int(labels[place])} of image {numbers[place]} is none of the model's {network.outputs} classes"
        )
