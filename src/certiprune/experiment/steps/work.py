"""What a step works on and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from certiprune.core.mask import Mask
from certiprune.experiment.config import Experiment, Ladder, Train
from certiprune.experiment.session import Session
from certiprune.net import checkpoint
from certiprune.net.zoo import ModelSpec
from certiprune.store import DENSE, RoundLayout, Row
from certiprune.train import Plan, losses, penalties


@dataclass(frozen=True)
class Work:
    """One network of the run: round ``number`` of ``ladder``, or with neither the dense one."""

    ladder: Ladder | None
    number: int

    @property
    def ladder_name(self) -> str:
        return self.ladder.name if self.ladder else DENSE

    @property
    def method(self) -> str:
        return self.ladder.method if self.ladder else DENSE

    @property
    def name(self) -> str:
        return f"{self.ladder_name}/{self.number}"

    def before(self, experiment: Experiment) -> Work:
        """The network that this one is pruned from."""
        assert self.ladder is not None  # the dense network is pruned from none
        if self.ladder.source is not None:
            source = next(ladder for ladder in experiment.ladders if ladder.name == self.ladder.source)
            return Work(source, self.number)
        if self.number == 1 or self.ladder.mode == "one-shot":
            return Work(None, 0)
        return Work(self.ladder, self.number - 1)

    def plan(self, experiment: Experiment) -> Plan:
        """How this network is trained."""
        plan = experiment.train.plan()
        return plan if self.ladder is None else self.ladder.plan(plan)

    def files(self, session: Session) -> RoundLayout:
        return session.layout.round(self.ladder_name, self.number)


@dataclass(frozen=True)
class Result:
    """What a finished step leaves in the records.

    Attributes:
        text: what there is to say of it in a few words.
        payload: small facts, kept with the stage.
        rows: rows that are committed together with it.
    """

    text: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()


def spec(session: Session) -> ModelSpec:
    """The network of the experiment, for its dataset."""
    dataset, model = session.dataset, session.experiment.model
    return ModelSpec(model.name, dataset.shape, dataset.classes, dataset.mean, dataset.std, model.width)


def trained(session: Session, work: Work) -> tuple[nn.Module, Mask | None]:
    """The trained network of a round, in evaluation mode, with its mask (None for the dense one)."""
    found = checkpoint.load(work.files(session).model)
    return found.model.to(session.experiment.device), found.mask


def training_loss(settings: Train) -> losses.AbstractLoss:
    """The loss with its penalties, if there are any."""
    loss = losses.build(settings.loss.name, **settings.loss.options)
    if not settings.penalties:
        return loss
    added = [(penalties.build(p.name, **p.options), p.weight) for p in settings.penalties]
    return losses.Penalised(loss, tuple(added))
