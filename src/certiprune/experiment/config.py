"""What an experiment file may say: one frozen model per section, every default written out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from certiprune.core.errors import CertipruneError
from certiprune.experiment.ladder import Ladder
from certiprune.experiment.settings import (
    Count,
    Epsilon,
    Number,
    Options,
    Positive,
    Section,
    Size,
    increasing,
    number,
)
from certiprune.train import Plan

SCHEMA: Final = 1
"""Raised whenever the same file would give other results: old run folders are not continued by new code."""


class Data(Section):
    """Which images; the splits depend on ``name``, the experiment's ``seed`` and ``validation`` only."""

    name: str = "digits"
    validation: Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)] = 0.1
    train_limit: Count | None = None
    test_limit: Count | None = None
    crop_padding: Size = 0
    flip: bool = False


class Model(Section):
    """Which network of the zoo; ``width`` scales its channels, ``initial`` draws its weights (``zoo.initial``)."""

    name: str = "cnn_small"
    width: Positive = 1.0
    initial: Literal["default", "ibp"] = "default"


class Loss(Section):
    """A training loss and its options; the options that are left out are filled in with their defaults."""

    name: str = "fgsm"
    options: Options = Field(default_factory=dict)


class Penalty(Section):
    """A number that is made small besides the loss: ``weight`` times it is added; options as of a loss."""

    name: str
    weight: Positive
    options: Options = Field(default_factory=dict)


class Statistics(Section):
    """What is measured after epochs of training, on validation images and at ``train.eps``; see ``train.Statistics``.

    It goes into the records and has no influence on training.
    """

    every: Size = 1
    dear_every: Size = 5
    images: Count = 500
    pgd_steps: Count = 10


class Train(Section):
    """How every network is trained, the dense one and each round's alike; see ``train.Plan``."""

    loss: Loss = Loss()
    penalties: tuple[Penalty, ...] = ()
    epochs: Count = 20
    batch_size: Count = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: Annotated[Number, Field(lt=1)] = 0.9
    weight_decay: Number = 5e-4
    rate_shape: Literal["milestones", "cosine"] = "milestones"
    milestones: Annotated[tuple[Count, ...], AfterValidator(increasing)] = ()
    decay: Positive = 0.1
    warm_up: Size = 0
    clip: Positive | None = 8.0
    eps: Epsilon = 0.1
    eps_shape: Literal["smoothed", "linear", "constant"] = "smoothed"
    eps_start: Size = 0
    eps_length: Size = 0
    eps_mid: Annotated[Positive, Field(le=1)] = 0.4
    choose: Literal["auto", "certified", "pgd", "clean"] = "auto"
    validation_steps: Count = 5
    statistics: Statistics = Statistics()

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.milestones and self.milestones[-1] > self.epochs:
            raise ValueError(
                f"milestones end at epoch {self.milestones[-1]}, after the last of {self.epochs} epochs"
            )
        names = [penalty.name for penalty in self.penalties]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the penalty {twice} is given twice")
        try:
            self.plan()
        except CertipruneError as error:
            raise ValueError(str(error)) from error
        return self

    def plan(self) -> Plan:
        """The same settings in the training loop's own form."""
        return Plan(**{field.name: getattr(self, field.name) for field in fields(Plan)})


class Evaluate(Section):
    """What accuracy is measured on, and the PGD attack that measures adversarial accuracy at ``verify.eps``.

    ``images`` is the number of test images, from the first on; all of them by default. ``pgd_step_size`` is a
    fraction of eps. Unstable neurons are counted on ``unstable_images``, since their bounds are dear on large networks.
    """

    images: Count | None = None
    unstable_images: Count = 100
    pgd_steps: Count = 20
    pgd_step_size: Positive = 0.25
    pgd_restarts: Count = 1


class Verify(Section):
    """Complete verification of the first ``images`` test images; ``seconds`` and ``nodes`` limit each image.

    A node limit cuts off at the same place on every machine; a time limit does not. Where results must be
    repeatable, set ``nodes`` so that it ends the search before ``seconds`` does.
    """

    eps: Epsilon = 0.1
    images: Count = 200
    seconds: Positive = 300.0
    nodes: Count | None = None


class Experiment(Section):
    """A whole experiment. Its identity is ``digest()``.

    ``device`` is part of the identity, because a GPU adds in another order and so trains other weights. The
    folders in which data is looked for and the number of threads belong to the machine, are given on the
    command line, and are not part of the identity. Threads change the order of additions too, so a run notes
    how many it was begun with (``meta.environment``) and goes on with as many.
    """

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    seed: Size = 0
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    ladders: tuple[Ladder, ...] = ()
    evaluate: Evaluate = Evaluate()
    verify: Verify = Verify()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        before: dict[str, Ladder] = {}
        for ladder in self.ladders:
            if ladder.name in before:
                raise ValueError(f"two ladders are called {ladder.name}")
            ladder.check(self.train.plan(), before)
            before[ladder.name] = ladder
        return self

    @property
    def rewinds(self) -> frozenset[int]:
        """The epochs of the dense network's training that ladders go back to."""
        return frozenset(ladder.rewind for ladder in self.ladders if isinstance(ladder.rewind, int))

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, as plain values that YAML and JSON can hold."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self) -> str:
        """The SHA-256 (hexadecimal) of every setting, defaults and schema number included."""
        text = json.dumps(self.resolved(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
