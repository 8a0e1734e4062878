"""Where a training stands: everything that is needed to go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from certiprune.core.errors import InputError, ModelError
from certiprune.net.tensor_file import read_tensors, write_tensors

_KIND = "training state"
_VERSION = 1


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch was like.

    Attributes:
        epoch: how many epochs are finished with it, so counted from 1.
        seconds: the time it took, validation included.
        metrics: ``loss`` and its parts (means over the images), ``accuracy``, ``validation_accuracy``,
            ``validation_robust_accuracy`` or ``validation_certified_accuracy`` where the weights are chosen by it,
            ``eps`` and ``learning_rate`` at its end, and what ``Statistics.metrics`` gives where it is due.
    """

    epoch: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Best:
    """The weights that did best on the validation split: after which epoch, and by which value."""

    epoch: int
    value: float
    model: Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainState:
    """A training after ``epoch`` epochs; its tensors are copies on the CPU, which training does not change.

    Attributes:
        epoch: finished epochs.
        seed: of the training; a resumed one must have the same.
        model: all parameters and buffers by name.
        optimizer: the optimiser's memory by name.
        best: the weights to use; None as long as epsilon has not reached its end.
        history: one record an epoch.
    """

    epoch: int
    seed: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    best: Best | None
    history: tuple[EpochRecord, ...]

    @property
    def chosen(self) -> Mapping[str, Tensor]:
        """The tensors of the best epoch on the validation split, or the current ones before there is one."""
        return self.model if self.best is None else self.best.model


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Copies, on the CPU, of all parameters and buffers of ``model``: training on does not change them."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()
    }


def save_state(path: str | Path, state: TrainState) -> None:
    """Write ``state`` to the file ``path`` as safetensors with a JSON header, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    best = state.best
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state.optimizer.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (best.model if best else {}).items()}
    header = {
        "epoch": state.epoch,
        "seed": state.seed,
        "best": None if best is None else {"epoch": best.epoch, "value": best.value},
        "history": [{**asdict(record), "metrics": dict(record.metrics)} for record in state.history],
    }
    write_tensors(Path(path), tensors, header, kind=_KIND, version=_VERSION)


def load_state(path: str | Path) -> TrainState:
    """Read what ``save_state`` wrote; every number comes back bit for bit.

    Raises:
        ModelError: the file is missing, damaged, of another version or of another kind.
    """
    tensors, header = read_tensors(Path(path), kind=_KIND, version=_VERSION)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
    try:
        for label, tensor in tensors.items():
            group, _, name = label.partition(".")
            groups[group][name] = tensor
        best = None if header["best"] is None else Best(**header["best"], model=groups["best"])
        history = tuple(EpochRecord(**record) for record in header["history"])
        return TrainState(
            header["epoch"], header["seed"], groups["model"], groups["optimizer"], best, history
        )
    except (KeyError, TypeError) as error:
        raise ModelError(f"the training state {path} is damaged: {error}") from error


def restore_model_(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give ``model`` the stored parameters and buffers, in place; they are copied.

    Raises:
        InputError: they belong to another model.
    """
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InputError(
            "the stored weights belong to another model: their names or shapes differ"
        ) from error
