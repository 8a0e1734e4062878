from pathlib import Path

import pytest

from certiprune.core.errors import InputError
from certiprune.store import DENSE, RunLayout


def test_every_path_lies_in_the_folder_and_no_two_are_equal():
    layout = RunLayout(Path("runs/a"))
    rounds = [layout.round(DENSE, 0), layout.round("imp+nrs", 1), layout.round("imp+nrs", 2)]
    paths = [layout.experiment, layout.records, layout.report, layout.tables, layout.lock]
    paths += [path for r in rounds for path in (r.initial, r.early, r.training, r.model)]
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
