"""Reading experiments: errors fit on one line and name the file, the place and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from certiprune.core.errors import ConfigError
from certiprune.experiment import load, presets
from certiprune.train import losses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "x.yaml, line 1: sed: no such setting; did you mean seed?"),
        ("train:\n  epoch: 3", "x.yaml, line 2: train.epoch: no such setting; did you mean epochs?"),
        ("verify: {qqq: 3}", "no such setting; there are eps, images, seconds, nodes"),
        (
            "ladders:\n  - {name: a, method: random, keep: [0.5]}\n  - {name: b, methd: random, keep: [0.5]}",
            "x.yaml, line 3: ladders[1].methd: no such setting; did you mean method? (and 1 more)",
        ),
        ("seed: 1\nseed: 2", "x.yaml, line 2: seed is given twice"),
        ("train: {epochs: 3, epochs: 4}", "x.yaml, line 1: epochs is given twice"),
        ("train: [", "x.yaml, line 1: "),
        ("", "x.yaml: must hold settings"),
        ("- 1", "x.yaml: must hold settings"),
        ("? [1]\n: 2", "x.yaml"),
        ("seed: !!python/object:os.system x", "could not determine a constructor"),
        ("verify: {eps: 8}", "x.yaml, line 1: verify.eps: epsilon 8 must lie in [0, 1]"),
        ("train: {epochs: -3}", "train.epochs: input should be greater than or equal to 1, not -3"),
        ("train: {epochs: 3, milestones: [4]}", "train: milestones end at epoch 4"),
        ("train: 3", "x.yaml, line 1: train: "),
        ("data: {name: digit}", "x.yaml: data.name: there is no dataset 'digit'; did you mean digits?"),
        ("model: {name: cnn8}", "model.name: there is no network 'cnn8'; did you mean cnn7?"),
        ("train: {loss: {name: fsgm}}", "train.loss: "),
        ("train: {loss: {name: fgsm, options: {stp: 1}}}", "train.loss: "),
        (
            "train: {penalties: [{name: rz, weight: 1}]}",
            "x.yaml: train.penalties[0]: there is no penalty called",
        ),
        ("train: {penalties: [{name: nsr, weight: 1}]}", "did you mean nrs?"),
        (
            "train: {penalties: [{name: l1, weight: 1}, {name: fast_ibp, weight: 1, options: {tolerence: 1}}]}",
            "penalties[1]: there is no option of the penalty fast_ibp called 'tolerence'; did you mean tolerance",
        ),
        (
            "train: {penalties: [{name: rs, wieght: 1}]}",
            "train.penalties[0].wieght: no such setting; did you mean w",
        ),
        (
            "ladders: [{name: a, method: magnitud, keep: [0.5]}]",
            "ladders[0]: no pruning method is called 'magn",
        ),
        ("ladders: [{name: a, method: random, keep: [0.5], options: {x: 1}}]", "has no option 'x'"),
    ],
)
def test_a_mistake_is_named_on_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.parse(text, name="x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_dumped_reads_back_as_the_same_experiment() -> None:
    for name in presets.names():
        experiment = load.load(name)
        again = load.parse(load.dump(experiment))
        assert again == experiment
        assert again.digest() == experiment.digest()


def test_options_left_out_are_filled_in_and_count() -> None:
    implicit = load.parse("train: {loss: {name: fgsm}}")
    explicit = load.parse("train: {loss: {name: fgsm, options: {step: 1.25}}}")
    other = load.parse("train: {loss: {name: fgsm, options: {step: 1.0}}}")
    assert implicit.train.loss.options == {"step": 1.25}
    assert implicit.digest() == explicit.digest() != other.digest()


def test_options_of_penalties_are_filled_in_too() -> None:
    implicit = load.parse("train: {penalties: [{name: fast_ibp, weight: 0.5}, {name: l1, weight: 1e-5}]}")
    explicit = load.parse(
        "train: {penalties: [{name: fast_ibp, weight: 0.5, options: {tolerance: 0.5}}, {name: l1, weight: 0.00001}]}"
    )
    assert [p.options for p in implicit.train.penalties] == [{"tolerance": 0.5}, {}]
    assert implicit == explicit and implicit.digest() == explicit.digest()


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_can_be_configured(name: str) -> None:
    experiment = load.parse(f"train: {{loss: {{name: {name}}}}}")
    assert experiment.train.loss.options == losses.options(name)


def test_a_file_goes_before_a_preset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("seed: 5")
    assert load.load("demo").seed == 5


def test_a_missing_file_names_the_presets() -> None:
    with pytest.raises(ConfigError, match="demos: no such experiment file or preset; did you mean demo"):
        load.load("demos")
    with pytest.raises(ConfigError, match="`certiprune presets` lists the presets"):
        load.load("q/q/q")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load.load(file)
