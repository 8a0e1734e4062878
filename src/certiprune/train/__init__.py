"""Training: losses, schedules, the loop, and measuring accuracy."""

from certiprune.train.callbacks import Callback, Capture
from certiprune.train.choose import Measure
from certiprune.train.errors import TrainingError
from certiprune.train.evaluate import accuracy, pgd_accuracy
from certiprune.train.loop import train
from certiprune.train.plan import Plan
from certiprune.train.state import Best, EpochRecord, TrainState, load_state, save_state
from certiprune.train.statistics import Statistics

__all__ = [
    "Best",
    "Callback",
    "Capture",
    "EpochRecord",
    "Measure",
    "Plan",
    "Statistics",
    "TrainState",
    "TrainingError",
    "accuracy",
    "load_state",
    "pgd_accuracy",
    "save_state",
    "train",
]
