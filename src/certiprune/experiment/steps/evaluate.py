"""How good a trained network is on the test split, and what is left of it."""

from __future__ import annotations

import math

from torch import Tensor, nn

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.experiment.session import Session
from certiprune.experiment.steps.work import Result, Work, trained
from certiprune.net import Network, compact, lower
from certiprune.net.cost import sizes
from certiprune.prune import remaining
from certiprune.store import LayerRow, RoundRow
from certiprune.train import evaluate
from certiprune.train.statistics import (
    BoundStatistics,
    LayerStatistics,
    bound_statistics,
    width_quantiles,
)
from certiprune.verify import unstable_counts


def run(session: Session, work: Work) -> Result:
    """Accuracy, standard, adversarial and by bounds; remaining weights; what bounds say of each layer.

    The stage's payload has ``widths``: the quantiles of each ReLU layer's interval widths, by layer, at ``verify.eps``
    and on the images on which unstable neurons are counted (see ``train.statistics.width_quantiles``).
    """
    settings, eps = session.experiment.evaluate, session.experiment.verify.eps
    model, mask = trained(session, work)
    granularity = "weights" if work.ladder is None else work.ladder.granularity
    layers = None if work.ladder is None else work.ladder.layers
    left = remaining(model, mask, granularity=granularity, layers=layers)
    mask = Mask() if mask is None else mask
    test = session.dataset.test if settings.images is None else session.dataset.test.head(settings.images)
    test = test.to(session.experiment.device)
    standard = evaluate.accuracy(model, test)
    attacked = evaluate.pgd_accuracy(
        model,
        test,
        eps,
        steps=settings.pgd_steps,
        restarts=settings.pgd_restarts,
        step_size=settings.pgd_step_size,
        generator=generator(session.experiment.seed, "pgd"),
    )
    bounds = bound_statistics(model, test, eps)
    network = lower(model, shape=session.dataset.shape, mask=mask)
    few = session.dataset.test.head(settings.unstable_images).to(session.experiment.device)
    relus = _relus(work, network, bounds, unstable_counts(network, few.images, eps))
    widths = width_quantiles(model, few, eps)
    everything = sum(parameter.numel() for parameter in model.parameters())
    row = RoundRow(
        ladder=work.ladder_name,
        round=work.number,
        method=work.method,
        kept=left.kept,
        total=left.total,
        kept_all=everything - (mask.total - mask.kept),
        total_all=everything,
        standard_accuracy=standard,
        pgd_accuracy=attacked,
        test_images=len(test),
        unstable=sum(layer.kept for layer in relus),
        relus=network.neurons,
        ibp_accuracy=bounds.ibp,
        crown_accuracy=bounds.crown,
        unit=granularity,
        **_sizes(network),
    )
    text = f"accuracy {standard:.1%}, PGD {attacked:.1%}, IBP {bounds.ibp:.1%}, CROWN {bounds.crown:.1%}, "
    text += f"{row.unstable:.0f} of {row.relus} neurons unstable"
    return Result(text, {"widths": widths}, (row, *_weights(work, model, mask), *relus))


def _sizes(network: Network) -> dict[str, int]:
    """The columns that say how large the network is as it is, and once what is dead is taken out."""
    whole, small = sizes(network), sizes(compact(network)[0])
    return {
        "parameters": whole.parameters,
        "multiply_adds": whole.multiply_adds,
        "file_bytes": whole.bytes,
        "compact_parameters": small.parameters,
        "compact_multiply_adds": small.multiply_adds,
        "compact_file_bytes": small.bytes,
        "compact_relus": small.neurons,
    }


def _weights(work: Work, model: nn.Module, mask: Mask) -> list[LayerRow]:
    """The convolutions and linear layers, in the model's order."""
    place = (work.ladder_name, work.number, "weights")
    tensors = [(name, p) for name, p in model.named_parameters() if p.dim() > 1]
    return [
        LayerRow(
            *place,
            position,
            name.removesuffix(".weight"),
            float(mask[name].sum()) if name in mask else float(parameter.numel()),
            parameter.numel(),
        )
        for position, (name, parameter) in enumerate(tensors)
    ]


def _relus(
    work: Work, network: Network, bounds: BoundStatistics, counts: dict[str, Tensor]
) -> list[LayerRow]:
    """Every ReLU layer with its unstable neurons, the mean of ``counts`` over their images, and its interval bounds."""
    totals = [math.prod(network.shapes[value]) for value in network.relus]
    place = (work.ladder_name, work.number, "relu")
    return [
        LayerRow(*place, position, name, float(count.double().mean()), total, *_measures(layer))
        for position, ((name, count), total, layer) in enumerate(
            zip(counts.items(), totals, bounds.layers, strict=True)
        )
    ]


def _measures(layer: LayerStatistics) -> tuple[float, ...]:
    """In the order of the row's last columns."""
    return layer.product, layer.rs, layer.nrs, layer.width, layer.width_before
