"""The page and the tables of made-up runs, against numbers counted by hand."""

from __future__ import annotations

import csv
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from page_reader import PageReader
from sample import BOUNDED, VERDICTS, bound_metrics, config, epoch_rows, write_run

from certiprune import report
from certiprune.cli.rounds import table as printed
from certiprune.core.errors import InputError
from certiprune.report import curves
from certiprune.store.layout import RunLayout
from certiprune.store.records import Records
from certiprune.store.rows import EpochRow, OutcomeRow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder).close()
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> PageReader:
    return PageReader((run / "report.html").read_text(encoding="utf-8"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_page_asks_for_nothing_from_outside(run: Path, page: PageReader) -> None:
    assert page.loads
    assert all(value.startswith(("#", "data:")) for value in page.loads)
    assert page.scripts == [{}]
    styles = re.findall(r"url\(([^)]*)\)|(@import)", (run / "report.html").read_text(encoding="utf-8"))
    assert all(address.startswith("#") and not imported for address, imported in styles)


def test_ids_are_unique_and_references_lead_somewhere(page: PageReader) -> None:
    assert len(page.ids) == len(set(page.ids))
    targets = {value[1:] for value in page.loads if value.startswith("#")}
    assert targets <= set(page.ids)


def test_the_table_of_sizes_shows_what_compaction_leaves(page: PageReader) -> None:
    (sizes,) = (table for name, table in page.tables.items() if name.startswith("sizes"))
    # Of magnitude 1 half is left.
    counts = ["1\u202f180", "590", "5\u202f000", "2\u202f500", "8 kB", "4 kB", "150", "75"]
    assert sizes[2] == ["magnitude 1", "50 % weights", *counts]


def test_the_table_of_rounds_shows_the_counts(page: PageReader) -> None:
    magnitude, random = (table for name, table in page.tables.items() if name.startswith("rounds"))
    header = magnitude[0]
    assert header[0] == "Round"
    assert [row[0] for row in magnitude[1:]] == ["0 dense", "1 magnitude", "2 magnitude"]
    assert [row[0] for row in random[1:]] == ["0 dense", "1 random"]
    # magnitude 1 is "cccccccccuuuuffffmcm": 10 certified, 4 unknown, 4 falsified, 2 misclassified of 20.
    row = magnitude[2]
    assert row[1] == "50 % 500 weights"
    assert row[2] == "90 % [83, 94]"
    assert row[3] == "80 % [71, 87]"
    assert row[4] == "50 % [30, 70]"
    assert row[5] == "70 % [48, 85]"
    assert row[6:11] == ["20", "10", "4", "4", "2"]
    assert row[11] == "20.2 13.5 % of 150"
    assert row[12] == "190 median 9.5"
    assert row[13] == "19 s median 0.95 s"


def test_the_headline_compares_the_last_round_on_the_same_images(page: PageReader) -> None:
    text = page.text.replace("\u00a0", " ")
    # Certified: dense 4 of 20; magnitude 2 has those and 12 more: p = 2 / 2**12, times 3 by Holm.
    assert (
        "Certified accuracy on 20 test images: dense 20 % [8, 42], after magnitude pruning to 25 % of the "
        "weights 80 % [58, 92]; McNemar p = 0.00049 on 20 shared images (0.0015 when adjusted for 3 "
        "comparisons). Pruning raises certified accuracy by more than chance explains."
    ) in text
    assert "after random pruning to 50 % of the weights 20 % [8, 42]; McNemar p = 1" in text
    assert "The difference is within what chance explains." in text
    # The upper side of the dense network is 15 of 20, below the 16 that are proved after pruning.
    assert "easier to verify" not in text
    assert "not finished" not in text


def test_a_gain_that_undecided_images_could_explain_carries_a_warning(tmp_path: Path) -> None:
    verdicts = {("dense", 0): "c" * 2 + "u" * 16 + "fm", ("magnitude", 1): "c" * 17 + "ffm"}
    write_run(tmp_path, verdicts, keep={"magnitude": (0.5,)}).close()
    text = PageReader(report.write(tmp_path).read_text(encoding="utf-8")).text.replace("\u00a0", " ")
    assert "The dense network leaves 16 of 20 images undecided, and its upper side (90 %)" in text


def test_a_loss_is_said_as_plainly_as_a_gain(tmp_path: Path) -> None:
    verdicts = {("dense", 0): "c" * 18 + "fm", ("magnitude", 1): "c" * 5 + "f" * 14 + "m"}
    write_run(tmp_path, verdicts, keep={"magnitude": (0.5,)}).close()
    text = PageReader(report.write(tmp_path).read_text(encoding="utf-8")).text
    assert "Pruning lowers certified accuracy by more than chance explains." in text


def test_the_csv_files_equal_the_records(run: Path) -> None:
    tables = run / "tables"
    with Records.open(RunLayout(run).records, read_only=True) as records:
        outcomes, layers, epochs = records.outcomes(), records.layers(), records.epochs()
    found = rows_of(tables / "outcomes.csv")
    assert len(found) == sum(map(len, VERDICTS.values()))
    by_key = {(row["ladder"], int(row["round"]), int(row["index"])): row for row in found}
    for outcome in outcomes:
        row = by_key[outcome.ladder, outcome.round, outcome.idx]
        assert (row["verdict"], row["reason"], row["stage"]) == (
            outcome.verdict,
            outcome.reason,
            outcome.stage,
        )
        assert (float(row["lower"]), float(row["seconds"])) == (outcome.lower, outcome.seconds)
        assert (int(row["label"]), int(row["predicted"]), int(row["nodes"])) == (
            outcome.label,
            outcome.predicted,
            outcome.nodes,
        )
    kept = [
        (r["ladder"], int(r["round"]), r["kind"], r["name"], float(r["kept"]))
        for r in rows_of(tables / "layers.csv")
    ]
    assert sorted(kept) == sorted((x.ladder, x.round, x.kind, x.name, x.kept) for x in layers)
    losses = [
        (r["ladder"], int(r["round"]), int(r["epoch"]), float(r["loss"]))
        for r in rows_of(tables / "epochs.csv")
    ]
    assert sorted(losses) == sorted((e.ladder, e.round, e.epoch, e.metrics["loss"]) for e in epochs)


def test_rounds_csv_holds_both_sides_and_the_intervals(run: Path) -> None:
    rows = {(row["ladder"], row["round"]): row for row in rows_of(run / "tables" / "rounds.csv")}
    assert list(rows) == [("dense", "0"), ("magnitude", "1"), ("magnitude", "2"), ("random", "1")]
    row = rows["random", "1"]  # "ccuuuuuuuufffffmmmcc"
    assert [row[v] for v in ("certified", "unknown", "falsified", "misclassified")] == ["4", "8", "5", "3"]
    assert (float(row["certified_accuracy"]), float(row["upper_accuracy"])) == (0.2, 0.6)
    assert float(row["certified_low"]) == pytest.approx(0.0807, abs=1e-4)
    assert float(row["certified_high"]) == pytest.approx(0.4160, abs=1e-4)
    assert float(row["seconds_total"]) == pytest.approx(19.0)
    compared = rows_of(run / "tables" / "comparisons.csv")
    assert [(row["only_dense"], row["only_pruned"]) for row in compared] == [
        ("1", "7"),
        ("0", "12"),
        ("0", "0"),
    ]


def test_the_gallery_mixes_verdicts_and_shows_counterexamples(page: PageReader) -> None:
    pictures = [given for tag, given in page.tags if tag == "img"]
    badges = [
        given["class"] for tag, given in page.tags if tag == "span" and "badge" in (given.get("class") or "")
    ]
    assert {"badge certified", "badge falsified", "badge unknown", "badge misclassified"} == set(badges)
    assert len(pictures) == len(badges) + 2 * badges.count("badge falsified")
    assert all((given["src"] or "").startswith("data:image/png;base64,") for given in pictures)


def test_two_writes_give_the_same_bytes(run: Path) -> None:
    def everything() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in [run / "report.html", *(run / "tables").iterdir()]}

    before = everything()
    report.write(run)
    assert everything() == before
    assert len(before) == 8


def test_a_run_that_is_not_finished_says_what_is_missing(tmp_path: Path) -> None:
    verdicts = {("dense", 0): "ccuuffmm", ("magnitude", 1): "ccc", ("magnitude", 2): ""}
    write_run(tmp_path, verdicts).close()
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    assert "Round 1 of ladder magnitude has been verified on 3 of 8 images so far." in page.text
    assert "Round 2 of ladder magnitude has not been verified yet." in page.text
    assert "Round 1 of ladder random has not been trained yet." in page.text
    assert "no pruned network has been verified completely yet" in page.text
    (table,) = (table for name, table in page.tables.items() if name.startswith("rounds"))
    # Easy images are answered first: counts are shown, a share of them is not.
    assert table[2][4:11] == ["–", "–", "3 of 8", "3", "0", "0", "0"]
    assert table[3][4:11] == ["–", "–", "0", "–", "–", "–", "–"]
    partial = rows_of(tmp_path / "tables" / "rounds.csv")[1]
    assert (partial["certified"], partial["certified_accuracy"]) == ("3", "")


def test_a_run_in_its_first_training_shows_its_curves(tmp_path: Path) -> None:
    with Records.open(RunLayout(tmp_path).records) as records:
        records.put_meta({"config": config({})})
        records.add(*epoch_rows("dense", 0, 1))
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    assert "The dense network is still in training." in page.text
    assert [given["aria-label"] for tag, given in page.tags if tag == "svg"] == ["Training of dense"]


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run with what bounds said, of the rounds and of every epoch."""
    folder = tmp_path_factory.mktemp("bounded")
    with write_run(folder, epochs=4) as records:
        for row in records.rounds():
            records.add(replace(row, **BOUNDED))
        for epoch in records.epochs():
            records.add(replace(epoch, metrics={**epoch.metrics, **bound_metrics(epoch.epoch)}))
        relus = [layer for layer in records.layers() if layer.kind == "relu"]
        records.add(*(replace(layer, product=0.5, rs=-0.25, width=1.5) for layer in relus))
    report.write(folder)
    return folder


def test_what_bounds_say_has_its_columns(bounded: Path) -> None:
    page = PageReader((bounded / "report.html").read_text(encoding="utf-8"))
    table = next(table for name, table in page.tables.items() if name.startswith("rounds"))
    assert table[0][3:7] == ["PGD", "IBP", "CROWN-IBP", "Certified"]
    assert table[1][4:6] == ["40 % [31, 50]", "55 % [45, 64]"]
    row = rows_of(bounded / "tables" / "rounds.csv")[0]
    assert (float(row["ibp_accuracy"]), float(row["crown_accuracy"])) == (0.4, 0.55)
    layers = rows_of(bounded / "tables" / "layers.csv")
    assert {(r["kind"], r["rs"], r["width"], r["nrs"]) for r in layers} == {
        ("weights", "", "", ""),
        ("relu", "-0.25", "1.5", ""),
    }
    assert printed(bounded)[1].split()[2:6] == ["95.0%", "80.0%", "40.0%", "55.0%"]
    assert {"statistics/ibp", "width_before/relu1"} <= set(rows_of(bounded / "tables" / "epochs.csv")[0])


def test_every_network_has_its_figures_over_the_epochs(bounded: Path) -> None:
    page = PageReader((bounded / "report.html").read_text(encoding="utf-8"))
    labels = [given["aria-label"] or "" for tag, given in page.tags if tag == "svg"]
    for name in ("dense", "magnitude 1", "magnitude 2", "random 1"):
        wanted = {
            f"Training of {name}",
            f"Clean, PGD and certified accuracy of {name} by epoch",
            f"Loss of {name} and its parts by epoch",
            f"Eps and learning rate of {name} by epoch",
            f"{name} by epoch and layer: unstable ReLUs",
            f"{name} by epoch and layer: RS loss (dashed: NRS)",
            f"{name} by epoch and layer: widths (dashed: before BN)",
        }
        assert wanted <= set(labels)
    assert len(page.ids) == len(set(page.ids))
    assert all(value.startswith(("#", "data:")) for value in page.loads)
    assert page.scripts == [{}]
    assert "not proofs" in page.text and "mathdefault" not in page.text


def test_a_curve_is_drawn_through_the_epochs_that_have_it() -> None:
    epochs = [replace(row, metrics=bound_metrics(row.epoch)) for row in epoch_rows("dense", 0, 4)]
    assert curves.line(epochs, "statistics/pgd", 100) == ([2, 4], [60.0, 60.0])
    assert curves.line(epochs, "statistics/ibp")[1] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert curves.line(epochs, "nothing") == ([], [])


@pytest.mark.parametrize(
    ("draw", "prefixes"),
    [
        (curves.accuracies, ("statistics/",)),
        (curves.parts, ("adversarial", "rs")),
        (curves.schedule, ("eps", "learning_rate")),
        (curves.unstable, ("unstable/",)),
        (curves.stability, ("rs/", "nrs/")),
        (curves.widths, ("width/", "width_before/")),
    ],
)
def test_a_figure_whose_metrics_are_missing_is_left_out(
    draw: Callable[..., str | None], prefixes: tuple[str, ...]
) -> None:
    def without(row: EpochRow, gone: tuple[str, ...]) -> EpochRow:
        kept = {k: v for k, v in bound_metrics(row.epoch).items() if not k.startswith(gone)}
        return replace(row, metrics=kept)

    rows = epoch_rows("dense", 0, 3)
    assert draw("dense", [without(row, ("nothing",)) for row in rows]) is not None
    assert draw("dense", [without(row, prefixes) for row in rows]) is None


def test_measures_that_were_not_made_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, {("dense", 0): "cu"}, keep={}).close()
    with sqlite3.connect(RunLayout(tmp_path).records) as connection:
        connection.execute("UPDATE rounds SET pgd_accuracy = NULL, unstable = NULL, total = 0, kept = 0")
        connection.execute("UPDATE meta SET value = '{}' WHERE key = 'config'")
    connection.close()
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    (table,) = (table for name, table in page.tables.items() if name.startswith("rounds"))
    assert (table[1][3], table[1][11]) == ("–", "–")
    assert rows_of(tmp_path / "tables" / "rounds.csv")[0]["pgd_accuracy"] == ""


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    hostile = '<script>alert("$x^{")</script>&amp;\'--> <img src=http://example.org/x>'
    verdicts = {("dense", 0): "cufm", (hostile, 1): "cufm"}
    with write_run(tmp_path, verdicts, keep={hostile: (0.5,)}, names=[hostile] * 4) as records:
        records.put_meta({"dataset": hostile, "digest": hostile, "environment": {hostile: [hostile]}})
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    assert page.scripts == [{}]
    assert all(value.startswith(("#", "data:")) for value in page.loads)
    assert page.text.count(hostile) > 5
    assert rows_of(tmp_path / "tables" / "outcomes.csv")[-1]["ladder"] == hostile


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_of_any_channels_have_a_picture(tmp_path: Path, channels: int) -> None:
    write_run(tmp_path, {("dense", 0): "f"}, keep={}, channels=channels).close()
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in page.tags) == 3


def test_a_long_experiment_keeps_its_order(tmp_path: Path) -> None:
    keep = {"zeta": tuple(0.8**k for k in range(1, 13)), "alpha": (0.5,)}
    verdicts = {("dense", 0): "cu", **{("zeta", k): "cu" for k in range(1, 13)}, ("alpha", 1): "uf"}
    write_run(tmp_path, verdicts, keep=keep, epochs=1).close()
    report.write(tmp_path)
    order = [(row["ladder"], int(row["round"])) for row in rows_of(tmp_path / "tables" / "rounds.csv")]
    assert order == [("dense", 0), *(("zeta", k) for k in range(1, 13)), ("alpha", 1)]


def test_nothing_to_report_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no results at .*name the folder of a run"):
        report.write(tmp_path / "nowhere")
    Records.open(RunLayout(tmp_path).records).close()
    with pytest.raises(InputError, match="are empty"):
        report.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_cannot_be_written_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    write_run(tmp_path, {("dense", 0): "c"}, keep={}).close()
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(InputError, match="cannot write the report into"):
        report.write(tmp_path)


def test_importing_the_report_loads_no_plotting() -> None:
    code = "import sys, certiprune.report; print({'matplotlib', 'jinja2', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_outcome_without_its_round_is_left_out(tmp_path: Path) -> None:
    with write_run(tmp_path, {("dense", 0): "cu"}, keep={}) as records:
        first: OutcomeRow = records.outcomes()[0]
        records.add(OutcomeRow(**{**first.__dict__, "ladder": "later", "round": 1}))
    report.write(tmp_path)
    assert {row["ladder"] for row in rows_of(tmp_path / "tables" / "outcomes.csv")} == {"dense"}
