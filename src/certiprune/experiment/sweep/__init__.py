"""Many experiments as one job: a grid of trainings, prunings and seeds that share their dense networks."""

from certiprune.experiment.sweep.config import Sweep, load, parse
from certiprune.experiment.sweep.plan import Cell, Planned, Task, cells, grid, tasks

__all__ = ["Cell", "Planned", "Sweep", "Task", "cells", "grid", "load", "parse", "tasks"]
