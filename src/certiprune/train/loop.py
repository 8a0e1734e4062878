"""The one training loop; everything else is a loss, a schedule or a callback."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Augment, Batch, Dataset, batches
from certiprune.net.live import Live
from certiprune.train import choose, optim
from certiprune.train.callbacks import Callback
from certiprune.train.choose import Measure
from certiprune.train.errors import TrainingError
from certiprune.train.evaluate import accuracy
from certiprune.train.losses import AbstractLoss
from certiprune.train.plan import Plan
from certiprune.train.scene import Scene
from certiprune.train.state import Best, EpochRecord, TrainState, model_tensors, restore_model_
from certiprune.train.statistics import Statistics


def train(
    model: nn.Module,
    loss: AbstractLoss,
    dataset: Dataset,
    plan: Plan,
    *,
    mask: Mask | None = None,
    seed: int = 0,
    start: TrainState | None = None,
    callbacks: Sequence[Callback] = (),
    augment: Augment | None = None,
    measure: Measure | None = None,
    statistics: Statistics | None = None,
    device: torch.device | str | None = None,
) -> TrainState:
    """Train ``model`` in place and return where it ended; ``state.chosen`` has the weights to use.

    Pruned weights are zero after every step. The weights are chosen on the validation split among the
    epochs after which epsilon has its final value, the later one at a tie. Epoch k draws its numbers from
    generators of its own, so a training that goes on from a state gives bit for bit what an unbroken one
    gives (on the same machine and number of threads). The test split is not read. A last batch of one
    image is left out, since BatchNorm cannot normalise by it.

    Args:
        model: is left with the weights of the last epoch, in evaluation mode.
        loss: what is minimised.
        dataset: its training and validation splits are used.
        plan: the settings.
        mask: which weights are kept; None keeps all.
        seed: of all randomness.
        start: go on from here, with the same plan as far as it went; the model's weights are replaced.
        callbacks: are told of batches and epochs, in order.
        augment: changes the training images.
        measure: how the weights are chosen; by default as ``plan.choose`` says.
        statistics: what else is measured on the validation split at ``plan.eps``, for the records; None is nothing.
        device: where to train; by default where the model is.

    Raises:
        InputError: the mask or ``start`` does not fit, or there are too few images.
        TrainingError: the loss or the gradient is not finite.
    """
    if len(dataset.train) < 2:
        raise InputError(f"training needs at least 2 images, not {len(dataset.train)}")
    device = next(model.parameters()).device if device is None else torch.device(device)
    layout = memory_format(model, device)
    model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = optim.build(plan, model)
    state = start or TrainState(0, seed, {}, {}, None, ())
    if start is not None:
        _resume_(model, optimizer, plan, seed, start)
    mask = mask or Mask()
    mask.apply_(model)
    pruned = [(model.get_parameter(name), ~keep.to(device)) for name, keep in mask.items()]
    live = Live(model, dataset.shape)
    named = choose.measure(plan, loss) if measure is None else ("validation_measure", measure)
    run = _Run(live, loss, dataset, plan, optimizer, pruned, seed, augment, *named, device, layout)
    for epoch in range(state.epoch, plan.epochs):
        began = perf_counter()
        metrics = _train_epoch(run, epoch, callbacks)
        best = _validate(run, epoch, state.best, metrics)
        if statistics is not None:
            source = generator(seed, "epoch", epoch, "statistics")
            metrics |= statistics.metrics(
                model, dataset.validation, plan.eps, epoch=epoch + 1, epochs=plan.epochs, generator=source
            )
        record = EpochRecord(epoch + 1, perf_counter() - began, metrics)
        remembered = optim.tensors(optimizer, model)
        state = TrainState(epoch + 1, seed, model_tensors(model), remembered, best, (*state.history, record))
        for callback in callbacks:
            callback.on_epoch(state, record)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()
    return state


def memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """How images and convolutions lie in memory while ``model`` trains: channels last where that is quicker.

    On a CPU it is, by a fifth to a third, for all but the smallest convolutions. It changes the order of additions, so
    it depends on the model alone and not on a measurement.
    """
    weights = [layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    large = device.type == "cpu" and max(weights, default=0) >= _LARGE
    return torch.channels_last if large else torch.contiguous_format


# Weights of a convolution from which on channels last is quicker.
_LARGE = 4096


@dataclass(frozen=True)
class _Run:
    """What stays the same from epoch to epoch.

    ``pruned`` pairs parameters with what must be zero in them, ``measured`` is the metric that ``measure`` gives.
    """

    live: Live
    loss: AbstractLoss
    dataset: Dataset
    plan: Plan
    optimizer: torch.optim.Optimizer
    pruned: list[tuple[nn.Parameter, Tensor]]
    seed: int
    augment: Augment | None
    measured: str
    measure: Measure
    device: torch.device
    layout: torch.memory_format

    @property
    def model(self) -> nn.Module:
        return self.live.module


def _resume_(
    model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, seed: int, start: TrainState
) -> None:
    if start.seed != seed:
        raise InputError(f"the training to go on with has seed {start.seed}, not {seed}")
    if start.epoch > plan.epochs:
        raise InputError(
            f"the training to go on with has {start.epoch} epochs, and the plan only {plan.epochs}"
        )
    restore_model_(model, start.model)
    optim.restore_(optimizer, model, start.optimizer)


def _train_epoch(run: _Run, epoch: int, callbacks: Sequence[Callback]) -> dict[str, float]:
    """One pass over the training split; the means of the loss and its parts over the images."""
    plan, split = run.plan, run.dataset.train
    order, noise = generator(run.seed, "epoch", epoch, "order"), generator(run.seed, "epoch", epoch, "loss")
    count = math.ceil(len(split) / plan.batch_size)
    # By name, because parts on bounds say nothing of batches before eps starts to rise.
    sums: defaultdict[str, float] = defaultdict(float)
    images: defaultdict[str, int] = defaultdict(int)
    rate = 0.0
    run.model.train()
    for number, batch in enumerate(batches(split, plan.batch_size, generator=order, augment=run.augment)):
        if len(batch.images) > 1:
            eps = plan.schedule.at(epoch + number / count)
            # In the middle of the batch's time, where neither a warm-up nor a cosine is 0.
            rate = plan.rates.at(epoch + (number + 0.5) / count)
            for group in run.optimizer.param_groups:
                group["lr"] = rate
            laid = batch.images.to(run.device, memory_format=run.layout)
            moved = Batch(laid, batch.labels.to(run.device))
            for name, value in _step(
                run, moved, eps, noise, f"epoch {epoch + 1}, batch {number + 1}"
            ).items():
                sums[name] += value * len(batch.images)
                images[name] += len(batch.images)
        for callback in callbacks:
            callback.on_batch(epoch, number + 1, count)
    means = {name: total / images[name] for name, total in sums.items()}
    return means | {"eps": plan.schedule.at(epoch + 1), "learning_rate": rate}


def _step(run: _Run, batch: Batch, eps: float, noise: torch.Generator, where: str) -> dict[str, float]:
    run.optimizer.zero_grad(set_to_none=True)
    terms = run.loss(Scene(run.live, batch, eps, run.plan.eps, noise, tracked=run.loss.certified))
    value = float(terms.total.detach())
    if not math.isfinite(value):
        raise _diverged(f"the loss is {value}", where, run.plan)
    terms.total.backward()
    # Neither the gradient (clipping, momentum) nor weight decay may see or revive a pruned weight.
    for parameter, zero in run.pruned:
        if parameter.grad is not None:
            parameter.grad.masked_fill_(zero, 0.0)
    norm = nn.utils.clip_grad_norm_(
        run.model.parameters(), math.inf if run.plan.clip is None else run.plan.clip
    )
    if not bool(norm.isfinite()):
        raise _diverged("the gradient is not finite", where, run.plan)
    run.optimizer.step()
    with torch.no_grad():
        for parameter, zero in run.pruned:
            parameter.masked_fill_(zero, 0.0)
    return {"loss": value, **terms.parts}


def _validate(run: _Run, epoch: int, best: Best | None, metrics: dict[str, float]) -> Best | None:
    """Add the validation's measures to ``metrics``; the better of ``best`` and the model as it is now."""
    split = run.dataset.validation
    metrics["validation_accuracy"] = accuracy(run.model, split)
    if run.plan.schedule.at(epoch + 1) < run.plan.eps:
        return best
    value = run.measure(run.model, split, generator(run.seed, "epoch", epoch, "validation"))
    metrics[run.measured] = value
    if best is not None and value < best.value:
        return best
    return Best(epoch + 1, value, model_tensors(run.model))


def _diverged(what: str, where: str, plan: Plan) -> TrainingError:
    advice = f"lower learning_rate ({plan.learning_rate} now)" + (" or set clip" if plan.clip is None else "")
    return TrainingError(f"{what} in {where}: {advice}, or let epsilon rise over more epochs")
