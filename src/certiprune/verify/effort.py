"""How hard each stage of the cascade tries."""

from __future__ import annotations

from dataclasses import dataclass, field

from certiprune.bounds.optimise import Rates
from certiprune.verify.bab import Settings
from certiprune.verify.input_split import InputSettings


@dataclass(frozen=True)
class Cascade:
    """How hard each stage tries; nothing here can make an answer wrong.

    Attributes:
        group: questions that travel together.
        attack_steps, attack_restarts: of the attack before alpha-CROWN.
        alpha_steps: slope iterations for each open clause at the root.
        tighten_steps: slope iterations for each end of a neuron's range that the clauses still open after that need
            most (``root.py``).
        tighten_walks: what this may cost for each question, in walks of a form through the whole network.
        search: branch and bound.
        inputs: when to split inputs instead of ReLUs, and how.
    """

    group: int = 16
    attack_steps: int = 20
    attack_restarts: int = 2
    tighten_steps: int = 10
    tighten_walks: int = 1500
    alpha_steps: int = 20
    rates: Rates = field(default_factory=lambda: Rates(alpha=0.25, momentum=0.7))
    search: Settings = field(default_factory=Settings)
    inputs: InputSettings = field(default_factory=InputSettings)
