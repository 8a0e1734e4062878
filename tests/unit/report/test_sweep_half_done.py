"""Of a sweep that is half done nothing looks like the whole."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import PageReader
from sample import config, outcome_rows, round_row
from sweep_sample import write_cell, write_sweep

from certiprune.cli.report import sweep_page
from certiprune.core.errors import InputError
from certiprune.experiment.sweep import config as files
from certiprune.report import summary as runs
from certiprune.report import sweep
from certiprune.report.sweep import figures
from certiprune.report.sweep.summary import gather
from certiprune.store.layout import RunLayout, SweepLayout
from certiprune.store.records import Records
from certiprune.store.rows import StageRow


def execute(folder: Path, *commands: str) -> None:
    with Records.open(RunLayout(folder).records) as records:
        for command in commands:
            records._connection.execute(command)


def text_of(page: Path) -> str:
    return PageReader(page.read_text(encoding="utf-8")).text.replace("\u00a0", " ")


def test_easy_images_do_not_stand_for_all_where_accuracy_is_measured_on_few(tmp_path: Path) -> None:
    path = RunLayout(tmp_path).records
    with Records.open(path) as records:
        records.put_meta({"config": config({}, images=200) | {"evaluate": {"images": 20}}})
        records.add(replace(round_row("dense", 0, 1.0), test_images=20), *outcome_rows("dense", 0, "c" * 20))
    (dense,) = runs.read(path).rounds
    assert not dense.complete and dense.certified is None and dense.expected == 200
    with Records.open(path) as records:
        # The test split turned out to have 20 images.
        records.add(StageRow("dense/0/verify", 1.0, {}))
    (dense,) = runs.read(path).rounds
    assert dense.complete and dense.expected == 20


def test_rounds_that_no_seed_has_are_said_to_be_missing(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp", "slim"), (0, 1))
    for folder in (cell.folder for cell in cells[:2]):
        execute(folder, "DELETE FROM rounds WHERE round > 1")
    # The other method has nothing yet but its copy of the dense network.
    for folder in (cell.folder for cell in cells[2:]):
        execute(folder, "DELETE FROM rounds WHERE round > 0", "DELETE FROM outcomes WHERE round > 0")
    assert gather(cells).missing == (
        "fgsm, imp, seed 0: not there yet: rounds 2, 3.",
        "fgsm, imp, seed 1: not there yet: rounds 2, 3.",
        "fgsm, slim, seed 0: not there yet: rounds 1, 2, 3.",
        "fgsm, slim, seed 1: not there yet: rounds 1, 2, 3.",
    )


def test_a_dense_network_that_is_not_verified_is_said_to_be(tmp_path: Path) -> None:
    (cell,) = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,), (0.5,))
    assert gather([cell]).missing == ()
    execute(cell[3], "DELETE FROM outcomes WHERE ladder = 'dense' AND idx > 5")
    assert gather([cell]).missing == ("fgsm, imp, seed 0: the dense network is not verified yet.",)
    execute(cell[3], "DELETE FROM rounds WHERE ladder = 'dense'")
    assert gather([cell]).missing == ("fgsm, imp, seed 0: the dense network is not there yet.",)


def test_a_mean_of_some_seeds_says_so(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0, 1))
    execute(cells[1][3], "DELETE FROM outcomes WHERE ladder = 'imp' AND round = 2 AND idx > 9")
    page = sweep.write(tmp_path, cells)
    (rows,) = (
        t for name, t in PageReader(page.read_text("utf-8")).tables.items() if name.startswith("study")
    )
    assert rows[2][5].replace("\u00a0", " ") == "50 % [43.1, 56.9] 1 of 2 seeds"
    assert rows[2][3].replace("\u00a0", " ").startswith("88 % [") and "of 2" not in rows[2][3]
    assert "left, 50 % (1 of 2 seeds) (" in text_of(page)
    assert "dense 20 % certified" in text_of(page)
    assert "50.0 [43.1, 56.9] (1 of 2 seeds) & " in (tmp_path / "tables" / "table.tex").read_text()


def test_the_best_method_is_called_so_among_those_that_are_verified(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp", "imp+nrs"), (0,))
    execute(cells[1][3], "DELETE FROM outcomes WHERE ladder = 'imp+nrs' AND round = 2 AND idx > 9")
    text = text_of(sweep.write(tmp_path, cells))
    assert "of the methods verified so far, the one that does best on validation images, imp with" in text


def test_a_cell_that_was_cut_off_at_once_does_not_stop_the_report(tmp_path: Path) -> None:
    described = files.parse("training: [fgsm]\npruning: [imp, snip]\nset: {data: {name: digits}}")
    layout = SweepLayout(tmp_path)
    layout.sweep.write_text(files.dump(described), encoding="utf-8")
    write_cell(layout.cell("fgsm", "imp", 0), "fgsm", "imp", 0)
    empty = layout.cell("fgsm", "snip", 0)
    empty.mkdir(parents=True)
    with Records.open(RunLayout(empty).records) as records:
        records.put_meta({"digest": "0123abcd"})
    page = sweep_page(tmp_path)
    assert "fgsm, snip, seed 0: the results at" in text_of(page)
    assert RunLayout(layout.cell("fgsm", "imp", 0)).report.is_file()
    with (tmp_path / "tables" / "networks.csv").open(newline="") as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == {"dense", "imp"}


def test_a_line_over_rounds_has_the_same_seeds_everywhere(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0, 1))
    execute(cells[1][3], "DELETE FROM outcomes WHERE ladder = 'imp' AND round = 2 AND idx > 9")
    (method,) = gather(cells).blocks[0].pruned
    line = figures.points(method, figures.share("certified"))
    assert [(row.number, found.seeds) for row, found in line] == [(0, 2), (1, 2), (3, 2)]
    assert len(figures.points(method, figures.share("standard"))) == 4


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_rounds_are_not_chosen_by_what_is_no_validation_accuracy(tmp_path: Path, metric: str) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,))
    with pytest.raises(InputError, match=f"'{metric}' is no accuracy on validation images"):
        sweep.write(tmp_path, cells, by=metric)
