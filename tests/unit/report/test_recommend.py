"""The recommended network: chosen on validation images, never beaten, and none where the wish asks for too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_sample import KEEP, PRUNINGS, SEEDS, TRAININGS, validation, write_sweep

from certiprune.core.errors import InputError
from certiprune.report import recommend as module
from certiprune.report.recommend import Candidate, Recommendation, recommend
from certiprune.report.statistics import OverSeeds
from certiprune.report.sweep import Cell
from certiprune.report.sweep.summary import gather
from certiprune.report.wish import Size, Want, Wish
from certiprune.store.layout import RunLayout
from certiprune.store.records import Records
from certiprune.store.rows import StageRow
from certiprune.verify.outcome import Verdict


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """One training with the three methods of the sample and two seeds."""
    return write_sweep(tmp_path, trainings=("crown_ibp",))


def validate(cells: Sequence[Cell], proved: dict[str, int], images: int = 100, seconds: float = 2.0) -> None:
    """Records as if validation images had been verified: ``proved`` images of each network, by ladder/round."""
    for folder in (cell.folder for cell in cells):
        with Records.open(RunLayout(folder).records) as records:
            for row in records.rounds():
                sure = proved[f"{row.ladder}/{row.round}"]
                payload = {
                    "images": images,
                    "seconds": seconds,
                    "nodes": None,
                    "verdicts": {"certified": sure, "unknown": images - sure},
                    "spent": 10.0 * sure,
                }
                records.add(StageRow(f"{row.ladder}/{row.round}/validate", 1.0, payload))


def places(found: Recommendation) -> list[tuple[str, int]]:
    return [(c.method.name, c.number) for c in found.front]


def test_the_measure_of_training_counts_where_no_validation_image_was_verified(cells: list[Cell]) -> None:
    found = recommend(gather(cells), Wish(want=Want.CERTIFIED, certified_loss=None))
    assert (found.measure, found.on_test) == ("validation_certified_accuracy", True)
    # Round 2 is the best of every method, and imp+nrs is a hundredth better than the others.
    assert found.chosen is not None
    assert (found.chosen.method.name, found.chosen.number) == ("imp+nrs", 2)
    expected = validation("crown_ibp", "imp+nrs", 2)
    assert found.chosen.certified.values == (expected["validation_certified_accuracy"],) * 2
    assert found.chosen.standard.mean == pytest.approx(expected["validation_accuracy"])


def test_complete_verification_of_validation_images_goes_before(cells: list[Cell]) -> None:
    rounds = [f"{method}/{k}" for method in PRUNINGS for k in range(1, len(KEEP) + 1)]
    proved = {"dense/0": 50} | dict.fromkeys(rounds, 40) | {"imp/1": 60, "slim/3": 49}
    validate(cells, proved)
    found = recommend(gather(cells), Wish(certified_loss=0.01))
    assert (found.measure, found.on_test, found.verified) == ("validation_verified/100x2s", False, True)
    assert found.reference is not None
    assert found.reference.certified.mean == 0.5
    assert found.chosen is not None
    assert (found.chosen.method.name, found.chosen.number) == ("slim", 3)
    assert found.chosen.seconds.mean == pytest.approx(4.9)
    stricter = recommend(gather(cells), Wish(certified_loss=0.0))
    assert stricter.chosen is not None
    assert (stricter.chosen.method.name, stricter.chosen.number) == ("imp", 1)


def test_networks_asked_differently_are_not_compared_by_it(cells: list[Cell]) -> None:
    proved = {f"{m}/{k}": 40 for m in PRUNINGS for k in range(1, len(KEEP) + 1)} | {"dense/0": 50}
    validate(cells, proved)
    validate(cells[:1], proved, seconds=9.0)
    assert recommend(gather(cells), Wish()).measure == "validation_certified_accuracy"


def test_test_images_never_choose(cells: list[Cell]) -> None:
    """Whatever the verdicts on test images are, the same network is chosen."""
    validate(cells, {f"{m}/{k}": 30 + k for m in PRUNINGS for k in range(1, len(KEEP) + 1)} | {"dense/0": 30})
    before = recommend(gather(cells), Wish())
    for folder in (cell.folder for cell in cells):
        with Records.open(RunLayout(folder).records) as records:
            changed = [replace(row, verdict=Verdict.FALSIFIED, seconds=0.0) for row in records.outcomes()]
            records.add(*changed)
            records.add(*(replace(row, standard_accuracy=0.1, pgd_accuracy=0.1) for row in records.rounds()))
    after = recommend(gather(cells), Wish())
    assert before.chosen is not None and after.chosen is not None
    assert places(after) == places(before)
    assert after.chosen.name == before.chosen.name
    share = after.chosen.networks[0].certified
    assert share is not None and share.value == 0


def test_the_front_is_what_no_network_beats(cells: list[Cell]) -> None:
    found = recommend(gather(cells), Wish())
    assert len(found.candidates) == 2 + len(PRUNINGS) * len(KEEP)  # imp+nrs has a dense network of its own
    for candidate in found.candidates:
        better = [
            other
            for other in found.candidates
            if all(a >= b for a, b in zip(other.goods, candidate.goods, strict=True))
            and other.goods != candidate.goods
        ]
        assert (candidate in found.front) == (not better)
    assert found.chosen in found.front


numbers = st.integers(0, 3).map(float)


@given(
    st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=12),
    st.sampled_from(Want),
    st.integers(0, 12).map(lambda twelfths: twelfths / 12),
)
def test_the_chosen_one_is_best_of_those_good_enough_and_unbeaten(
    goods: list[tuple[float, float, float, float]], want: Want, loss: float
) -> None:
    candidates = [made(*four) for four in goods]
    reference = candidates[0]
    chosen = module._choose(candidates, reference, Wish(want=want, certified_loss=loss))
    assert chosen is not None  # the dense network itself is good enough
    enough = [c for c in candidates if c.certified.mean >= reference.certified.mean - loss - 1e-9]
    assert chosen in enough
    assert not any(other.beats(chosen) for other in candidates)
    value = {
        Want.SMALLEST: lambda c: -c.size.mean,
        Want.FASTEST: lambda c: -c.seconds.mean,
        Want.CERTIFIED: lambda c: c.certified.mean,
        Want.STANDARD: lambda c: c.standard.mean,
    }[want]
    assert value(chosen) == max(map(value, enough))


def made(certified: float, standard: float, size: float, seconds: float) -> Candidate:
    """A candidate with these four numbers and no networks."""
    values = (OverSeeds((x,)) for x in (certified / 3, standard / 3, size, seconds))
    return Candidate(None, 0, (), (), *values)  # type: ignore[arg-type]


def test_nothing_is_chosen_where_the_wish_asks_for_too_much(cells: list[Cell]) -> None:
    found = recommend(gather(cells), Wish(certified=0.99))
    assert found.chosen is None
    assert found.front and not found.tickets


def test_a_round_that_a_seed_lacks_is_no_candidate(cells: list[Cell]) -> None:
    folder = next(c.folder for c in cells if (c.pruning, c.seed) == ("imp", 1))
    with Records.open(RunLayout(folder).records) as records:
        last = next(
            row for row in records.epochs() if (row.ladder, row.round) == ("imp", 3) and row.epoch == 2
        )
        records.add(replace(last, metrics={"loss": 1.0}))
    found = recommend(gather(cells), Wish())
    assert ("imp", 3) not in [(c.method.name, c.number) for c in found.candidates]
    assert found.left_out == ("crown_ibp, imp 3: not trained with every seed",)


def test_trainings_with_other_measures_are_not_mixed(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path)
    with pytest.raises(InputError, match=r"no measure of robustness .*--images 100"):
        recommend(gather(cells), Wish())
    found = recommend(gather(cells), Wish(), training=TRAININGS[0])
    assert found.measure == "validation_robust_accuracy"
    assert {c.method.training for c in found.candidates} == {TRAININGS[0]}
    with pytest.raises(InputError, match="there is no training 'pgd'; there are fgsm, crown_ibp"):
        recommend(gather(cells), Wish(), training="pgd")


def test_the_claim_is_tested_on_test_images_of_each_seed(cells: list[Cell]) -> None:
    found = recommend(gather(cells), Wish(certified_loss=0.05))
    assert len(found.tickets) == len(SEEDS)
    assert all(ticket.claim.margin == 0.05 for ticket in found.tickets)
    assert not recommend(gather(cells), Wish(certified_loss=None, certified=0.1)).tickets


def test_sizes_are_what_the_wish_counts_and_unmeasured_ones_are_said(cells: list[Cell]) -> None:
    folder = next(c.folder for c in cells if (c.pruning, c.seed) == ("slim", 0))
    with Records.open(RunLayout(folder).records) as records:
        row = next(row for row in records.rounds() if (row.ladder, row.round) == ("slim", 1))
        records.add(replace(row, parameters=0, compact_parameters=0))
    sweep = gather(cells)
    assert not recommend(sweep, Wish()).left_out
    found = recommend(sweep, Wish(size=Size.COMPACT))
    assert found.left_out == ("crown_ibp, slim 1: its compacted size was not measured",)
    candidate = next(c for c in found.candidates if (c.method.name, c.number) == ("slim", 2))
    assert candidate.size.values == tuple(r.row.compact_parameters for r in candidate.networks)


@pytest.mark.parametrize("name", ["certified_loss", "standard_loss", "certified", "standard"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_fractions_lie_between_0_and_1(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name.replace("_", " ")):
        Wish(**{name: value})
