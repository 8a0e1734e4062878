"""Bounds on what a network can compute over a box: one engine for training, pruning scores and verification."""

from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.bounds.interval import interval
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import Lines, lines
from certiprune.bounds.value import dual_value

__all__ = ["Engine", "Lines", "PreActivation", "dual_value", "interval", "lines", "preactivations"]
