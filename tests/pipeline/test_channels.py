"""Rounds that prune channels, from the network before and from another ladder's."""

from __future__ import annotations

from pathlib import Path

from certiprune.experiment import load, pipeline
from certiprune.experiment.events import Event
from certiprune.net import checkpoint
from certiprune.prune.coupling import groups
from certiprune.store import Records, RunLayout

SMALL = """
data: {name: digits, train_limit: 100}
model: {name: cnn_small, width: 0.5}
train: {loss: {name: fgsm}, epochs: 1, batch_size: 50, eps: 0.05, statistics: {every: 0}}
ladders:
  - {name: nrs, method: nrs, granularity: channels, layers: all, options: {images: 10}, keep: [0.7, 0.4]}
  - {name: imp, method: magnitude, keep: [0.3]}
  - {name: tickets, method: refill, granularity: channels, keep: [0.25], source: imp}
evaluate: {images: 10, unstable_images: 1, pgd_steps: 1}
verify: {eps: 0.01, images: 1, nodes: 1}
"""


def test_channels_go_round_by_round_and_come_back_whole_from_another_ladder(tmp_path: Path) -> None:
    told: list[Event] = []
    pipeline.run(load.parse(SMALL), tmp_path, progress=told.append, until="tickets/1/prune")
    layout = RunLayout(tmp_path)
    with Records.open(layout.records, read_only=True) as records:
        payloads = {row.name: row.payload for row in records.stages()}
    assert payloads["nrs/1/prune"] == {"kept": round(0.7 * 62), "total": 62}
    assert payloads["nrs/2/prune"] == {"kept": round(0.4 * 62), "total": 62}
    assert payloads["tickets/1/prune"] == {"kept": 3, "total": 12}
    said = next(e.text for e in told if e.stage == "tickets/1/prune" and e.done == e.total)
    assert said.startswith("3 of 12 channels kept")
    first, second = (checkpoint.load(layout.round("nrs", number).model) for number in (1, 2))
    assert first.mask is not None and second.mask is not None and second.mask.nested_in(first.mask)
    assert groups(second.model, layers="all").units(second.mask).kept == round(0.4 * 62)
    begin, dense = (
        checkpoint.load(layout.round("tickets", 1).initial),
        checkpoint.load(layout.round("dense", 0).initial),
    )
    assert begin.mask is not None
    units = groups(begin.model).units(begin.mask)["conv2"]
    untouched = dense.model.get_parameter("conv2.weight")[units]
    assert bool(begin.model.get_parameter("conv2.weight")[units].equal(untouched))


def test_a_source_of_channels_gives_none_back(tmp_path: Path) -> None:
    text = SMALL.replace("options: {images: 10}, keep: [0.7, 0.4]", "options: {images: 10}, keep: [0.5]")
    text = text.replace("method: refill", "method: random").replace("source: imp", "source: nrs, layers: all")
    pipeline.run(load.parse(text), tmp_path, until="tickets/1/prune")
    layout = RunLayout(tmp_path)
    source = checkpoint.load(layout.round("nrs", 1).model).mask
    tickets = checkpoint.load(layout.round("tickets", 1).initial).mask
    assert source is not None and tickets is not None and tickets.nested_in(source)
