"""The public functions: each works on a plain ``torch.nn.Module``, a ``Network``, or a file of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

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
from certiprune.net.module_out import module
from certiprune.net.replay import replayed
from certiprune.prune.apply import prune as prune
from certiprune.prune.hold import mask_of as mask_of
from certiprune.prune.hold import settle

if TYPE_CHECKING:
    from certiprune.experiment.config import Experiment
    from certiprune.experiment.events import Watcher
    from certiprune.net import Compaction
    from certiprune.verify.outcome import Outcome
    from certiprune.verify.problem import Budget

Images = Array
Original = Callable[[Tensor], Tensor]
AnyModel = nn.Module | Network | str | Path

__all__ = [
    "AnyModel",
    "Mask",
    "Questions",
    "compact",
    "lower",
    "mask_of",
    "outcomes",
    "prune",
    "questions",
    "read",
    "run",
    "verify",
]


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


@overload
def compact(model: Network) -> tuple[Network, Compaction]: ...


@overload
def compact(
    model: nn.Module, *, shape: Sequence[int], mask: Mask | None = None
) -> tuple[nn.Module, Compaction]: ...


def compact(
    model: Network | nn.Module, *, shape: Sequence[int] | None = None, mask: Mask | None = None
) -> tuple[Network | nn.Module, Compaction]:
    """``model`` without its dead channels and neurons, and what was removed; outputs equal up to rounding.

    Args:
        model: a ``Network``, or a module that ``lower`` takes. It is left as it was.
        shape: of a module's input, without the batch dimension, such as (1, 28, 28).
        mask: weights of a module to take for zero.

    Returns:
        of a network a network; of a module a plain module (``net.module_out``) in its precision and on its device,
        with BatchNorm and normalisation folded into the layers beside them.

    Raises:
        InputError: a module without a shape, or a network with a shape or a mask.
        ModelError: an operator is not supported, or weights are not finite.
        LoweringError: the result computes something else.
    """
    if isinstance(model, Network):
        if shape is not None or mask is not None:
            raise InputError("a network knows its shape and its zeros; give no shape and no mask with it")
        return _compact(model)
    if shape is None:
        raise InputError("give the shape of the module's input, such as shape=(1, 28, 28)")
    small, done = _compact(lower(model, shape=shape, mask=mask))
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return module(small, like.dtype).to(like.device), done


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


def verify(
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
) -> list[Outcome]:
    """Decide for each image whether every perturbation within ``eps`` keeps its label.

    Args:
        model: a module in which normalisation is a layer, a ``Network``, an ONNX file or a checkpoint.
        images: [n, *shape], within ``domain``.
        labels: [n], the class that should win.
        eps: L-infinity radius in input units: a number, a fraction such as ``"2/255"``, or one number per image.
        timeout: seconds that one image may take before it is given up as ``unknown``.
        nodes: subproblems that one image may take; None for no limit.
        memory: what the search may hold for all images together, on top of what the process takes anyway: bytes, or
            a text such as ``"4G"`` or ``"60%"`` (of what is free); None for 60 %.
        domain: the smallest and largest value of a pixel.
        device: ``cpu`` or ``cuda``.

    Returns:
        One outcome per image, in the images' order. CERTIFIED is a proof; FALSIFIED comes with a point that
        was replayed on the model; UNKNOWN says why.

    Raises:
        InputError: images, labels or eps are out of range or do not fit together or to the model.
        ModelError: the model is not supported.
    """
    found = outcomes(
        model,
        images,
        labels,
        eps=eps,
        timeout=timeout,
        nodes=nodes,
        memory=memory,
        domain=domain,
        device=device,
    )
    return sorted(found, key=lambda outcome: outcome.index)


def outcomes(
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
) -> Iterator[Outcome]:
    """What ``verify`` returns, each outcome as soon as it is decided; ``indices`` are the numbers to report.

    Everything is checked before the iterator is returned.
    """
    asked = questions(
        model,
        images,
        labels,
        eps=eps,
        timeout=timeout,
        nodes=nodes,
        memory=memory,
        domain=domain,
        device=device,
        indices=indices,
    )
    return asked.decide()


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


def run(
    experiment: Experiment | str | Path,
    out: str | Path,
    *,
    fresh: bool = False,
    data_folder: Path | None = None,
    threads: int | None = None,
    watch: Watcher | None = None,
) -> Path:
    """Run ``experiment`` (an object, a YAML file or a preset's name) in folder ``out``, or go on with it.

    Returns:
        The run's report, a self-contained HTML page.

    Raises:
        ConfigError: the experiment is not valid, or ``out`` holds another one (``fresh`` starts over).
    """
    from certiprune import report
    from certiprune.experiment import load, pipeline
    from certiprune.experiment.events import unwatched

    chosen = load.load(experiment) if isinstance(experiment, str | Path) else experiment
    pipeline.run(
        chosen, Path(out), progress=watch or unwatched, fresh=fresh, data_folder=data_folder, threads=threads
    )
    return report.write(Path(out))


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
