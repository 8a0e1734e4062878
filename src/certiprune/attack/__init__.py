"""Attacks: the search for a point of a box where an objective is not positive."""

from certiprune.attack.mode import evaluating, frozen_statistics
from certiprune.attack.objectives import Objective, label_margin, negative_cross_entropy, property_margin
from certiprune.attack.pgd import AttackResult, descend, fgsm, pgd

__all__ = [
    "AttackResult",
    "Objective",
    "descend",
    "evaluating",
    "fgsm",
    "frozen_statistics",
    "label_margin",
    "negative_cross_entropy",
    "pgd",
    "property_margin",
]
