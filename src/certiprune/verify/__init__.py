"""Complete verification: what is asked, how it is answered, and what an answer says."""

from certiprune.verify.api import Progress, relu_names, unstable_counts, verify
from certiprune.verify.cascade import decide
from certiprune.verify.effort import Cascade
from certiprune.verify.outcome import Outcome, Reason, Stage, Verdict
from certiprune.verify.problem import Budget, Problem

__all__ = [
    "Budget",
    "Cascade",
    "Outcome",
    "Problem",
    "Progress",
    "Reason",
    "Stage",
    "Verdict",
    "decide",
    "relu_names",
    "unstable_counts",
    "verify",
]
