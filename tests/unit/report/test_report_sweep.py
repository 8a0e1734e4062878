"""The report of a made-up sweep, against numbers that follow from its rules."""

from __future__ import annotations

import csv
import html
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from page_reader import PageReader
from scipy.stats import binomtest, t
from sweep_sample import CHOSEN, PRUNINGS, SEEDS, TRAININGS, certified, letters, write_cell, write_sweep

from certiprune.core.errors import InputError
from certiprune.report import sweep
from certiprune.report.statistics import holm
from certiprune.report.sweep import Cell, choose, summary, table
from certiprune.report.tables import TICKET_HEAD
from certiprune.store.layout import RunLayout
from certiprune.store.records import Records
from certiprune.store.rows import StageRow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    cells = write_sweep(folder)
    # One cell has a page of its own.
    (cells[0][3] / "report.html").write_text("<!DOCTYPE html><title>cell</title>")
    sweep.write(folder, cells)
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> PageReader:
    return PageReader((root / "report.html").read_text(encoding="utf-8"))


def rows_of(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_round_is_the_best_on_validation_images_and_not_on_test_images(root: Path) -> None:
    rows = [row for row in rows_of(root, "table") if row["measure"]]
    assert {row["method"] for row in rows} == {"imp", "imp+nrs", "slim"}
    assert {int(row["round"]) for row in rows} == {CHOSEN}
    assert {(row["training"], row["measure"]) for row in rows} == {
        ("fgsm", "validation_robust_accuracy"),
        ("crown_ibp", "validation_certified_accuracy"),
    }
    # Round 3 has more certified on the test images, and was not taken.
    every = {(r["method"], int(r["round"])): float(r["certified"]) for r in rows_of(root, "rounds")}
    assert every["imp", 3] > every["imp", CHOSEN]


def test_a_row_is_the_mean_of_its_seeds_with_students_interval(root: Path) -> None:
    (row,) = (r for r in rows_of(root, "table") if (r["training"], r["method"]) == ("fgsm", "imp"))
    values = [certified("imp", seed, CHOSEN) / 200 for seed in (0, 1)]
    mean, spread = sum(values) / 2, abs(values[0] - values[1]) / 2
    assert float(row["certified"]) == pytest.approx(mean)
    low, high = t.interval(0.95, 1, mean, spread)
    assert (float(row["certified_low"]), float(row["certified_high"])) == pytest.approx((low, high))
    assert float(row["upper"]) == pytest.approx(0.8)
    shares = [float(row[key]) for key in ("certified", "unknown", "falsified", "misclassified")]
    assert sum(shares) == pytest.approx(1)
    # Image i takes i / 10 seconds.
    assert float(row["seconds"]) == pytest.approx(9.95)
    assert (row["seeds"], row["certified_seeds"], float(row["remaining"])) == ("2", "2", 0.25)


def test_the_page_shows_the_table(page: PageReader) -> None:
    first, _ = (rows for name, rows in page.tables.items() if name.startswith("study"))
    assert [row[0] for row in first[1:]] == [
        "dense",
        "dense with nrs",
        "imp round 2 of 3",
        "imp+nrs round 2 of 3",
        "slim round 2 of 3",
    ]
    assert first[3][5] == "49 % [36.3, 61.7]"
    assert first[1][5:10] == ["20 % [20.0, 20.0]", "80 % [80.0, 80.0]", "60 %", "12 %", "8 %"]


def test_comparisons_are_paired_and_adjusted_twice(root: Path) -> None:
    rows = rows_of(root, "comparisons")
    # Of each training and seed: three methods of three rounds with the dense one, one of them with its own, too,
    # and two with imp.
    assert len(rows) == 2 * 2 * 3 * (3 + 1 + 2)
    chosen = [row for row in rows if row["chosen"] == "1"]
    assert len(chosen) == len(rows) // 3
    for key, part in (("p_adjusted", rows), ("p_adjusted_chosen", chosen)):
        wanted = holm([float(row["p_value"]) for row in part])
        assert [float(row[key]) for row in part] == pytest.approx(wanted)
    (one,) = (
        r
        for r in rows
        if (r["training"], r["method"], r["seed"], r["round"], r["rival"])
        == ("fgsm", "slim", "1", "2", "imp")
    )
    lost = certified("imp", 1, 2) - certified("slim", 1, 2)
    assert (int(one["only_rival"]), int(one["only_method"])) == (lost, 0)
    assert float(one["p_value"]) == pytest.approx(binomtest(0, lost).pvalue)
    assert {row["rival"] for row in rows if row["method"] == "imp+nrs"} == {"dense", "own dense", "imp"}


def test_tickets_are_those_of_chosen_rounds(root: Path) -> None:
    rows = rows_of(root, "tickets")
    assert list(rows[0]) == ["training", "method", "seed", "round", *TICKET_HEAD]
    assert len(rows) == 2 * 3 * 2
    assert {int(row["round"]) for row in rows} == {CHOSEN}
    (row,) = (r for r in rows if (r["training"], r["method"], r["seed"]) == ("fgsm", "imp", "0"))
    # 100 certified against the dense network's upper side of 160, and against the 40 that are proved of it.
    assert float(row["conservative_gain"]) == pytest.approx(-0.3)
    assert float(row["proved_gain"]) == pytest.approx(0.3)


def test_every_network_is_there_with_both_intervals(root: Path) -> None:
    rows = rows_of(root, "networks")
    # Of each training and seed: two dense networks and three ladders of three rounds.
    assert len(rows) == 2 * 2 * (2 + 9)
    for row in rows:
        theirs = binomtest(round(200 * float(row["certified"])), 200).proportion_ci(0.95, method="exact")
        ends = float(row["certified_exact_low"]), float(row["certified_exact_high"])
        assert ends == pytest.approx((theirs.low, theirs.high))
    assert not any(Path(row["folder"]).is_absolute() for row in rows)


def test_curves_over_time_end_at_both_sides(root: Path) -> None:
    rows = [r for r in rows_of(root, "anytime") if (r["method"], r["seed"], r["round"]) == ("slim", "0", "1")]
    late = max(rows, key=lambda row: float(row["seconds"]))
    # The limit is 5 s, and image i takes i / 10 s: of the 51 images by then 40 are no longer open.
    assert float(late["seconds"]) == 5.0
    assert float(late["upper"]) == pytest.approx(1 - 40 / 200)
    assert float(late["certified"]) == pytest.approx(11 / 200)


def test_the_latex_table_has_every_row_and_escapes(root: Path) -> None:
    text = (root / "tables" / "table.tex").read_text()
    assert text.count(r" \\") == 1 + 2 + 2 * 5
    assert r"\textit{crown\_ibp}" in text and r"\toprule" in text and r"\bottomrule" in text
    assert r"imp & 25 & $88.0 \pm 0.0$ & $80.0 \pm 0.0$ & $49.0 \pm 12.7$ & $80.0 \pm 0.0$ & 9.95 \\" in text
    assert all(
        line.count("&") == 6 for line in text.splitlines() if line.endswith(r"\\") and "multi" not in line
    )


def test_the_references_are_those_of_the_methods_used(root: Path) -> None:
    found = re.findall(r"^@\w+\{([\w-]+),", (root / "tables" / "references.bib").read_text(), re.MULTILINE)
    assert found == ["study", "fgsm", "crown_ibp", "loss_fusion", "slim", "magnitude", "imp"]


def test_the_page_asks_for_nothing_from_outside_and_links_to_its_cells(page: PageReader) -> None:
    away = [value for value in page.loads if not value.startswith(("#", "data:"))]
    assert away == ["cells/fgsm/imp/seed-0/report.html"]
    assert page.scripts == [{}]
    assert len(page.ids) == len(set(page.ids))
    (runs,) = (rows for name, rows in page.tables.items() if name.startswith("runs"))
    assert len(runs) == 1 + 12
    assert runs[2][3].startswith("cells/fgsm/imp/seed-1 no page yet")


def test_the_figures_of_the_study_are_there(page: PageReader) -> None:
    labels = {given["aria-label"] or "" for tag, given in page.tags if tag == "svg"}
    for training in ("fgsm", "crown_ibp"):
        for what in ("standard accuracy", "certified accuracy", "unstable ReLUs", "verification"):
            assert f"{what} of every method, training {training}" in labels
        assert any(label.startswith(f"{training}: certified by time limit") for label in labels)
        for method in ("imp", "imp+nrs", "slim"):
            name = f"{training}, {method}"
            assert {f"{name}: unstable ReLUs, %", f"{name}: weights left, %"} <= labels
            assert f"{name} by round and layer: RS loss (dashed: NRS)" in labels
            assert f"{name} by round and layer: widths (dashed: before BN)" in labels
    assert "The NRS loss over lower and upper bound for several gammas" in labels
    assert "BatchNorm scales need checkpoints, and those of dense" in page.text


def test_the_headline_names_the_method_that_is_best_on_validation_images(page: PageReader) -> None:
    text = page.text.replace("\u00a0", " ")
    assert (
        "fgsm: dense 20 % certified; the method that does best on validation images, imp+nrs with 25 % of the "
        "weights left, 53 % (+33.0 points, more than chance explains)."
    ) in text
    assert "There is one seed only" not in text


def test_two_writes_give_the_same_bytes(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,), (0.5,))

    def everything() -> dict[str, bytes]:
        sweep.write(tmp_path, cells)
        return {
            path.name: path.read_bytes()
            for path in [tmp_path / "report.html", *(tmp_path / "tables").iterdir()]
        }

    assert everything() == everything()


def test_one_seed_has_the_intervals_of_its_images_and_says_so(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,))
    page = PageReader(sweep.write(tmp_path, cells).read_text(encoding="utf-8"))
    assert "There is one seed only" in page.text
    (row,) = (r for r in rows_of(tmp_path, "table") if r["method"] == "imp")
    theirs = binomtest(certified("imp", 0, CHOSEN), 200).proportion_ci(0.95, method="wilson")
    assert (float(row["certified_low"]), float(row["certified_high"])) == pytest.approx(
        (theirs.low, theirs.high)
    )
    assert row["certified_seeds"] == "1" and row["seconds_low"] == ""


def test_what_is_not_there_yet_is_said(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0, 1))
    cells.append(Cell("crown_ibp", "imp", 0, tmp_path / "cells" / "crown_ibp" / "imp" / "seed-0"))
    with Records.open(RunLayout(cells[1].folder).records) as records:
        records._connection.execute("DELETE FROM rounds WHERE round = 3")
        records._connection.execute("DELETE FROM outcomes WHERE ladder = 'imp' AND round = 2 AND idx > 9")
    page = PageReader(sweep.write(tmp_path, cells).read_text(encoding="utf-8"))
    assert "This sweep is not finished." in page.text
    assert "crown_ibp, imp, seed 0: not begun yet." in page.text
    assert "fgsm, imp, seed 1: not there yet: round 3." in page.text
    assert "fgsm, imp, seed 1: not verified yet: round 2." in page.text
    # Certified shares are of the seed that is done.
    (row,) = (r for r in rows_of(tmp_path, "table") if r["method"] == "imp")
    assert (row["seeds"], row["certified_seeds"]) == ("2", "1")


def test_without_validation_measures_nothing_is_chosen(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,))
    with Records.open(RunLayout(cells[0][3]).records) as records:
        records.add(StageRow("imp/2/train", 1.0, {}))
    (part,) = table.parts(summary.gather(cells))
    assert part.measure is None and [m.name for m in part.without] == ["imp"]
    assert [row.method.name for row in part.rows] == ["dense"]


def test_the_measure_can_be_chosen(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0, 1))
    found = summary.gather(cells)
    # Clean validation accuracy falls from round to round.
    (part,) = table.parts(found, "validation_accuracy")
    assert (part.measure, part.rows[-1].number) == ("validation_accuracy", 1)
    with pytest.raises(InputError, match="no network has 'nonsense'"):
        sweep.write(tmp_path, cells, by="nonsense")


def test_of_equal_rounds_the_sparsest_is_chosen(tmp_path: Path) -> None:
    (block,) = summary.gather(write_sweep(tmp_path, ("fgsm",), ("imp",), (0,))).blocks
    choice = choose.choose(block.pruned[0], "accuracy")
    assert choice is not None and (choice.number, choice.among) == (3, 3)


def test_a_cell_without_results_at_all_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cell of the sweep has results yet"):
        sweep.write(tmp_path, [Cell("fgsm", "imp", 0, tmp_path / "nowhere")])


def test_a_ladder_on_the_way_is_no_method(tmp_path: Path) -> None:
    write_cell(tmp_path, "fgsm", "slim", 0)
    with Records.open(RunLayout(tmp_path).records) as records:
        rows = [row for row in records.rounds() if row.ladder == "slim"]
        records.add(*(type(row)(**{**row.__dict__, "ladder": "imp"}) for row in rows))
    (block,) = summary.gather([Cell("fgsm", "slim", 0, tmp_path)]).blocks
    assert [method.name for method in block.pruned] == ["slim"]
    # Where no ladder has the pruning's name, each is a method.
    (block,) = summary.gather([Cell("fgsm", "both", 0, tmp_path)]).blocks
    assert [method.name for method in block.pruned] == ["slim", "imp"]


def test_runs_are_identified_by_the_digests_of_their_experiments(root: Path) -> None:
    rows = rows_of(root, "runs")
    assert len(rows) == len({row["folder"] for row in rows}) == len(TRAININGS) * len(PRUNINGS) * len(SEEDS)
    for row in rows:
        with Records.open(RunLayout(root / row["folder"]).records, read_only=True) as records:
            meta = records.meta()
        assert row["digest"] == meta["digest"]
        assert float(row["eps"]) == meta["config"]["verify"]["eps"]


def test_parquet_without_pyarrow_is_a_mistake_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,), (0.5,))
    with pytest.raises(InputError, match=r"need pyarrow.*certiprune\[parquet\]"):
        sweep.write(tmp_path, cells, parquet=True)


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    cells = write_sweep(tmp_path, ("fgsm",), ("imp",), (0,), (0.5,))
    sweep.write(tmp_path, cells, parquet=True)
    for name in ("table", "rounds", "networks", "runs", "comparisons", "tickets", "anytime"):
        read = parquet.read_table(tmp_path / "tables" / f"{name}.parquet").to_pylist()
        texts = rows_of(tmp_path, name)
        assert len(read) == len(texts) > 0
        for values, cells_ in zip(read, texts, strict=True):
            for key, value in values.items():
                assert cells_[key] == "" if value is None else type(value)(cells_[key]) == value


def test_the_made_up_verdicts_are_what_they_say() -> None:
    text = letters("imp", 0, 1)
    assert [text.count(letter) for letter in "mfcu"] == [16, 24, 70, 90]


def test_figures_as_files_are_the_ones_of_the_page(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path)
    sweep.write(tmp_path, cells)
    assert not (tmp_path / "figures").exists()
    page = sweep.write(tmp_path, cells, figures=True).read_text()
    names = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {f"{training}-certified-accuracy.svg" for training in TRAININGS} <= names
    for file in (tmp_path / "figures").iterdir():
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("aria-label") and f'aria-label="{html.escape(root.get("aria-label", ""))}"' in page
