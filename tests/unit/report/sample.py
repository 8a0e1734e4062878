"""A made-up run: a dense network and two ladders, whose numbers are simple enough to count by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from certiprune.store.layout import RunLayout
from certiprune.store.records import Records
from certiprune.store.rows import EpochRow, ExampleRow, LayerRow, OutcomeRow, RoundRow
from certiprune.verify.outcome import Reason, Stage, Verdict

CLASSES = ["zero", "one", "two", "three"]
KEEP = {"magnitude": (0.5, 0.25), "random": (0.5,)}
# Letters of the verdicts, image by image: certified, unknown, falsified, misclassified.
VERDICTS = {
    ("dense", 0): "ccuuuuuuuuuuuffffmcc",
    ("magnitude", 1): "cccccccccuuuuffffmcm",
    ("magnitude", 2): "cccccccccccccfffcmcc",
    ("random", 1): "ccuuuuuuuufffffmmmcc",
}
_LETTERS = {verdict.value[0]: verdict for verdict in Verdict}
_STAGES = {
    Verdict.CERTIFIED: (Stage.CROWN, Stage.ALPHA, Stage.BRANCHING),
    Verdict.UNKNOWN: (Stage.BRANCHING,),
    Verdict.FALSIFIED: (Stage.ATTACK,),
    Verdict.MISCLASSIFIED: (Stage.CLEAN,),
}


def config(ladders: dict[str, tuple[float, ...]], images: int = 20) -> dict[str, object]:
    """The part of a resolved experiment that the report reads."""
    return {
        "seed": 0,
        "data": {"name": "digits"},
        "model": {"name": "cnn_small", "width": 1.0},
        "ladders": [{"name": name, "method": name, "keep": list(keep)} for name, keep in ladders.items()],
        "verify": {"eps": 0.1, "images": images, "seconds": 5.0},
    }


def write_run(
    folder: Path,
    verdicts: dict[tuple[str, int], str] | None = None,
    *,
    keep: dict[str, tuple[float, ...]] | None = None,
    names: list[str] | None = None,
    channels: int = 1,
    epochs: int = 3,
    examples: bool = True,
) -> Records:
    """Records of a run with the given verdicts, with images unless not ``examples``; the caller closes them."""
    verdicts, keep = verdicts or VERDICTS, keep or KEEP
    folder.mkdir(parents=True, exist_ok=True)
    records = Records.open(RunLayout(folder).records)
    images = max(map(len, verdicts.values()))
    records.put_meta(
        {
            "digest": "0123abcd",
            "config": config(keep, images),
            "environment": {"python": "3.11", "torch": "2.13", "threads": 2},
            "class_names": names or CLASSES,
            "dataset": "digits",
        }
    )
    for number, ((ladder, index), letters) in enumerate(verdicts.items()):
        left = 1.0 if ladder == "dense" else keep[ladder][index - 1]
        rows = [round_row(ladder, index, left), *layer_rows(ladder, index, left)]
        rows += outcome_rows(ladder, index, letters)
        rows += example_rows(ladder, index, letters, channels, seed=number) if examples else []
        records.add(*rows, *epoch_rows(ladder, index, epochs))
    return records


def round_row(ladder: str, index: int, left: float) -> RoundRow:
    """A network of 1000 prunable and 1200 weights, tested on 100 images."""
    return RoundRow(
        ladder=ladder,
        round=index,
        method="none" if ladder == "dense" else ladder,
        kept=round(1000 * left),
        total=1000,
        kept_all=round(1000 * left) + 200,
        total_all=1200,
        standard_accuracy=0.95 - 0.1 * (1 - left),
        pgd_accuracy=0.8,
        test_images=100,
        unstable=40.5 * left,
        relus=150,
        parameters=1180,
        multiply_adds=5000,
        file_bytes=8192,
        compact_parameters=round(1180 * left),
        compact_multiply_adds=round(5000 * left),
        compact_file_bytes=round(8192 * left),
        compact_relus=round(150 * left),
    )


def layer_rows(ladder: str, index: int, left: float) -> list[LayerRow]:
    weights = [
        LayerRow(ladder, index, "weights", 0, "features.0.weight", 200 * min(1.0, 1.3 * left), 200),
        LayerRow(ladder, index, "weights", 1, "features.3.weight", 800 * left, 800),
    ]
    relus = [
        LayerRow(ladder, index, "relu", 0, "relu1", 30.5 * left, 100),
        LayerRow(ladder, index, "relu", 1, "relu2", 10.0 * left, 50),
    ]
    return weights + relus


def outcome_rows(ladder: str, index: int, letters: str) -> list[OutcomeRow]:
    """One outcome a letter; image ``i`` has label ``i % 4`` and takes ``i`` nodes and ``i / 10`` seconds."""
    rows = []
    for image, letter in enumerate(letters):
        verdict = _LETTERS[letter]
        stages = _STAGES[verdict]
        wrong = verdict in (Verdict.MISCLASSIFIED,)
        rows.append(
            OutcomeRow(
                ladder=ladder,
                round=index,
                idx=image,
                label=image % 4,
                predicted=(image + wrong) % 4,
                verdict=verdict,
                reason=Reason.TIME if verdict is Verdict.UNKNOWN else Reason.NONE,
                stage=stages[image % len(stages)],
                lower={"c": 0.25, "u": -0.125}.get(letter, -math.inf),
                nodes=image,
                seconds=image / 10,
            )
        )
    return rows


def example_rows(ladder: str, index: int, letters: str, channels: int, seed: int) -> list[ExampleRow]:
    draw = np.random.default_rng(seed)
    rows = []
    for image, letter in enumerate(letters):
        pixels = draw.random((channels, 8, 8)).astype(np.float32)
        change = draw.uniform(-0.1, 0.1, pixels.shape).astype(np.float32)
        adversarial = (pixels + change).clip(0, 1) if letter == "f" else None
        rows.append(ExampleRow(ladder, index, image, pixels, adversarial))
    return rows


BOUNDED = {"ibp_accuracy": 0.4, "crown_accuracy": 0.55}
"""What ``RoundRow`` has besides where bounds were measured."""


def bound_metrics(epoch: int) -> dict[str, float]:
    """What an epoch's metrics have besides where bounds were measured; the attack and CROWN every second epoch."""
    share = epoch / 10
    found = {"eps": 0.05 * epoch, "learning_rate": 0.1 / epoch, "adversarial": 1.0 / epoch, "rs": -share}
    found |= {"statistics/clean": 0.9, "statistics/ibp": share, "certified_accuracy": share}
    if epoch % 2 == 0:
        found |= {"statistics/pgd": 0.6, "statistics/crown": 0.5}
    for layer in ("relu1", "relu2"):
        found |= {f"unstable/{layer}": 1 - share, f"rs/{layer}": -share, f"width/{layer}": 2.0**epoch}
    return found | {"nrs/relu1": -share / 2, "width_before/relu1": 3.0**epoch}


def epoch_rows(ladder: str, index: int, epochs: int) -> list[EpochRow]:
    return [
        EpochRow(
            ladder,
            index,
            epoch,
            1.5,
            {"loss": 2.0 / (epoch + 1), "accuracy": 1 - 0.5 / (epoch + 1), "validation_accuracy": 0.875},
        )
        for epoch in range(1, epochs + 1)
    ]
