"""Every path of a run and of a sweep; nothing else in the library builds one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from certiprune.core.errors import InputError

DENSE = "dense"
"""The ladder of the unpruned network, with the one round 0; the others go on from it with round 1."""


@dataclass(frozen=True)
class RoundLayout:
    """The checkpoints of one round of one ladder.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    @property
    def initial(self) -> Path:
        """The weights before any training."""
        return self.folder / "initial.safetensors"

    def early(self, epoch: int) -> Path:
        """The weights after ``epoch`` epochs, which later rounds can go back to."""
        return self.folder / f"early-{epoch}.safetensors"

    @property
    def training(self) -> Path:
        """The state of training after its last finished epoch, to resume from."""
        return self.folder / "training.safetensors"

    @property
    def model(self) -> Path:
        """The trained model with its mask."""
        return self.folder / "model.safetensors"


@dataclass(frozen=True)
class RunLayout:
    """The folder of one run.

    Attributes:
        root: the folder; it need not exist.
    """

    root: Path

    @property
    def experiment(self) -> Path:
        """The resolved experiment file."""
        return self.root / "experiment.yaml"

    @property
    def records(self) -> Path:
        """The results: see ``store.records``."""
        return self.root / "results.sqlite"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def tables(self) -> Path:
        """The folder of CSV files."""
        return self.root / "tables"

    @property
    def figures(self) -> Path:
        """The folder of figures as files, if they are written."""
        return self.root / "figures"

    @property
    def tensorboard(self) -> Path:
        """The folder of what is written for TensorBoard, if it is."""
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def certificates(self) -> Path:
        """The folder of certificates, if they are written."""
        return self.root / "certificates"

    def certified(self, ladder: str, number: int) -> Path:
        """The folder of the certificates of round ``number`` of ``ladder``, and of the ONNX file they are about."""
        return self.certificates / self.round(ladder, number).folder.relative_to(self.checkpoints)

    @property
    def lock(self) -> Path:
        """The file that the process working in the folder has locked."""
        return self.root / ".lock"

    def round(self, ladder: str, number: int) -> RoundLayout:
        """The checkpoints of round ``number`` of ``ladder``.

        Raises:
            InputError: the ladder's name cannot be a folder's name on every system, or the round is negative.
        """
        if not re.fullmatch(r"\w[\w+.-]*", ladder, re.ASCII):
            raise InputError(f"the ladder name {ladder!r} must be made of letters, digits and . _ + -")
        if number < 0:
            raise InputError(f"round {number} of {ladder} is negative; rounds are counted from 0")
        return RoundLayout(self.checkpoints / ladder / str(number))


@dataclass(frozen=True)
class SweepLayout:
    """The folder of a sweep, which holds the folders of many runs.

    Attributes:
        root: the folder; it need not exist.
    """

    root: Path

    @property
    def sweep(self) -> Path:
        """The resolved sweep file."""
        return self.root / "sweep.yaml"

    @property
    def lock(self) -> Path:
        """The file that the process running the sweep has locked; each run has its own."""
        return self.root / ".lock"

    @property
    def cells(self) -> Path:
        """The folder of the cells' runs."""
        return self.root / "cells"

    @property
    def dense(self) -> Path:
        """The folder of the runs that train dense networks for the cells."""
        return self.root / "dense"

    @property
    def slurm(self) -> Path:
        """The folder of what jobs of Slurm leave: scripts, pickles and logs."""
        return self.root / "slurm"

    def cell(self, training: str, pruning: str, seed: int) -> Path:
        """The run folder of a cell; a preset's name such as ``mnist-0.3/ibp`` becomes ``mnist-0.3~ibp``."""
        return self.cells / _folder(training) / _folder(pruning) / f"seed-{seed}"

    def dense_run(self, digest: str) -> Path:
        """The run folder of the dense network whose experiment has this digest."""
        return self.dense / digest[:12]


def _folder(name: str) -> str:
    return name.replace("/", "~")
