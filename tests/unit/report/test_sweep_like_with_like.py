"""What a sweep's page compares has been asked the same, and what it says of a comparison is what was found."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_reader import PageReader
from sample import outcome_rows
from sweep_sample import CHOSEN, write_cell, write_sweep

from certiprune.report import sweep
from certiprune.report.sweep import Cell, compare, table
from certiprune.report.sweep.summary import gather
from certiprune.store.layout import RunLayout
from certiprune.store.records import Records


def change(folder: Path, **meta: object) -> None:
    """Replace top-level entries of the meta data; ``config`` is put over what is there."""
    with Records.open(RunLayout(folder).records) as records:
        if isinstance(config := meta.get("config"), dict):
            meta["config"] = records.meta()["config"] | config
        records.put_meta(meta)


def answer(folder: Path, ladder: str, number: int, letters: str) -> None:
    with Records.open(RunLayout(folder).records) as records:
        records.add(*outcome_rows(ladder, number, letters))


def text_of(page: Path) -> str:
    return PageReader(page.read_text(encoding="utf-8")).text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    "other", [{"data_fingerprint": "b"}, {"config": {"verify": {"eps": 0.2, "images": 200, "seconds": 5.0}}}]
)
def test_networks_that_were_asked_different_things_are_no_pair(
    tmp_path: Path, other: dict[str, object]
) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp", "imp+nrs"), (0,))
    for folder in (cell.folder for cell in cells):
        change(folder, data_fingerprint="a")
    found = gather(cells)
    assert {d.rival for d in compare.duels(found, table.parts(found)) if d.method.extra} == {
        *("dense", "own dense", "imp")
    }
    change(cells[1][3], **other)
    found = gather(cells)
    duels = compare.duels(found, table.parts(found))
    assert {d.rival for d in duels if d.method.extra} == {"own dense"}
    text = text_of(sweep.write(tmp_path, cells))
    assert "fgsm, imp+nrs, seed 0 is about other images, or another radius, than imp" in text


def test_the_title_has_every_radius(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm", "crown_ibp"), ("imp",), (0,))
    change(cells[1][3], config={"verify": {"eps": 2 / 255, "images": 200, "seconds": 5.0}})
    assert "eps 0.1, 2/255" in text_of(sweep.write(tmp_path, cells))


def test_a_seed_that_loses_is_not_counted_as_one_that_gains(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0, 1))
    # Of 40 with the dense network: 100 by seed 0, none by seed 1.
    answer(cells[1][3], "imp", CHOSEN, "m" * 16 + "f" * 184)
    page = sweep.write(tmp_path, cells)
    (rows,) = (
        rows
        for name, rows in PageReader(page.read_text("utf-8")).tables.items()
        if name.startswith("comparisons")
    )
    assert " ".join(rows[1][-1].split()) == "higher with 1 of 2 seeds, lower with 1 of 2 seeds"
    assert "+5.0 points, more than chance explains up with 1 and down with 1 of 2 seeds" in text_of(page)


def test_undecided_images_of_the_dense_network_are_named_beside_a_gain(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,))
    assert "upper side is 80 %: part or all of the gain may be" in text_of(sweep.write(tmp_path, cells))
    answer(cells[0][3], "dense", 0, "m" * 16 + "f" * 144 + "c" * 40)
    assert "part or all of the gain" not in text_of(sweep.write(tmp_path, cells))


def test_without_a_plain_dense_network_none_is_said_to_be_unverified(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp+nrs", "slim"), (0,))
    change(cells[1][3], config={"train": {"loss": {"name": "fgsm"}, "penalties": [{"name": "slimming"}]}})
    text = text_of(sweep.write(tmp_path, cells))
    assert "fgsm: no dense network without a penalty of its method's own; the method that does best" in text
    assert "has not been verified completely yet" not in text


def test_dense_networks_that_were_trained_differently_have_rows_of_their_own(tmp_path: Path) -> None:
    places = {name: tmp_path / name.replace(" ", "-") for name in ("imp", "imp+nrs", "slim", "imp other")}
    for name, place in places.items():
        write_cell(place, "fgsm", name.split()[0], 0)
    other = {"loss": {"name": "fgsm"}, "penalties": [{"name": "nrs", "weight": 0.1}]}
    change(places["slim"], config={"train": other})
    change(places["imp other"], config={"model": {"name": "cnn7", "width": 1.0}})
    (block,) = gather([Cell("fgsm", name, 0, place) for name, place in places.items()]).blocks
    assert [method.name for method in block.dense] == [
        "dense",
        "dense as for imp other",
        "dense with nrs",
        "dense with nrs, as for slim",
    ]
    assert [method.extra for method in block.pruned] == ["", "nrs", "nrs, as for slim", "as for imp other"]


def test_links_to_cells_hold_whatever_their_folders_are_called(tmp_path: Path) -> None:
    place = tmp_path / "50% of ü #1?"
    write_cell(place, "fgsm", "imp", 0)
    RunLayout(place).report.write_text("<!DOCTYPE html>")
    page = PageReader(sweep.write(tmp_path, [Cell("fgsm", "imp", 0, place)]).read_text("utf-8"))
    assert "50%25%20of%20%C3%BC%20%231%3F/report.html" in page.loads
