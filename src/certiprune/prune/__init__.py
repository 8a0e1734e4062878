"""Pruning: score the weights or units, select by rank, apply the mask; rounds of it, and rewinding between them."""

from certiprune.prune.apply import prune
from certiprune.prune.calibration import Calibration
from certiprune.prune.groups import Group, Groups
from certiprune.prune.hold import hold, mask_of, release
from certiprune.prune.rank import Selection, rank_and_select, remaining
from certiprune.prune.rewind import rewind_, snapshot
from certiprune.prune.schedule import Ladder
from certiprune.prune.scores.base import AbstractScorer, Scores
from certiprune.prune.select import floored, select

__all__ = [
    "AbstractScorer",
    "Calibration",
    "Group",
    "Groups",
    "Ladder",
    "Scores",
    "Selection",
    "floored",
    "hold",
    "mask_of",
    "prune",
    "rank_and_select",
    "release",
    "remaining",
    "rewind_",
    "select",
    "snapshot",
]
