"""The public functions: each works on a plain ``torch.nn.Module``, a ``Network``, or a file of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import torch
from torch import nn

from certiprune.api.certificates import certify
from certiprune.api.questions import AnyModel, Images, Questions, lower, questions, read
from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.net import Network
from certiprune.net import compact as _compact
from certiprune.net.module_out import module
from certiprune.prune.apply import prune as prune
from certiprune.prune.hold import mask_of as mask_of

if TYPE_CHECKING:
    from certiprune.experiment.config import Experiment
    from certiprune.experiment.events import Watcher
    from certiprune.net import Compaction
    from certiprune.verify.outcome import Outcome

__all__ = [
    "AnyModel",
    "Mask",
    "Questions",
    "certify",
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
