"""Ladders that are bound to fail are refused before anything is trained, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from certiprune.core.errors import ConfigError, InputError
from certiprune.experiment import load, pipeline
from certiprune.experiment.sweep import config, plan


def text(*ladders: str, train: str = "eps: 0.1", model: str = "cnn_small", data: str = "digits") -> str:
    listed = ", ".join("{" + ladder + "}" for ladder in ladders)
    return f"data: {{name: {data}}}\nmodel: {{name: {model}}}\ntrain: {{{train}}}\nladders: [{listed}]"


UNITS = "name: a, granularity: channels"
CHANNELS = f"{UNITS}, keep: [0.5]"


@pytest.mark.parametrize("method", ["rs", "nrs"])
def test_stability_needs_a_radius(method: str) -> None:
    ladder = f"{CHANNELS}, method: {method}"
    with pytest.raises(
        ConfigError, match=rf"x: ladders\[0\]: pruning by {method} needs a radius eps above 0"
    ):
        load.parse(text(ladder, train="eps: 0"), name="x")
    load.parse(text(ladder))
    load.parse(text(f"{CHANNELS}, method: l1-channel", train="eps: 0"))


@pytest.mark.parametrize(
    ("model", "layers", "without"),
    [
        ("cnn_small", "convolutions", None),
        ("resnet", "convolutions", None),
        ("cnn_small", "all", "hidden"),
        ("cnn_small", "linear", "hidden"),
        ("cnn_b", "convolutions", "conv1"),
        ("mlp", "convolutions", "hidden1"),
    ],
)
def test_slimming_needs_scales_in_every_group(model: str, layers: str, without: str | None) -> None:
    for data in ("digits", "npz"):  # of npz nothing is known before it is read, and groups are the same
        given = text(f"{CHANNELS}, method: slim, layers: {layers}", model=model, data=data)
        if without is None:
            load.parse(given)
            continue
        with pytest.raises(
            ConfigError, match=f"slim needs BatchNorm scales, and the units of {without} have none"
        ):
            load.parse(given)


@pytest.mark.parametrize("method", ["snip", "taylor", "grasp", "hydra"])
def test_gradients_need_batches_of_two(method: str) -> None:
    ladder = f"name: a, keep: [0.5], method: {method}"
    with pytest.raises(ConfigError, match=rf"ladders\[0\]: pruning by {method} .* give a batch_size above 1"):
        load.parse(text(ladder, train="batch_size: 1"))
    load.parse(text(ladder, train="batch_size: 2"))
    load.parse(text("name: a, keep: [0.5], method: magnitude", train="batch_size: 1"))


def test_every_round_needs_something_to_keep() -> None:
    """cnn_small has 8 + 16 channels, and in its convolutions 4 * 4 * (8 + 8 * 16) weights."""
    for ladder, total in ((UNITS, 24), ("name: a", 2176)):
        ladder += ", method: magnitude, keep: "
        load.parse(text(f"{ladder}[{0.6 / total}]"))
        for keep, number in ((f"[{0.4 / total}]", 1), (f"[0.5, {0.6 / total}, {0.55 / total}]", 3)):
            with pytest.raises(
                ConfigError, match=rf"ladders\[0\]: {total} weights or .* few: round {number} of"
            ):
                load.parse(text(ladder + keep))


def test_a_source_must_leave_what_is_kept() -> None:
    """Of 2176 weights of convolutions a half is gone, and so of 9576 in all layers 8488 are left: 88.6 %."""
    source = "name: s, method: magnitude, keep: [0.9, 0.5]"
    wider = "name: a, method: magnitude, source: s, layers: all, keep: [0.95, %s]"
    load.parse(text(source, wider % 0.886))
    with pytest.raises(
        ConfigError, match=r"ladders\[1\]: round 2 would keep 8503 of 9576 weights, .* s leaves 8488"
    ):
        load.parse(text(source, wider % 0.888))
    # Where layers or units differ otherwise, what is left depends on the weights.
    load.parse(text(source, "name: a, method: magnitude, source: s, layers: linear, keep: [0.999, 0.99]"))
    load.parse(text(source, f"{UNITS}, method: refill, source: s, layers: all, keep: [0.99, 0.9]"))
    load.parse(text(f"{source}, layers: all", "name: a, method: magnitude, source: s, keep: [0.95, 0.9]"))


def test_a_sweep_is_refused_before_its_dense_networks_are_trained() -> None:
    sweep = config.parse(
        "{base: mnist-0.1, training: [natural], pruning: [imp, slim], set: {model: {name: cnn_b}}}"
    )
    with pytest.raises(
        ConfigError, match=r"sweep \(natural, slim\): ladders\[0\]: pruning by slim needs BatchNorm"
    ):
        plan.grid(sweep)


def test_counts_of_weights_are_checked_once_the_images_are_read(tmp_path: Path) -> None:
    """Linear layers have as many weights as images have pixels; of data of one's own these are known last."""
    draw = np.random.default_rng(0)
    images = draw.random((40, 1, 2, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images, y=np.arange(40) % 2)
    ladder = "name: few, method: magnitude, keep: [%s]"
    # 256 (4 + 256 + 2) weights.
    given = text(ladder % 6e-6, model="mlp", data="npz")
    experiment = load.parse(given)
    with pytest.raises(InputError, match="ladder few: 67072 weights or channels are too few: round 1"):
        pipeline.run(experiment, tmp_path / "run", data_folder=tmp_path / "data.npz")
    assert not (tmp_path / "run").exists()
    experiment = load.parse(text(ladder % 8e-6, model="mlp", data="npz"))
    pipeline.run(experiment, tmp_path / "run", data_folder=tmp_path / "data.npz", until="dense/0/initial")
