"""The metrics of every epoch for TensorBoard, which is an extra: ``pip install certiprune[tensorboard]``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from certiprune.core.errors import InputError
from certiprune.train.state import EpochRecord, TrainState


class Writer(Protocol):
    """What is used of TensorBoard's ``SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def flush(self) -> None: ...


class TensorBoard:
    """The callback that writes every metric of every epoch, under its name, at the number of finished epochs.

    Args:
        writer: where to; see ``writer``.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        """Nothing is written of batches."""

    def on_epoch(self, state: TrainState, record: EpochRecord) -> None:
        """Write the record's metrics."""
        del state
        for name, value in record.metrics.items():
            self.writer.add_scalar(name, value, record.epoch)
        self.writer.flush()


def writer(folder: Path, *, start: int = 0) -> Writer:
    """A writer into ``folder``; what an interrupted training wrote of the epochs after ``start`` is replaced.

    Raises:
        InputError: TensorBoard is not installed.
    """
    require()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start + 1)


def require() -> None:
    """Raise ``InputError`` unless TensorBoard is installed."""
    if find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed; run: pip install 'certiprune[tensorboard]'")
