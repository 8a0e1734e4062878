"""Looking on while a network is trained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from certiprune.train.state import EpochRecord, TrainState


class Callback(Protocol):
    """Is told of every batch and every epoch. Subclass it and write what is needed; the rest does nothing."""

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        """Batch ``batch`` of ``batches`` (from 1) of the epoch after ``epoch`` finished ones is done."""

    def on_epoch(self, state: TrainState, record: EpochRecord) -> None:
        """An epoch is done; ``state`` is a value that later training does not change."""


class Capture(Callback):
    """Keeps the state after some epochs, for rewinding to an early one: ``captured[epoch]``."""

    def __init__(self, epochs: Collection[int]) -> None:
        self.epochs = frozenset(epochs)
        self.captured: dict[int, TrainState] = {}

    def on_epoch(self, state: TrainState, record: EpochRecord) -> None:
        if record.epoch in self.epochs:
            self.captured[record.epoch] = state
