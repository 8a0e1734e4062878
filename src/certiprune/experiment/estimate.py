"""How long an experiment takes on this machine: a few steps are timed, the rest is counted.

    training = networks x epochs x images x (natural steps that a step of the scheme takes) x seconds of a natural step
    verification is at most = networks x images x their time limit

The steps that schemes take are those measured on the study's network at half its width (docs/training_speed.md).
Evaluation, scores and figures are left out; HYDRA's own epochs are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.nn.functional import cross_entropy

from certiprune.core.rng import generator
from certiprune.experiment.config import Experiment
from certiprune.experiment.known import DATA, OTHER
from certiprune.experiment.ladder import Ladder
from certiprune.net.zoo import ModelSpec, build
from certiprune.train import losses
from certiprune.train.loop import memory_format

_STEPS = {
    "natural": 1.0,
    "fgsm": 1.8,
    "n_fgsm": 1.8,
    "gradalign": 4.6,
    "pgd": 7.1,
    "ibp": 3.2,
    "crown_ibp": 5.2,
    "sabr": 8.5,
    "mtl_ibp": 9.4,
    "cc_ibp": 9.4,
    "exp_ibp": 9.4,
}
"""Natural steps that a step of a loss takes."""
_BOUNDS = 3.4
"""What a penalty on bounds adds where the loss has none."""


@dataclass(frozen=True)
class Estimate:
    """Of one or more experiments, in seconds.

    Attributes:
        networks: how many are trained and verified.
        training: of all of them, about.
        verification: of all of them, at most: images that are decided early cost less.
    """

    networks: int
    training: float
    verification: float


class Pace:
    """Times natural steps here, once for each network and batch size."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, float, tuple[int, int, int], int], float] = {}

    def image(self, experiment: Experiment) -> float:
        """Seconds a natural step takes for each of its images, with torch's number of threads."""
        shape, classes, _ = DATA.get(experiment.data.name, OTHER)
        key = (experiment.model.name, experiment.model.width, shape, experiment.train.batch_size)
        if key not in self._seconds:
            self._seconds[key] = _timed(*key, classes=classes)
        return self._seconds[key]


def estimate(experiments: Iterable[Experiment], pace: Pace) -> Estimate:
    """What ``experiments`` take together; a dense network that several share is counted once, as a sweep trains it."""
    networks, training, verification = 0, 0.0, 0.0
    dense = set[str]()
    for experiment in experiments:
        digest = experiment.model_copy(update={"ladders": ()}).digest()
        plan, verify = experiment.train.plan(), experiment.verify
        rounds = [ladder for ladder in experiment.ladders for _ in ladder.keep]
        epochs = [ladder.plan(plan).epochs + _scoring(ladder) for ladder in rounds]
        if digest not in dense:
            epochs.append(plan.epochs)
        dense.add(digest)
        networks += len(epochs)
        training += sum(epochs) * _epoch(experiment, pace)
        verification += len(epochs) * verify.images * verify.seconds
    return Estimate(networks, training, verification)


def _epoch(experiment: Experiment, pace: Pace) -> float:
    """Seconds of an epoch of training."""
    train, limit = experiment.train, experiment.data.train_limit
    images = DATA.get(experiment.data.name, OTHER).training
    steps = _STEPS.get(train.loss.name, max(_STEPS.values()))
    bounded = losses.build(train.loss.name, **train.loss.options).certified
    if not bounded and any(penalty.name in ("rs", "nrs", "fast_ibp") for penalty in train.penalties):
        steps += _BOUNDS
    return min(images, limit or images) * steps * pace.image(experiment)


def _scoring(ladder: Ladder) -> int:
    """Epochs in which a round's scores are learned."""
    return int(ladder.options["epochs"]) if ladder.method == "hydra" else 0


def _timed(name: str, width: float, shape: tuple[int, int, int], size: int, *, classes: int) -> float:
    """The least of a few steps, per image: what disturbs only adds."""
    channels = shape[0]
    spec = ModelSpec(name, shape, classes, (0.5,) * channels, (0.5,) * channels, width)
    model = build(spec, generator=generator(0, "pace")).train()
    layout = memory_format(model, torch.device("cpu"))
    model.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.rand(size, *shape).to(memory_format=layout)
    labels = torch.zeros(size, dtype=torch.int64)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    seconds = []
    for _ in range(4):
        begin = perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        seconds.append(perf_counter() - begin)
    return min(seconds[1:]) / size
