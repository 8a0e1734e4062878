"""Some test images with their verdicts, as pictures that fit into the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from PIL import Image

from certiprune.report.summary import Round, Summary
from certiprune.store.rows import ExampleRow, OutcomeRow
from certiprune.verify.outcome import Verdict

# What a reader wants to see first: attacks that worked, proofs, and what stayed open.
_ORDER = (Verdict.FALSIFIED, Verdict.CERTIFIED, Verdict.UNKNOWN, Verdict.MISCLASSIFIED)


@dataclass(frozen=True)
class Card:
    """One image of the gallery; pictures are data URIs, and ``change`` is the counterexample's, amplified."""

    outcome: OutcomeRow
    label: str
    predicted: str
    picture: str
    adversarial: str | None
    change: str | None
    amplified: float | None


def cards(summary: Summary, r: Round, *, most: int = 8) -> list[Card]:
    """Up to ``most`` images of a round: the verdicts in turn, each one's in the order of the test set."""
    examples = {example.idx: example for example in r.examples}
    shown = [outcome for outcome in r.outcomes if outcome.idx in examples]
    kinds = [[outcome for outcome in shown if outcome.verdict == verdict] for verdict in _ORDER]
    mixed = [outcome for row in zip_longest(*kinds) for outcome in row if outcome is not None]
    picked = sorted(mixed[:most], key=lambda outcome: (_ORDER.index(outcome.verdict), outcome.idx))
    return [_card(summary, outcome, examples[outcome.idx]) for outcome in picked]


def _card(summary: Summary, outcome: OutcomeRow, example: ExampleRow) -> Card:
    adversarial = change = amplified = None
    if example.adversarial is not None and outcome.verdict == Verdict.FALSIFIED:
        difference = example.adversarial.astype(np.float64) - example.image
        largest = float(np.abs(difference).max(initial=0.0))
        amplified = 0.5 / largest if largest > 0 else 1.0
        adversarial = picture(example.adversarial)
        change = picture(0.5 + amplified * difference)
    return Card(
        outcome=outcome,
        label=summary.class_name(outcome.label),
        predicted=summary.class_name(outcome.predicted),
        picture=picture(example.image),
        adversarial=adversarial,
        change=change,
        amplified=amplified,
    )


def picture(image: np.ndarray) -> str:
    """A data URI of the PNG of ``image`` [c, h, w], its values clipped to [0, 1].

    Three channels are red, green and blue; of any other number the first is shown in grey.
    """
    pixels = (np.nan_to_num(image).clip(0.0, 1.0) * 255).round().astype(np.uint8)
    pixels = pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels[0]
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
