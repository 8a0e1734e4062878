"""What a run found, without the seconds: the part that must not depend on when a process was killed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from certiprune.core.errors import CertipruneError
from certiprune.net import checkpoint
from certiprune.store import Records, RunLayout


@dataclass(frozen=True)
class Facts:
    """The tables of a run, comparable with ``==``."""

    stages: Any
    epochs: Any
    rounds: Any
    layers: Any
    verdicts: Any
    examples: Any


def facts(folder: Path) -> Facts:
    with Records.open(RunLayout(folder).records, read_only=True) as records:
        outcomes = records.outcomes()
        return Facts(
            [(row.name, row.payload) for row in records.stages()],
            [(row.ladder, row.round, row.epoch, row.metrics) for row in records.epochs()],
            records.rounds(),
            records.layers(),
            [(o.ladder, o.round, o.idx, o.label, o.predicted, o.verdict, o.reason) for o in outcomes],
            [(row.ladder, row.round, row.idx, row.adversarial is None) for row in records.examples()],
        )


def epochs(folder: Path) -> int:
    """How many epochs of its dense network a run's records hold; 0 where there are none yet."""
    try:
        with Records.open(RunLayout(folder).records, read_only=True) as records:
            return len(records.epochs("dense"))
    except CertipruneError:
        return 0


def assert_equal_runs(one: Path, other: Path) -> None:
    """The tables are equal, and so are the weights of every network, bit for bit.

    The bounds that verdicts rest on may differ in their last bits: they are computed for several images
    together, and a resumed verification has fewer of them.
    """
    assert facts(one) == facts(other)
    bounds = []
    for folder in (one, other):
        with Records.open(RunLayout(folder).records, read_only=True) as records:
            bounds.append([row.lower for row in records.outcomes()])
            rounds = [(row.ladder, row.round) for row in records.rounds()]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-3, abs=1e-3)
    for name, number in rounds:
        models = [checkpoint.load(RunLayout(folder).round(name, number).model) for folder in (one, other)]
        first, second = (found.model.state_dict() for found in models)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
