"""Numbers that a VNN-LIB file has worked out are exact, or are refused: rounding would make another property of it."""

from __future__ import annotations

import pytest
import torch

from certiprune.core.errors import InputError
from certiprune.verify import vnnlib

HEAD = """(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)
(assert (>= X_0 0))(assert (<= X_0 1))
"""


def read(path, condition):
    path.write_text(HEAD + f"(assert {condition})", encoding="utf-8")
    return vnnlib.read(path, inputs=1, outputs=2, shape=(1,))


@pytest.mark.parametrize(
    "condition, matrix, offset",
    [
        ("(<= (+ Y_0 1e17 -5 -1e17) 0)", [1.0, 0.0], -5.0),
        ("(<= (- Y_0 (- 1e17 5 1e17)) 0)", [1.0, 0.0], 5.0),
        ("(<= (+ (* 1e200 1e200 Y_0) Y_1 (* -1e200 1e200 Y_0)) 3)", [0.0, 1.0], -3.0),
        ("(<= (* 1e200 1e-200 Y_0) 1)", [float(f"{1e200:.0f}") * 1e-200, 0.0], -1.0),
        ("(<= (* 3 0.5 Y_0) (* 2 Y_1))", [1.5, -2.0], 0.0),
    ],
)
def test_sums_and_products_are_not_rounded_on_the_way(tmp_path, condition, matrix, offset):
    (problem,) = read(tmp_path / "p.vnnlib", condition)
    torch.testing.assert_close(problem.margin.matrix[0, 0], torch.tensor(matrix, dtype=torch.float64))
    assert problem.margin.offset.item() == offset


def test_a_bound_is_exact_too(tmp_path):
    (problem,) = read(tmp_path / "p.vnnlib", "(<= X_0 (- 1e17 -0.5 1e17))")
    assert problem.box.upper.item() == 0.5


@pytest.mark.parametrize(
    "condition",
    [
        "(<= (* 1e-300 1e-300 Y_0) (* 1e-300 -1e-300 10))",
        "(<= (* 1e300 1e300 Y_0) 0)",
        "(<= Y_0 (* 1e300 1e300))",
        "(<= X_0 (* 1e300 1e300))",
    ],
)
def test_what_float64_does_not_hold_is_refused(tmp_path, condition):
    with pytest.raises(InputError, match=r"line 3: .* float64"):
        read(tmp_path / "p.vnnlib", condition)
