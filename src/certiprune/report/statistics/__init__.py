"""How far numbers from a few hundred images and a few seeds can carry a claim; ``docs/statistics.md`` in words."""

from certiprune.report.statistics.anytime import AnyTime, anytime
from certiprune.report.statistics.estimate import Estimate
from certiprune.report.statistics.multiple import holm
from certiprune.report.statistics.noninferior import NonInferior
from certiprune.report.statistics.paired import Paired, paired
from certiprune.report.statistics.proportion import CONFIDENCE, Proportion, Z
from certiprune.report.statistics.seeds import OverSeeds

__all__ = [
    "CONFIDENCE",
    "AnyTime",
    "Estimate",
    "NonInferior",
    "OverSeeds",
    "Paired",
    "Proportion",
    "Z",
    "anytime",
    "holm",
    "paired",
]
