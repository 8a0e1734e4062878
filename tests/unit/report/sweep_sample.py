"""A made-up sweep whose numbers follow from a few rules, so that tests can count them by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sample import write_run

from certiprune.report.sweep import Cell
from certiprune.store.rows import StageRow

TRAININGS = ("fgsm", "crown_ibp")
PRUNINGS = {"imp": "magnitude", "imp+nrs": "magnitude", "slim": "slim"}
SEEDS = (0, 1)
KEEP = (0.5, 0.25, 0.125)
IMAGES = 200
CHOSEN = 2
"""The round with the best validation measure, of every method; on the test images round 3 has more certified."""


def certified(pruning: str, seed: int, number: int) -> int:
    """How many of the 200 images are certified: 40 when dense, 30 more a round with seed 0, 28 with seed 1."""
    gain = {"imp": 30, "imp+nrs": 34, "slim": 10}[pruning] - 2 * seed
    return 40 + gain * number


def letters(pruning: str, seed: int, number: int) -> str:
    """The verdicts of one network: 16 misclassified, 24 falsified, the rest certified or, from the back, unknown.

    So every network has standard accuracy 92 % on these images and upper side 80 %.
    """
    sure = certified(pruning, seed, number)
    return "m" * 16 + "f" * 24 + "c" * sure + "u" * (IMAGES - 40 - sure)


def validation(training: str, pruning: str, number: int) -> dict[str, float]:
    """The metrics of the kept epoch."""
    best = 0.6 - 0.05 * abs(number - CHOSEN) + (0.01 if pruning == "imp+nrs" else 0.0)
    name = "validation_certified_accuracy" if training == "crown_ibp" else "validation_robust_accuracy"
    return {name: best, "validation_accuracy": 0.9 - 0.01 * number, "loss": 1.0, "accuracy": 0.9}


def write_sweep(
    folder: Path,
    trainings: tuple[str, ...] = TRAININGS,
    prunings: tuple[str, ...] = tuple(PRUNINGS),
    seeds: tuple[int, ...] = SEEDS,
    keep: tuple[float, ...] = KEEP,
) -> list[Cell]:
    """The folders of all cells with their records."""
    cells: list[Cell] = []
    for training in trainings:
        for pruning in prunings:
            for seed in seeds:
                place = folder / "cells" / training / pruning / f"seed-{seed}"
                write_cell(place, training, pruning, seed, keep)
                cells.append(Cell(training, pruning, seed, place))
    return cells


def write_cell(folder: Path, training: str, pruning: str, seed: int, keep: tuple[float, ...] = KEEP) -> None:
    """One run: the dense network and the ladder of one method, two epochs each, of which the second is kept."""
    verdicts = {("dense", 0): letters("imp", 0, 0)}
    verdicts |= {(pruning, k + 1): letters(pruning, seed, k + 1) for k in range(len(keep))}
    with write_run(folder, verdicts, keep={pruning: keep}, epochs=2, examples=False) as records:
        config = records.meta()["config"]
        penalty = [{"name": "nrs", "weight": 0.01}] if pruning == "imp+nrs" else []
        config["train"] = {"loss": {"name": training}, "penalties": penalty}
        config["ladders"] = [{"name": pruning, "method": PRUNINGS[pruning], "keep": list(keep)}]
        config["seed"] = seed
        records.put_meta({"config": config})
        kept = [row for row in records.epochs() if row.epoch == 2]
        metrics = [{**row.metrics, **validation(training, pruning, row.round)} for row in kept]
        records.add(*(replace(row, metrics=m) for row, m in zip(kept, metrics, strict=True)))
        records.add(
            *(
                StageRow(f"{ladder}/{k}/train", 1.0, {"chosen_epoch": 2, "epochs": 2})
                for ladder, k in verdicts
            )
        )
        relus = [layer for layer in records.layers() if layer.kind == "relu"]
        widths = [0.5 / (layer.round + layer.position + 1) for layer in relus]
        records.add(
            *(
                replace(layer, product=0.5, rs=-0.2 * layer.round, nrs=-0.1 * layer.round, width=w)
                for layer, w in zip(relus, widths, strict=True)
            )
        )
