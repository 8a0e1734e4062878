"""The rows of the records: one frozen dataclass a table, whose fields are the columns.

A float that is not a number means "not measured"; it is stored as NULL and read back as NaN. Every other
float comes back equal, infinities too. Mappings are stored as JSON in Python's dialect (NaN and Infinity are
allowed in it), arrays as .npy bytes without pickle, which is the exact array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from certiprune.verify.outcome import Outcome, Reason, Stage, Verdict


@dataclass(frozen=True)
class StageRow:
    """A finished stage, such as ``magnitude/2/train``; a stage without a row is to be done again."""

    table: ClassVar[str] = "stages"
    key: ClassVar[tuple[str, ...]] = ("name",)

    name: str
    seconds: float
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class EpochRow:
    """An epoch of training, counted as the training does.

    Attributes:
        metrics: loss, its parts, accuracy, validation_accuracy, eps, learning_rate, and statistics by flat names such
            as ``statistics/ibp`` and ``unstable/relu1`` (``train.Statistics``).
    """

    table: ClassVar[str] = "epochs"
    key: ClassVar[tuple[str, ...]] = ("ladder", "round", "epoch")

    ladder: str
    round: int
    epoch: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RoundRow:
    """A network: how much of it is left, and how good it is on the test split.

    Attributes:
        kept, total: what pruning counts, weights or channels (see ``unit``).
        kept_all, total_all: all parameters.
        standard_accuracy, pgd_accuracy: fractions of ``test_images``.
        unstable: unstable neurons, mean per image.
        relus: ReLU neurons.
        ibp_accuracy, crown_accuracy: the fractions whose label wins in the whole ball by interval bounds and by
            CROWN-IBP: statistics in the precision of training, while ``OutcomeRow`` has what is proved.
        unit: what pruning removes, ``weights`` or ``channels``.
        parameters, multiply_adds, file_bytes: numbers in the network with BatchNorm folded, multiplications of one
            pass, and bytes of its ONNX file; 0 where not measured.
        compact_parameters, compact_multiply_adds, compact_file_bytes, compact_relus: the same, and ReLU neurons, once
            dead channels and neurons are taken out.
    """

    table: ClassVar[str] = "rounds"
    key: ClassVar[tuple[str, ...]] = ("ladder", "round")

    ladder: str
    round: int
    method: str
    kept: int
    total: int
    kept_all: int
    total_all: int
    standard_accuracy: float
    pgd_accuracy: float
    test_images: int
    unstable: float
    relus: int
    ibp_accuracy: float = math.nan
    crown_accuracy: float = math.nan
    unit: str = "weights"
    parameters: int = 0
    multiply_adds: int = 0
    file_bytes: int = 0
    compact_parameters: int = 0
    compact_multiply_adds: int = 0
    compact_file_bytes: int = 0
    compact_relus: int = 0


@dataclass(frozen=True)
class LayerRow:
    """A layer of a network.

    Attributes:
        kind: ``weights`` or ``relu``.
        position: counted from 0 within its kind.
        kept: weights that are left, or unstable neurons, mean per image.
        total: weights, or neurons.
        product, rs, nrs, width, width_before: of ReLU layers, means over neurons and the test images of the accuracies,
            by interval bounds; see ``train.statistics.LayerStatistics``.
    """

    table: ClassVar[str] = "layers"
    key: ClassVar[tuple[str, ...]] = ("ladder", "round", "kind", "position")

    ladder: str
    round: int
    kind: str
    position: int
    name: str
    kept: float
    total: int
    product: float = math.nan
    rs: float = math.nan
    nrs: float = math.nan
    width: float = math.nan
    width_before: float = math.nan


@dataclass(frozen=True)
class OutcomeRow:
    """A ``verify.Outcome`` without its counterexample, which an ``ExampleRow`` holds."""

    table: ClassVar[str] = "outcomes"
    key: ClassVar[tuple[str, ...]] = ("ladder", "round", "idx")

    ladder: str
    round: int
    idx: int
    label: int
    predicted: int
    verdict: Verdict
    reason: Reason
    stage: Stage
    lower: float
    nodes: int
    seconds: float

    @staticmethod
    def of(ladder: str, round: int, outcome: Outcome) -> OutcomeRow:
        """The row for ``outcome``, which says of network ``round`` of ``ladder``."""
        return OutcomeRow(
            ladder=ladder,
            round=round,
            idx=outcome.index,
            label=outcome.label,
            predicted=outcome.predicted,
            verdict=outcome.verdict,
            reason=outcome.reason,
            stage=outcome.stage,
            lower=outcome.lower,
            nodes=outcome.nodes,
            seconds=outcome.seconds,
        )


@dataclass(frozen=True, eq=False)
class ExampleRow:
    """An image, float32 [c, h, w] in [0, 1], and its counterexample of the same shape where it has one."""

    table: ClassVar[str] = "examples"
    key: ClassVar[tuple[str, ...]] = ("ladder", "round", "idx")

    ladder: str
    round: int
    idx: int
    image: np.ndarray
    adversarial: np.ndarray | None

    @staticmethod
    def of(ladder: str, round: int, idx: int, image: Tensor, adversarial: Tensor | None = None) -> ExampleRow:
        """The row for tensors [c, h, w], converted to float32 on the CPU."""
        arrays = [None if t is None else t.detach().cpu().float().numpy() for t in (image, adversarial)]
        assert arrays[0] is not None
        return ExampleRow(ladder, round, idx, arrays[0], arrays[1])


Row = StageRow | EpochRow | RoundRow | LayerRow | OutcomeRow | ExampleRow
TABLES: tuple[type[Row], ...] = (StageRow, EpochRow, RoundRow, LayerRow, OutcomeRow, ExampleRow)
