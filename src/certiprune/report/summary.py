"""What a run found, as values: the only file of the report that reads records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from certiprune.core.errors import InputError
from certiprune.report.statistics import Proportion
from certiprune.store.layout import DENSE
from certiprune.store.records import Records
from certiprune.store.rows import EpochRow, ExampleRow, LayerRow, OutcomeRow, RoundRow, StageRow
from certiprune.verify.outcome import Verdict

VERIFIED, SPENT = "validation_verified/", "validation_seconds/"
"""How metrics of verified validation images begin; they end with how many images had how long, such as ``100x2s``,
so that two networks have a metric of the same name only where they were asked the same."""

R = TypeVar("R", EpochRow, ExampleRow, LayerRow, OutcomeRow)


@dataclass(frozen=True, eq=False)
class Round:
    """One network: its size and accuracy on the test split, and what the verifier has answered so far.

    Easy images are answered first, so the answers to some of the images say nothing about all of them: shares
    of certified images are None until the round is complete.

    Attributes:
        expected: how many images the experiment verifies.
        validation: the metrics of the epoch whose weights were kept, measured on the validation split; empty while the
            network is in training. With ``VERIFIED`` and ``SPENT`` and the same ending, where validation images were
            verified completely: the share that is proved, and the mean seconds of an image.
        widths: ReLU layer -> ``train.statistics.QUANTILES`` of its neurons' interval widths; empty where they were not
            recorded.
        certificates: how many of the certified images have a certificate that the independent checker accepted; None
            where they were not looked for.
    """

    row: RoundRow
    expected: int
    outcomes: tuple[OutcomeRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    examples: tuple[ExampleRow, ...] = ()
    validation: Mapping[str, float] = field(default_factory=dict)
    widths: Mapping[str, Sequence[float]] = field(default_factory=dict)
    certificates: int | None = None

    @property
    def ladder(self) -> str:
        return self.row.ladder

    @property
    def number(self) -> int:
        return self.row.round

    @property
    def name(self) -> str:
        return name_of(self.ladder, self.number)

    @property
    def remaining(self) -> float:
        """The fraction of the prunable weights, or channels, that is kept."""
        return self.row.kept / self.row.total if self.row.total else 1.0

    @property
    def sized(self) -> bool:
        """Whether the network's size before and after compaction was measured."""
        return self.row.parameters > 0

    @property
    def complete(self) -> bool:
        """Whether every image of the experiment has its answer."""
        return 0 < self.expected <= len(self.outcomes)

    @property
    def standard(self) -> Proportion | None:
        """Accuracy on the test split; None where it was not measured."""
        return _proportion(self.row.standard_accuracy, self.row.test_images)

    @property
    def pgd(self) -> Proportion | None:
        """Accuracy under the PGD attack on the test split; None where it was not measured."""
        return _proportion(self.row.pgd_accuracy, self.row.test_images)

    @property
    def ibp(self) -> Proportion | None:
        """The test images that interval bounds certify (a statistic); None where that was not measured."""
        return _proportion(self.row.ibp_accuracy, self.row.test_images)

    @property
    def crown(self) -> Proportion | None:
        """The test images that CROWN-IBP certifies (a statistic); None where that was not measured."""
        return _proportion(self.row.crown_accuracy, self.row.test_images)

    @property
    def certified(self) -> Proportion | None:
        """The lower side of certified accuracy: the verified images that are proved."""
        return self._share(Verdict.CERTIFIED)

    @property
    def upper(self) -> Proportion | None:
        """The upper side: the verified images that are neither misclassified nor falsified."""
        return self._share(Verdict.CERTIFIED, Verdict.UNKNOWN)

    @property
    def unstable(self) -> float | None:
        """Unstable neurons, mean per image; None where they were not measured."""
        return None if math.isnan(self.row.unstable) else self.row.unstable

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Seconds of verification: in total, and the median of an image."""
        times = [outcome.seconds for outcome in self.outcomes]
        return (math.fsum(times), median(times)) if times else None

    @property
    def seconds_an_image(self) -> float | None:
        """Seconds of verification, mean of an image; None until every image has its answer."""
        return self.seconds[0] / len(self.outcomes) if self.complete and self.seconds else None

    @property
    def nodes(self) -> tuple[int, float] | None:
        """Subproblems of branch and bound: in total, and the median of an image."""
        nodes = [outcome.nodes for outcome in self.outcomes]
        return (sum(nodes), median(nodes)) if nodes else None

    def count(self, verdict: str) -> int:
        return sum(outcome.verdict == verdict for outcome in self.outcomes)

    @property
    def proved(self) -> dict[int, bool]:
        """Image number -> whether it is certified, for paired tests."""
        return {outcome.idx: outcome.verdict == Verdict.CERTIFIED for outcome in self.outcomes}

    @property
    def possible(self) -> dict[int, bool]:
        """Image number -> whether it counts for the upper side: neither misclassified nor falsified."""
        sides = (Verdict.CERTIFIED, Verdict.UNKNOWN)
        return {outcome.idx: outcome.verdict in sides for outcome in self.outcomes}

    @property
    def correct(self) -> dict[int, bool]:
        """Image number -> whether it is classified correctly."""
        return {outcome.idx: outcome.predicted == outcome.label for outcome in self.outcomes}

    def _share(self, *verdicts: Verdict) -> Proportion | None:
        if not self.complete:
            return None
        return Proportion(sum(map(self.count, verdicts)), len(self.outcomes))


@dataclass(frozen=True, eq=False)
class Summary:
    """A run: its setting, its rounds in the experiment's order (the dense network first), its training."""

    meta: Mapping[str, Any]
    rounds: tuple[Round, ...]
    epochs: tuple[EpochRow, ...]

    @property
    def dense(self) -> Round | None:
        return next((r for r in self.rounds if r.ladder == DENSE), None)

    @property
    def ladders(self) -> dict[str, tuple[Round, ...]]:
        """Ladder -> its rounds, the dense network first; ``dense`` alone where nothing was pruned."""
        start = tuple(r for r in self.rounds if r.ladder == DENSE)
        names = dict.fromkeys(r.ladder for r in self.rounds if r.ladder != DENSE)
        found = {name: start + tuple(r for r in self.rounds if r.ladder == name) for name in names}
        return found or {DENSE: start}

    @property
    def dataset(self) -> str:
        return str(self.meta.get("dataset") or dig(self.meta, "config", "data", "name") or "unknown data")

    @property
    def model(self) -> str:
        return str(dig(self.meta, "config", "model", "name") or "unknown model")

    @property
    def eps(self) -> float | None:
        """The radius that was verified, in input units."""
        value = dig(self.meta, "config", "verify", "eps")
        return float(value) if isinstance(value, int | float) else None

    @property
    def limit(self) -> float | None:
        """The time limit of verification in seconds an image."""
        value = dig(self.meta, "config", "verify", "seconds")
        return float(value) if isinstance(value, int | float) else None

    def class_name(self, label: int) -> str:
        """The name of class ``label``, or its number where the run has no names."""
        names = self.meta.get("class_names") or ()
        return str(names[label]) if 0 <= label < len(names) else str(label)


def read(path: Path) -> Summary:
    """Everything in the results file at ``path``.

    Raises:
        InputError: the file is missing or cannot be read, or the run has neither rounds nor epochs yet.
    """
    with Records.open(path, read_only=True) as records:
        meta, rows, epochs = records.meta(), records.rounds(), records.epochs()
        outcomes, layers = _grouped(records.outcomes()), _grouped(records.layers())
        examples, stages = _grouped(records.examples()), records.stages()
    if not rows and not epochs:
        raise InputError(
            f"the results at {path} are empty: there is nothing to report before the first epoch"
        )
    planned = [DENSE, *(str(dig(ladder, "name")) for ladder in dig(meta, "config", "ladders") or ())]
    place = {name: number for number, name in enumerate(planned)}
    rows = sorted(rows, key=lambda row: (place.get(row.ladder, len(place)), row.ladder, row.round))
    epochs = sorted(
        epochs, key=lambda row: (place.get(row.ladder, len(place)), row.ladder, row.round, row.epoch)
    )
    most = max((len(answers) for answers in outcomes.values()), default=0)
    kept, payloads = _kept(stages, epochs), {stage.name: stage.payload for stage in stages}
    done, validated = any(stage.name.endswith("/verify") for stage in stages), _validated(stages)
    rounds = []
    for row in rows:
        # Every network of a run is verified on the same images: once one is done, their number is known.
        key, expected = (row.ladder, row.round), most if done else max(most, _asked(meta, row))
        found = (outcomes.get(key, ()), layers.get(key, ()), examples.get(key, ()))
        widths = payloads.get(f"{row.ladder}/{row.round}/evaluate", {}).get("widths", {})
        metrics = {**kept.get(key, {}), **validated.get(key, {})}
        written = payloads.get(f"{row.ladder}/{row.round}/certify", {}).get("certificates")
        rounds.append(Round(row, expected, *found, metrics, widths, written))
    return Summary(meta, tuple(rounds), tuple(epochs))


def name_of(ladder: str, number: int) -> str:
    """How the report calls a round: ``dense``, or such as ``magnitude 2``."""
    return DENSE if ladder == DENSE else f"{ladder} {number}"


def dig(tree: Any, *path: str) -> Any:
    """The value at ``path`` of nested mappings, or None where a step is missing."""
    for step in path:
        if not isinstance(tree, Mapping) or step not in tree:
            return None
        tree = tree[step]
    return tree


def _grouped(rows: Iterable[R]) -> dict[tuple[str, int], tuple[R, ...]]:
    """The rows of each round, in their order."""
    found: dict[tuple[str, int], list[R]] = {}
    for row in rows:
        found.setdefault((row.ladder, row.round), []).append(row)
    return {key: tuple(group) for key, group in found.items()}


def _kept(
    stages: Iterable[StageRow], epochs: Iterable[EpochRow]
) -> dict[tuple[str, int], Mapping[str, float]]:
    """Each trained network's metrics of the epoch whose weights were kept, as its stage of training notes it."""
    chosen = {stage.name: stage.payload.get("chosen_epoch") for stage in stages}
    return {
        (epoch.ladder, epoch.round): epoch.metrics
        for epoch in epochs
        if chosen.get(f"{epoch.ladder}/{epoch.round}/train") == epoch.epoch
    }


def _validated(stages: Iterable[StageRow]) -> dict[tuple[str, int], Mapping[str, float]]:
    """What stages of complete verification on the validation split have found."""
    found: dict[tuple[str, int], Mapping[str, float]] = {}
    for stage in stages:
        ladder, _, rest = stage.name.partition("/")
        number, _, step = rest.partition("/")
        if step != "validate":
            continue
        images, seconds, nodes = (stage.payload[key] for key in ("images", "seconds", "nodes"))
        asked = f"{images}x{seconds:g}s" + (f"x{nodes}" if nodes is not None else "")
        proved = stage.payload["verdicts"].get(str(Verdict.CERTIFIED), 0)
        found[ladder, int(number)] = {
            VERIFIED + asked: proved / images,
            SPENT + asked: stage.payload["spent"] / images,
        }
    return found


def _asked(meta: Mapping[str, Any], row: RoundRow) -> int:
    """How many images the experiment verifies, and never more than the test split has where that is known."""
    asked, evaluated = dig(meta, "config", "verify", "images"), dig(meta, "config", "evaluate", "images")
    if not isinstance(asked, int):
        return 0
    # Accuracy that is measured on fewer images than there are says nothing of how many there are.
    whole = evaluated is None or row.test_images < evaluated
    return min(asked, row.test_images) if whole else asked


def _proportion(accuracy: float, images: int) -> Proportion | None:
    if math.isnan(accuracy) or images <= 0:
        return None
    return Proportion(round(accuracy * images), images)
