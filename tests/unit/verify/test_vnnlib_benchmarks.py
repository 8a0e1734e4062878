"""The VNN-LIB files of the shared verification instances, where they lie beside the repository."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from certiprune.verify import vnnlib
from certiprune.verify.problem import Problem

BENCHMARKS = Path(__file__).resolve().parents[4] / "shared" / "benchmarks"
PIXELS = ("sdp_cifar_cnn_a_adv", "sdp_mnist_cnn_a_adv", "eran_mnist_conv_small", "vnncomp21_mnistfc_256x2")
NORMALISED = ("oval_cifar_base", "vnncomp21_resnet_2b")

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the shared benchmarks are not here")


@pytest.mark.parametrize("name", PIXELS + NORMALISED)
def test_boxes_are_the_images_and_clauses_the_other_classes(name: str) -> None:
    folder = BENCHMARKS / name
    with np.load(folder / "images.npz") as data:
        images, labels = torch.from_numpy(data["x"]).double(), data["y"]
        eps = np.broadcast_to(data["eps"], len(labels))
        mean, std = (torch.from_numpy(data[k]).double().reshape(-1, 1, 1) for k in ("mean", "std"))
    shape = tuple(images.shape[1:])
    if name in PIXELS:
        mean, std = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    with (folder / "instances.csv").open() as file:
        rows = list(csv.reader(file))
    assert len(rows) == len(images)
    for k, (_, path, _) in enumerate(rows):
        (problem,) = vnnlib.read(folder / path, inputs=math.prod(shape), outputs=10, shape=shape)
        lower, upper = ((images[k] + sign * eps[k]).clamp(0, 1) for sign in (-1, 1))
        torch.testing.assert_close(problem.box.lower[0] * std + mean, lower, rtol=0, atol=1e-6)
        torch.testing.assert_close(problem.box.upper[0] * std + mean, upper, rtol=0, atol=1e-6)
        label, margin = int(labels[k]), problem.margin
        assert margin.rows == margin.clauses == 9 and not margin.offset.any()
        expected = {(label, other) for other in range(10) if other != label}
        assert {(int(r.argmax()), int(r.argmin())) for r in margin.matrix[0]} == expected
        assert bool((margin.matrix.abs().sum(2) == 2).all())


def acas(number: int) -> list[Problem]:
    file = BENCHMARKS / "vnncomp21_acasxu" / "vnnlib" / f"prop_{number}.vnnlib"
    return vnnlib.read(file, inputs=5, outputs=5, shape=(1, 1, 5))


def unit(plus: int, minus: int) -> list[float]:
    """The row ``y[plus] - y[minus]``."""
    return [float((k == plus) - (k == minus)) for k in range(5)]


# Each property's clauses, as rows (plus, minus) that are at most 0 at a counterexample.
CLAUSES: dict[int, list[list[tuple[int, int]]]] = {
    2: [[(k, 0) for k in (1, 2, 3, 4)]],
    3: [[(0, k) for k in (1, 2, 3, 4)]],
    4: [[(0, k) for k in (1, 2, 3, 4)]],
    5: [[(k, 4)] for k in (0, 1, 2, 3)],
    6: [[(k, 0)] for k in (1, 2, 3, 4)],
    8: [[(k, 0), (k, 1)] for k in (2, 3, 4)],
    10: [[(k, 0)] for k in (1, 2, 3, 4)],
}


@pytest.mark.parametrize("number", CLAUSES)
def test_acas_properties_have_their_clauses(number: int) -> None:
    found = acas(number)
    assert len(found) == (2 if number == 6 else 1)
    for problem in found:
        rows = [unit(*row) for clause in CLAUSES[number] for row in clause]
        assert problem.margin.matrix[0].tolist() == rows and not problem.margin.offset.any()
        assert problem.margin.clause.tolist() == [
            k for k, clause in enumerate(CLAUSES[number]) for _ in clause
        ]
        assert problem.box.lower.shape == (1, 1, 1, 5)


def test_acas_threshold_and_boxes() -> None:
    (first,) = acas(1)
    assert first.margin.matrix.tolist() == [[[-1.0, 0.0, 0.0, 0.0, 0.0]]]
    assert first.margin.offset.tolist() == [[3.991125645861615]]
    assert first.box.upper.flatten().tolist() == [0.679857769, 0.5, 0.5, 0.5, -0.45]
    assert first.box.lower.flatten().tolist() == [0.6, -0.5, -0.5, 0.45, -0.5]
    right, left = acas(6)
    assert right.box.lower.flatten()[1] == 0.11140846 and left.box.upper.flatten()[1] == -0.11140846


def test_every_file_is_read() -> None:
    files = sorted(BENCHMARKS.glob("vnncomp21_acasxu/vnnlib/*"))
    assert files and {f.name for f in files} == {f"prop_{k}.vnnlib" for k in (1, *CLAUSES)}
    listed = {BENCHMARKS / name for name in (*PIXELS, *NORMALISED, "vnncomp21_acasxu")}
    assert {f.parent.parent for f in BENCHMARKS.rglob("*.vnnlib*")} <= listed
