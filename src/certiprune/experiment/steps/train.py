"""Training of one network, resumable after every epoch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from certiprune.core.rng import derive_seed
from certiprune.data import Augment
from certiprune.experiment.events import Event
from certiprune.experiment.session import Session
from certiprune.experiment.steps.work import Result, Work, spec, training_loss
from certiprune.net import checkpoint, zoo
from certiprune.store import EpochRow
from certiprune.train import (
    EpochRecord,
    Statistics,
    TrainState,
    load_state,
    save_state,
    tensorboard,
    train,
)


def run(session: Session, work: Work) -> Result:
    """Train from where the round starts, or from the last finished epoch of an interrupted attempt.

    The epoch whose weights are kept is chosen on the validation split (see ``train.train``). Every network
    of the run sees its batches in the same order.
    """
    settings, files = session.experiment.train, work.files(session)
    begin = checkpoint.load(files.initial)
    model = begin.model.to(session.experiment.device)
    start = load_state(files.training) if files.training.exists() else None
    state = train(
        model,
        training_loss(settings),
        session.dataset,
        work.plan(session.experiment),
        mask=begin.mask,
        seed=derive_seed(session.experiment.seed, "train"),
        start=start,
        callbacks=(_Keep(session, work), *_boards(session, work, start)),
        augment=Augment(session.experiment.data.crop_padding, session.experiment.data.flip),
        statistics=Statistics(**settings.statistics.model_dump()),
    )
    note = {"network": work.name, "digest": session.experiment.digest()}
    checkpoint.save(files.model, _holding(session, state.chosen), spec(session), mask=begin.mask, note=note)
    rows = tuple(_row(work, record) for record in state.history)
    chosen = state.best.epoch if state.best else state.epoch
    reached = state.history[chosen - 1].metrics["validation_accuracy"]
    text = f"validation accuracy {reached:.1%} after epoch {chosen} of {state.epoch}"
    return Result(text, {"chosen_epoch": chosen, "epochs": state.epoch}, rows)


def _boards(session: Session, work: Work, start: TrainState | None) -> tuple[tensorboard.TensorBoard, ...]:
    """The callback that writes for TensorBoard, where that is asked for."""
    if not session.tensorboard:
        return ()
    folder = session.layout.tensorboard / work.name
    return (tensorboard.TensorBoard(tensorboard.writer(folder, start=start.epoch if start else 0)),)


class _Keep:
    """The callback that saves what a resumed training and later rounds need, and tells how far it is."""

    def __init__(self, session: Session, work: Work) -> None:
        self.session, self.work = session, work
        self.epochs = work.plan(session.experiment).epochs
        self.text = ""

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        total = self.epochs * batches
        # The last event of the stage is sent once it is committed.
        done = min(epoch * batches + batch, total - 1)
        self.session.watch(Event(f"{self.work.name}/train", done, total, self.text))

    def on_epoch(self, state: TrainState, record: EpochRecord) -> None:
        # The early weights go first: once the state is saved, a resumed training does not come by here again.
        if self.work.ladder is None and state.epoch in self.session.early:
            path = self.work.files(self.session).early(state.epoch)
            model = _holding(self.session, state.model)
            checkpoint.save(path, model, spec(self.session), mask=None, note={"network": self.work.name})
        save_state(self.work.files(self.session).training, state)
        self.session.records.add(_row(self.work, record))
        self.text = f"loss {record.metrics['loss']:.3f}, accuracy {record.metrics['accuracy']:.1%}"


def _holding(session: Session, tensors: Mapping[str, Tensor]) -> nn.Module:
    model = zoo.build(spec(session))
    model.load_state_dict(dict(tensors))
    return model


def _row(work: Work, record: EpochRecord) -> EpochRow:
    return EpochRow(work.ladder_name, work.number, record.epoch, record.seconds, record.metrics)
