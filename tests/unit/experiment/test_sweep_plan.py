"""Sweep files: what they may say, which experiments they mean, and which of these share a dense network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certiprune.core.errors import ConfigError, InputError
from certiprune.experiment import load, sweep
from certiprune.experiment.sweep import config
from certiprune.store import SweepLayout

FILE = """
base: [ladders]
training: [n_fgsm, crown_ibp]
pruning: [imp, snip, imp+nrs, slim, structlth]
seeds: [0, 1]
keep: [0.4, 0.15]
set: {train: {epochs: 7}, verify: {images: 300}}
"""


def planned(text: str) -> list[sweep.Planned]:
    return sweep.grid(sweep.parse(text), name="x.yaml")


def test_the_grid_is_every_training_with_every_pruning_and_seed() -> None:
    cells = planned(FILE)
    assert len(cells) == 2 * 5 * 2 == len({cell.experiment.digest() for cell in cells})
    assert [(c.training, c.pruning, c.seed) for c in cells[:3]] == [
        ("n_fgsm", "imp", 0),
        ("n_fgsm", "imp", 1),
        ("n_fgsm", "snip", 0),
    ]
    assert all(c.experiment.seed == c.seed for c in cells)


def test_a_cell_is_the_experiment_that_its_parts_make() -> None:
    cell = planned(FILE)[5]
    assert (cell.training, cell.pruning, cell.seed) == ("n_fgsm", "imp+nrs", 1)
    alone = load.parse("""
base: [ladders, n_fgsm, imp+nrs]
seed: 1
train: {epochs: 7}
ladders: [{name: imp+nrs, keep: [0.4, 0.15]}]
verify: {images: 300}
""")
    assert cell.experiment == alone and cell.experiment.digest() == alone.digest()


def test_keep_is_for_every_ladder_and_without_it_ladders_have_their_own() -> None:
    assert [ladder.keep for ladder in planned(FILE)[8].experiment.ladders] == [(0.4, 0.15)] * 2
    own = planned(FILE.replace("keep: [0.4, 0.15]", ""))[8].experiment
    assert [len(ladder.keep) for ladder in own.ladders] == [12, 12]


def test_equal_dense_networks_are_shared_and_penalties_have_their_own() -> None:
    layout = SweepLayout(Path("s"))
    tasks = sweep.tasks(planned(FILE), layout)
    dense = [task for task in tasks if task.needs is None]
    assert len(dense) == 2 * 2 * 3 and len(tasks) == len(dense) + 20
    assert len({task.name for task in tasks}) == len(tasks)
    needs = {task.folder.relative_to("s/cells/n_fgsm").as_posix(): task.needs for task in tasks[12:22]}
    assert needs["imp/seed-0"] == needs["snip/seed-0"] == needs["structlth/seed-0"]
    assert len({needs[f"{name}/seed-0"] for name in ("imp", "imp+nrs", "slim")}) == 3
    assert needs["imp/seed-0"] != needs["imp/seed-1"]
    by_name = {task.name: task for task in tasks}
    for task in tasks[12:]:
        assert task.needs is not None and task.start == by_name[task.needs].folder
        dense_alone = task.experiment.model_copy(update={"ladders": ()})
        assert by_name[task.needs].experiment.digest() == dense_alone.digest()
        assert task.start.name == dense_alone.digest()[:12]


def test_a_dense_task_keeps_the_weights_that_its_cells_rewind_to() -> None:
    (cell,) = planned("{base: ladders, training: [n_fgsm], pruning: [imp]}")
    first = cell.experiment.ladders[0]
    cells = [
        sweep.Planned("a", str(rewind), 0, cell.experiment.model_copy(update={"ladders": (ladder,)}))
        for rewind in (3, "initial", 1)
        for ladder in [first.model_copy(update={"rewind": rewind})]
    ]
    assert [task.early for task in sweep.tasks(cells, SweepLayout(Path("s")))] == [(1, 3), (), (), ()]


def test_without_pruning_the_cells_are_the_dense_runs(tmp_path: Path) -> None:
    text = "{base: fashion-ladders/fgsm, training: [n_fgsm, mnist-0.3/ibp], seeds: [4]}"
    cells, layout = planned(text), SweepLayout(tmp_path)
    assert all(cell.experiment.ladders == () and cell.pruning == "dense" for cell in cells)
    tasks = sweep.tasks(cells, layout)
    assert [task.folder for task in tasks] == [cell.folder(layout) for cell in cells]
    assert all(task.folder.parent == layout.dense for task in tasks)


def test_the_cells_of_a_folder_are_found_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep in"):
        sweep.cells(tmp_path)
    written = sweep.parse("{training: [mnist-0.1/ibp], pruning: [imp, imp+nrs], seeds: [3]}")
    (tmp_path / "sweep.yaml").write_text(config.dump(written))
    found = sweep.cells(tmp_path)
    assert [cell[:4] for cell in found] == [
        ("mnist-0.1/ibp", "imp", 3, tmp_path / "cells/mnist-0.1~ibp/imp/seed-3"),
        ("mnist-0.1/ibp", "imp+nrs", 3, tmp_path / "cells/mnist-0.1~ibp/imp+nrs/seed-3"),
    ]
    assert [cell.digest for cell in found] == [cell.experiment.digest() for cell in sweep.grid(written)]


def test_the_example_of_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(planned(example)) == 24


def test_what_is_dumped_reads_back() -> None:
    once = sweep.parse(FILE)
    assert sweep.parse(config.dump(once)) == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainning: [imp]", "x.yaml, line 1: trainning: no such setting; did you mean training?"),
        ("{training: [fgsm], keeep: [0.5]}", "keeep: no such setting; did you mean keep?"),
        ("seeds: [0]", "x.yaml: training: field required"),
        ("training: []", "training: "),
        (
            "seeds: [0]\ntraining: [fgsm, n_fgms]",
            "x.yaml, line 2: training[1]: there is no part or preset 'n_fgms'; did you mean n_fgsm?",
        ),
        ("{training: [fgsm], base: laders}", "base[0]: there is no part or preset 'laders'"),
        ("{training: [fgsm], pruning: [imp, imp]}", "pruning: imp is given twice"),
        ("{training: [fgsm], seeds: [1, 1]}", "seeds: 1 is given twice"),
        ("{training: [fgsm], seeds: [-1]}", "seeds[0]: "),
        ("{training: [fgsm], keep: [0.1, 0.5]}", "keep: must fall from round to round"),
        ("{training: [fgsm], set: {seed: 3}}", "set: seed cannot be set here; it comes from seeds"),
        ("{training: [fgsm], set: {train: {epocs: 3}}}", "x.yaml (fgsm): train.epocs: no such setting; did"),
        ("{training: [fgsm], pruning: [certified]}", "x.yaml (fgsm, certified): certified brings no ladders"),
        ("{training: [natural], set: {train: {eps: 8}}}", "x.yaml (natural): train.eps: epsilon 8 must lie"),
    ],
)
def test_a_mistake_is_named_on_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep.grid(sweep.parse(text, name="x.yaml"), name="x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
