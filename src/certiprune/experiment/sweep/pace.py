"""How long stages take, by those that are finished."""

from __future__ import annotations

from collections import defaultdict

from certiprune.experiment.config import Experiment
from certiprune.experiment.pipeline import Stage


class Pace:
    """Mean seconds of stages: of the same loss, or for pruning the same method, where there are any, else of all."""

    def __init__(self) -> None:
        self._seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def took(self, experiment: Experiment, stage: Stage, seconds: float) -> None:
        """A stage has taken ``seconds``."""
        for key in _keys(experiment, stage):
            self._seconds[key].append(seconds)

    def expected(self, experiment: Experiment, stage: Stage) -> float | None:
        """The seconds that ``stage`` will take; None where no stage like it has finished.

        Pruning that nobody has seen yet is taken for quick, as it is next to training.
        """
        for key in _keys(experiment, stage):
            if known := self._seconds.get(key):
                return sum(known) / len(known)
        return 0.0 if stage.step in ("prune", "initial") else None


def _keys(experiment: Experiment, stage: Stage) -> tuple[tuple[str, str], ...]:
    """From the most particular to the most general."""
    alike = stage.work.method if stage.step == "prune" else experiment.train.loss.name
    return (stage.step, alike), (stage.step, "")
