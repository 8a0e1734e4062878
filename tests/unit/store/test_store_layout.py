from pathlib import Path

import pytest

from certiprune.core.errors import InputError
from certiprune.store import DENSE, RunLayout, SweepLayout


def test_every_path_lies_in_the_folder_and_no_two_are_equal():
    layout = RunLayout(Path("runs/a"))
    rounds = [layout.round(DENSE, 0), layout.round("imp+nrs", 1), layout.round("imp+nrs", 2)]
    paths = [layout.experiment, layout.records, layout.report, layout.tables, layout.lock]
    paths += [path for r in rounds for path in (r.initial, r.early(1), r.early(12), r.training, r.model)]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to("runs/a") for path in paths)
    assert rounds[1].model == Path("runs/a/checkpoints/imp+nrs/1/model.safetensors")


@pytest.mark.parametrize("ladder", ["", "..", "a/b", ".hidden", "a b", "é"])
def test_a_ladder_is_a_plain_folder_name(ladder):
    with pytest.raises(InputError, match="must be made of letters"):
        RunLayout(Path("a")).round(ladder, 1)


def test_rounds_are_not_negative():
    with pytest.raises(InputError, match="counted from 0"):
        RunLayout(Path("a")).round("dense", -1)


def test_every_run_of_a_sweep_has_a_folder_of_its_own():
    layout = SweepLayout(Path("s"))
    cells = [
        ("n_fgsm", "imp+nrs", 0),
        ("mnist-0.3/ibp", "imp+nrs", 0),
        ("n_fgsm", "imp", 0),
        ("n_fgsm", "imp", 1),
    ]
    folders = [layout.cell(*cell) for cell in cells] + [
        layout.dense_run("0" * 64),
        layout.dense_run("1" * 64),
    ]
    assert len(set(folders)) == len(folders)
    assert folders[1] == Path("s/cells/mnist-0.3~ibp/imp+nrs/seed-0")
    assert folders[4] == Path("s/dense/000000000000")
