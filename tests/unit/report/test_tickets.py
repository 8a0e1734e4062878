"""Certified lottery tickets: what counts, by which count, and what Holm does to many."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from page_reader import PageReader
from sample import outcome_rows, round_row, write_run

from certiprune import report
from certiprune.core.errors import InputError
from certiprune.report.statistics import NonInferior, Paired
from certiprune.report.summary import Round
from certiprune.report.tickets import Claim, tickets

CLAIM = Claim(margin=0.02)


def network(letters: str, ladder: str = "imp", number: int = 1) -> Round:
    return Round(round_row(ladder, number, 0.5), len(letters), tuple(outcome_rows(ladder, number, letters)))


def test_an_equal_network_without_unknowns_is_a_ticket_by_both_counts() -> None:
    same = "c" * 150 + "f" * 40 + "m" * 10
    (found,) = tickets([(network(same, "dense", 0), network(same))], CLAIM)
    assert found.holds and found.holds_proved
    assert found.standard.pair == found.conservative.pair == found.proved.pair == Paired(200, 0, 0)


def test_undecided_images_of_the_dense_network_count_for_it() -> None:
    # Of the dense network 60 are proved and 100 undecided; pruning proves 90 more.
    dense = network("c" * 60 + "u" * 100 + "f" * 30 + "m" * 10, "dense", 0)
    pruned = network("c" * 150 + "u" * 10 + "f" * 30 + "m" * 10)
    (found,) = tickets([(dense, pruned)], CLAIM)
    assert (found.proved.pair.first_only, found.proved.pair.second_only) == (0, 90)
    assert (found.conservative.pair.first_only, found.conservative.pair.second_only) == (10, 0)
    assert found.holds_proved and not found.holds


def test_both_parts_have_to_hold() -> None:
    # More certified, but 20 images misclassified that the dense network gets right.
    dense = network("c" * 100 + "f" * 100, "dense", 0)
    pruned = network("c" * 180 + "m" * 20)
    (found,) = tickets([(dense, pruned)], CLAIM)
    assert found.conservative.p_value < 1e-6
    assert found.p_value == found.standard.p_value > 0.5
    assert not found.holds and not found.holds_proved


def test_many_networks_make_each_claim_harder() -> None:
    same = "c" * 150 + "m" * 10
    alone = tickets([(network(same, "dense", 0), network(same))], CLAIM)
    many = tickets([(network(same, "dense", 0), network(same, number=k)) for k in range(1, 6)], CLAIM)
    p = NonInferior(Paired(160, 0, 0), 0.02).p_value
    assert alone[0].adjusted == pytest.approx(p) and alone[0].holds
    assert [t.adjusted for t in many] == pytest.approx([5 * p] * 5)
    assert not any(t.holds for t in many)


def test_a_network_that_is_not_done_is_not_tested() -> None:
    dense, half = (
        network("cc", "dense", 0),
        Round(round_row("imp", 1, 0.5), 2, tuple(outcome_rows("imp", 1, "c"))),
    )
    assert tickets([(dense, half)], CLAIM) == []


def test_a_run_tells_of_its_tickets(tmp_path: Path) -> None:
    same = "c" * 300
    write_run(tmp_path, {("dense", 0): same, ("imp", 1): same}, keep={"imp": (0.5,)}, epochs=1).close()
    page = PageReader(report.write(tmp_path).read_text(encoding="utf-8"))
    (table,) = (rows for name, rows in page.tables.items() if name.startswith("tickets"))
    assert table[1][:4] == ["imp 1", "50 %", "300", "0 at least −0.9"]
    assert table[1][-1] == "ticket"
    with (tmp_path / "tables" / "tickets.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["margin"], row["confidence"], row["ticket"], row["ticket_proved"]) == (
        "0.02",
        "0.95",
        "1",
        "1",
    )
    assert float(row["p_value"]) == NonInferior(Paired(300, 0, 0), 0.02).p_value


@pytest.mark.parametrize(("margin", "confidence"), [(0, 0.95), (1.5, 0.95), (0.02, 95), (0.02, 0.1)])
def test_a_claim_out_of_range_is_refused(margin: float, confidence: float) -> None:
    with pytest.raises(InputError, match="must be"):
        Claim(margin, confidence)
