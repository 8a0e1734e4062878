"""Public instances that a peer has answered: what it falsifies is never certified, even where no attack helps.

They lie in a folder ``shared`` beside the repository or above it: ``benchmarks/<set>/{model.onnx, images.npz}`` and the
answers ``peers/<set>.csv`` with the columns ``index`` (a row of the images) and ``verdict``.
"""

from __future__ import annotations

import csv
import functools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from certiprune.attack import pgd, property_margin
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.core.rng import generator
from certiprune.net import Network, compact, onnx_in
from certiprune.verify import Budget, Cascade, Problem, Reason, Verdict, decide

SHARED = next(
    (p / "shared" for p in Path(__file__).resolve().parents if (p / "shared" / "peers").is_dir()),
    Path("shared"),
)
SETS = (
    "eran_mnist_conv_small",
    "oval_cifar_base",
    "sdp_cifar_cnn_a_adv",
    "sdp_mnist_cnn_a_adv",
    "vnncomp21_mnistfc_256x2",
    "vnncomp21_resnet_2b",
)
BUDGET = Budget(seconds=6, nodes=3000)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all((SHARED / "benchmarks" / name).is_dir() for name in SETS),
        reason="the shared benchmarks and the peer's answers are not here",
    ),
]


@dataclass(frozen=True)
class Instances:
    """One set: its compacted network, the question about each image, and the peer's verdict on some of them."""

    network: Network
    problem: Problem
    verdicts: dict[int, str]

    def said(self, *verdicts: str) -> list[int]:
        """The rows of which the peer says one of these."""
        return [row for row, verdict in self.verdicts.items() if verdict in verdicts]


@functools.cache
def instances(name: str) -> Instances:
    folder = SHARED / "benchmarks" / name
    network, _ = compact(onnx_in.read(folder / "model.onnx"))
    with np.load(folder / "images.npz") as data:
        images, labels = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
        eps = torch.from_numpy(np.broadcast_to(data["eps"], len(labels)).copy())
    with (SHARED / "peers" / f"{name}.csv").open(newline="") as file:
        verdicts = {int(row["index"]): row["verdict"] for row in csv.DictReader(file)}
    return Instances(network, Problem.robust(images, labels, eps, classes=network.outputs), verdicts)


def blind(x: Tensor) -> Tensor:
    """A model that never shows a violation: what it says is not a number."""
    return torch.full((len(x), 10), math.nan)


@pytest.mark.parametrize("name", SETS)
def test_what_the_peer_falsifies_is_not_certified_without_attacks(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = instances(name)
    rows = known.said("falsified")
    if not rows:
        pytest.skip("the peer falsifies nothing of this set")
    how, problem = Cascade(attack_steps=0, attack_restarts=0), known.problem[torch.tensor(rows)]
    reasons: Counter[Reason] = Counter()
    for outcome in decide(known.network, problem, budget=BUDGET, replay=blind, how=how):
        assert outcome.verdict is Verdict.UNKNOWN, (rows[outcome.index], outcome)
        assert outcome.lower <= 0
        reasons[outcome.reason] += 1
    with capsys.disabled():
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        print(f"\n  {name}: none of {len(rows)} certified; they ran out of: {said}")
    assert reasons.total() == len(rows)


@pytest.mark.parametrize("name", SETS)
def test_a_long_attack_finds_nothing_in_what_is_certified(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = instances(name)
    rows = list(known.verdicts)
    lower = {}
    for outcome in decide(known.network, known.problem[torch.tensor(rows)], budget=BUDGET):
        row = rows[outcome.index]
        if outcome.verdict is Verdict.CERTIFIED:
            assert known.verdicts[row] != "falsified"
            lower[row] = outcome.lower
        elif outcome.verdict is not Verdict.UNKNOWN:
            assert known.verdicts[row] != "certified"
    sure = known.problem[torch.tensor(sorted(lower))]
    least = attacked(known.network, sure)
    proved = torch.tensor([lower[row] for row in sorted(lower)], dtype=torch.float64)
    with capsys.disabled():
        gap = (least - proved).median()
        print(f"\n  {name}: {len(lower)} certified; median of least margin found - proved: {float(gap):.3g}")
    assert len(lower) >= 0.4 * len(known.said("certified"))
    assert bool((least > 0).all())
    assert bool((proved <= least).all())


def attacked(network: Network, problem: Problem) -> Tensor:
    """The smallest margin [n] of each question that a long attack meets, worked out in float64."""
    margin = problem.margin
    quick = network.to(torch.float32)
    best = margin.worst(network(problem.centre))
    # One clause at a time for the clauses that are nearest: the smallest of all may hide another one.
    nearest = margin.values(network(problem.centre)).topk(2, dim=1, largest=False).indices
    for k in (None, 0, 1):
        asked = margin if k is None else _only(margin, nearest[:, k])
        points = pgd(
            property_margin(quick, asked.to(torch.float32)),
            problem.box.to(torch.float32),
            steps=40,
            step_size=0.1,
            restarts=6,
            generator=generator(0, "long", str(k)),
            start=problem.centre.float(),
        ).points
        best = torch.minimum(best, margin.worst(network(_inside(problem.box, points))))
    return best


def _only(margin: Margin, row: Tensor) -> Margin:
    """One row [n] of each property."""
    item = torch.arange(len(margin))
    return Margin(
        margin.matrix[item, row].unsqueeze(1), margin.offset[item, row].unsqueeze(1), torch.tensor([0])
    )


def _inside(box: Box, points: Tensor) -> Tensor:
    return box.clamp(points.double())
