"""Running a model in another mode for a while, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """``model`` in evaluation mode; afterwards every module has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[nn.Module]:
    """``model`` in the mode it is in, without updating the running statistics of BatchNorm.

    In training mode BatchNorm goes on to normalise by the batch, so an attack in the middle of training
    attacks what the loss sees, and leaves no trace in the statistics that evaluation uses.
    """
    # Without tracking, training mode uses the batch and updates nothing; evaluation mode stays as it is.
    tracking = [
        (module, module.track_running_stats) for module in model.modules() if isinstance(module, _BatchNorm)
    ]
    for module, _ in tracking:
        module.track_running_stats = False
    try:
        yield model
    finally:
        for module, before in tracking:
            module.track_running_stats = before
