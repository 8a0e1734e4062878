"""The study's sweeps run from end to end on data in the official files' forms, made small and short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sweeping
import yaml

from certiprune.experiment import presets, sweep
from certiprune.experiment.sweep import run as runs
from certiprune.store import Records, RunLayout
from helpers.data_files import write_cifar10, write_svhn

SHORT = {
    "model": {"width": 0.0625},
    "train": {
        "epochs": 2,
        "batch_size": 20,
        "milestones": [1],
        "eps_start": 0,
        "eps_length": 1,
        "statistics": {"every": 0, "dear_every": 0},
    },
    "evaluate": {"images": 8, "unstable_images": 2, "pgd_steps": 1, "pgd_restarts": 1},
    "verify": {"images": 3, "nodes": 4},
}


@pytest.mark.parametrize(
    ("table", "pruning"),
    [
        ("study-svhn-adversarial", ["imp", "structlth"]),
        ("study-svhn-certified", ["hydra+nrs-certified"]),
        ("study-cifar-2-adversarial", ["slim"]),
        ("study-cifar-2-certified", ["snip"]),
        ("study-cifar-8-certified", ["imp"]),
        ("mini-svhn-certified", ["taylor"]),
    ],
)
def test_a_table_runs_to_its_end(table: str, pruning: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    if "svhn" in table:
        write_svhn(data, train=60)
    else:
        write_cifar10(data, each=12)
    content = yaml.safe_load(presets.sweep(table).read_text())
    assert set(pruning) <= set(content["pruning"])
    content |= {"pruning": pruning, "seeds": [0], "keep": [0.5], "set": SHORT}
    found = sweep.parse(yaml.safe_dump(content))
    executor = sweeping.Inline(replace(sweeping.MEANS, data=data))
    assert runs.run(found, tmp_path / "sweep", executor, watch=lambda board, news: None) == []
    for cell in sweep.cells(tmp_path / "sweep"):
        with Records.open(RunLayout(cell.folder).records, read_only=True) as records:
            assert records.meta()["input_shape"] == [3, 32, 32]
            last = records.rounds()[-1]
            assert last.kept < last.total
            assert len(records.outcomes(last.ladder, last.round)) == 3
