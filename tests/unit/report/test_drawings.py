"""The figures that need more than records, and those that need none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from page_reader import PageReader
from sample import outcome_rows, round_row, write_run

from certiprune import report
from certiprune.core.errors import ModelError
from certiprune.net import checkpoint, zoo
from certiprune.net.zoo import ModelSpec
from certiprune.report import layerwise, overtime, scales, surface
from certiprune.report.statistics import anytime
from certiprune.report.summary import Round
from certiprune.store.layout import RunLayout


def model_file(path: Path) -> np.ndarray:
    """A checkpoint of a small network, and the scales of its BatchNorm."""
    spec = ModelSpec(name="cnn_small", shape=(1, 8, 8), classes=4, mean=(0.5,), std=(0.5,))
    model = zoo.build(spec)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    draw = torch.Generator().manual_seed(0)
    for norm in norms:
        norm.weight.data = torch.randn(norm.weight.shape, generator=draw)
    checkpoint.save(path, model, spec, mask=None, note={})
    return np.sort(np.concatenate([norm.weight.detach().abs().double().numpy() for norm in norms]))


def test_the_scales_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    wanted = model_file(path)
    found = scales.read(path)
    assert found is not None and len(wanted) > 0
    np.testing.assert_array_equal(found, wanted)
    assert scales.collect({"here": path, "there": tmp_path / "none"})[1] == ["there"]
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError):
        scales.read(path)


def test_a_runs_page_shows_the_scales_where_checkpoints_are(tmp_path: Path) -> None:
    write_run(tmp_path, {("dense", 0): "cu", ("imp", 1): "cu"}, keep={"imp": (0.5,)}, epochs=1).close()
    model_file(RunLayout(tmp_path).round("dense", 0).model)
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    labels = [given["aria-label"] for tag, given in page.tags if tag == "svg"]
    assert "BatchNorm scales: BatchNorm's scales, sorted" in labels
    assert "those of imp 1 are not there" in page.text


def test_a_runs_page_shows_how_widths_are_spread_where_that_was_recorded(tmp_path: Path) -> None:
    label = "imp: how the widths of bounds are distributed over each layer's neurons"
    verdicts = {("dense", 0): "cu", **{("imp", k): "cu" for k in range(1, 5)}}
    keep = {"imp": (0.8, 0.6, 0.4, 0.2)}

    def page() -> tuple[PageReader, list[str]]:
        found = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
        return found, [given["aria-label"] or "" for tag, given in found.tags if tag == "svg"]

    with write_run(tmp_path, verdicts, keep=keep, epochs=1) as records:
        assert label not in page()[1]
        records.commit_stage("dense/0/evaluate", 1.0)  # as stages were recorded before
        assert label not in page()[1]
        widths = {
            "relu1": [0.0, 0.0, 0.5, 1.0, 2.0, 40.0, 500.0],
            "relu2": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        }
        for number in range(2, 5):
            records.commit_stage(f"imp/{number}/evaluate", 1.0, {"widths": widths})
        found, labels = page()
        assert labels.count(label) == 1
        assert all(text in found.text for text in ("imp 2 (60 %)", "imp 3 (40 %)", "imp 4 (20 %)"))
    table = (tmp_path / "tables" / "widths.csv").read_text(encoding="utf-8").splitlines()
    assert table[:2] == [
        "ladder,round,name,q0,q5,q25,q50,q75,q95,q100",
        "imp,2,relu1,0.0,0.0,0.5,1.0,2.0,40.0,500.0",
    ]
    assert len(table) == 7


@pytest.mark.parametrize(
    "widths", [[0.0] * 7, [2.0] * 7, [0.0, 0.0, 1e-9, 1.0, 2.0, 3.0, 1e9], [math.nan] * 7]
)
def test_widths_of_any_size_are_drawn(widths: list[float]) -> None:
    row = round_row("dense", 0, 1.0)
    svg = layerwise.spread("dense", [Round(row, 0), Round(row, 0, widths={"relu1": widths})])
    assert svg is not None and "relu1" in svg
    assert layerwise.spread("dense", [Round(row, 0)]) is None


def test_a_figure_without_data_is_left_out() -> None:
    assert overtime.figure("nothing", {}, None) is None
    assert scales.figure("nothing", {"no BatchNorm": np.empty(0)}) is None


def test_a_curve_over_time_is_drawn_without_a_limit() -> None:
    svg = overtime.figure("one", {"dense": anytime(outcome_rows("dense", 0, "ccufm"))}, None)
    assert svg is not None and "dense" in svg


def test_the_surface_is_the_nrs_loss() -> None:
    lower, upper = np.array([-2.0, -0.5, 0.5]), np.array([1.0, 0.5, 2.0])
    for gamma in (0.5, 1.0, 2.0):
        values = surface.nrs(lower, upper, gamma)
        for low, high, value in zip(lower, upper, values, strict=True):
            assert value == pytest.approx(-math.tanh(1 + low * high / gamma**2))
    # Unstable and unimportant is worst, stable best.
    assert surface.nrs(lower[:1], upper[:1], 0.5) > surface.nrs(lower[:1], upper[:1], 2.0)
    assert surface.nrs(lower[2:], upper[2:], 1.0) < -0.9
    assert surface.figure((1.0,)).count("<svg") == 1
