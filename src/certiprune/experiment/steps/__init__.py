"""The steps of a round, a file each; ``run(session, work)`` can be repeated until its result is committed."""

from certiprune.experiment.steps.work import Result, Work

__all__ = ["Result", "Work"]
