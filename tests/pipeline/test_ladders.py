"""What a round is pruned from, what is scored, and from where it is trained again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from certiprune.core.mask import Mask
from certiprune.experiment import load, pipeline
from certiprune.experiment.events import Event
from certiprune.net import checkpoint
from certiprune.prune import select
from certiprune.prune.scores import build
from certiprune.store import Records, RunLayout

LADDERS = """
data: {name: digits, train_limit: 200}
model: {name: cnn_small, width: 0.5}
train: {loss: {name: natural}, epochs: 3, milestones: [2], batch_size: 50, learning_rate: 0.05,
        eps: 0.05, eps_length: 2, statistics: {every: 0}}
ladders:
  - {name: shots, method: magnitude, mode: one-shot, keep: [0.6, 0.3]}
  - {name: before, method: magnitude, scored: rewound, keep: [0.5]}
  - {name: rate, method: magnitude, rewind: learning_rate, keep: [0.5]}
  - {name: tuned, method: magnitude, rewind: finetune, epochs: 2, keep: [0.5, 0.25]}
  - {name: channels, method: l1-channel, granularity: channels, keep: [0.5]}
evaluate: {images: 20, unstable_images: 2, pgd_steps: 1}
verify: {eps: 0.01, images: 2, nodes: 1}
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    folder = tmp_path_factory.mktemp("ladders")
    pipeline.run(load.parse(LADDERS), folder)
    return RunLayout(folder)


def started(layout: RunLayout, ladder: str, number: int = 1) -> tuple[nn.Module, Mask]:
    found = checkpoint.load(layout.round(ladder, number).initial)
    assert found.mask is not None
    return found.model, found.mask


def trained(layout: RunLayout, ladder: str, number: int) -> nn.Module:
    return checkpoint.load(layout.round(ladder, number).model).model


def by_magnitude(model: nn.Module, mask: Mask, keep: int) -> Mask:
    source = torch.Generator().manual_seed(0)
    return select(build("magnitude").score(model, mask, None, keep=keep, generator=source), mask, keep=keep)


def same(one: Mask, other: Mask) -> bool:
    return one.nested_in(other) and other.nested_in(one)


def goes_on_from(model: nn.Module, mask: Mask, weights: nn.Module) -> bool:
    """Whether ``model`` is ``weights`` with the mask's zeros, bit for bit."""
    state = weights.state_dict()
    return all(
        torch.equal(t, state[n].masked_fill(~mask[n], 0.0) if n in mask else state[n])
        for n, t in model.state_dict().items()
    )


def test_shots_are_all_pruned_from_the_dense_network(layout: RunLayout) -> None:
    dense = trained(layout, "dense", 0)
    for number, share in ((1, 0.6), (2, 0.3)):
        model, mask = started(layout, "shots", number)
        whole = Mask.ones(model, list(mask))
        assert same(mask, by_magnitude(dense, whole, round(share * whole.total)))


def test_learning_scores_is_watched_as_training_is(tmp_path: Path) -> None:
    ladder = "{name: learned, method: hydra, keep: [0.5], options: {epochs: 2}}"
    text, told = LADDERS.partition("ladders:")[0] + f"ladders: [{ladder}]", list[Event]()
    pipeline.run(load.parse(text), tmp_path, progress=told.append, until="learned/1/prune")
    with Records.open(RunLayout(tmp_path).records, read_only=True) as records:
        (said,) = {row.payload["kept"] for row in records.stages() if row.name == "learned/1/prune"}
    steps = [(event.done, event.total) for event in told if event.stage == "learned/1/prune"]
    # 200 images in batches of 50, twice; the end is told once all is stored.
    assert steps == [(0, 1), *((k, 8) for k in range(1, 8)), (7, 8), (1, 1)]
    assert told[-1].text.startswith(f"{said} of ")


def test_rewound_weights_are_scored_before_training(layout: RunLayout) -> None:
    untrained = checkpoint.load(layout.round("dense", 0).initial).model
    model, mask = started(layout, "before")
    whole = Mask.ones(model, list(mask))
    assert same(mask, by_magnitude(untrained, whole, round(0.5 * whole.total)))
    assert goes_on_from(model, mask, untrained)


def test_learning_rate_rewinding_keeps_weights_and_starts_the_schedule_again(layout: RunLayout) -> None:
    model, mask = started(layout, "rate")
    assert goes_on_from(model, mask, trained(layout, "dense", 0))
    with Records.open(layout.records, read_only=True) as records:
        rates = {
            name: [e.metrics["learning_rate"] for e in records.epochs(name)] for name in ("dense", "rate")
        }
        radii = {name: [e.metrics["eps"] for e in records.epochs(name)] for name in ("dense", "rate")}
    assert rates["rate"] == rates["dense"] == pytest.approx([0.05, 0.05, 0.005])
    assert radii["rate"] == radii["dense"]


def test_finetuning_goes_on_at_the_end_of_the_schedule(layout: RunLayout) -> None:
    model, mask = started(layout, "tuned", 2)
    assert goes_on_from(model, mask, trained(layout, "tuned", 1))
    with Records.open(layout.records, read_only=True) as records:
        epochs = records.epochs("tuned", 1)
    assert [e.epoch for e in epochs] == [1, 2]
    assert [e.metrics["learning_rate"] for e in epochs] == pytest.approx([0.005] * 2)
    assert [e.metrics["eps"] for e in epochs] == [0.05] * 2


def test_rows_count_what_is_pruned_and_what_compaction_leaves(layout: RunLayout) -> None:
    with Records.open(layout.records, read_only=True) as records:
        rows = {row.ladder: row for row in records.rounds() if row.round < 2}
    dense, channels, shots = rows["dense"], rows["channels"], rows["shots"]
    assert (channels.unit, channels.kept, channels.total) == ("channels", 6, 12)
    assert (shots.unit, shots.kept, shots.total) == ("weights", round(0.6 * dense.total), dense.total)
    assert channels.kept_all < channels.total_all == dense.total_all
    # The network as it is written down does not change; compaction takes the channels out.
    for name in ("parameters", "multiply_adds", "file_bytes", "relus"):
        assert getattr(channels, name) == pytest.approx(getattr(dense, name), rel=0.01)
        assert 0 < getattr(channels, f"compact_{name}") < 0.9 * getattr(dense, f"compact_{name}")
