"""The presets, and experiments that are put on top of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from certiprune.cli.experiments import _folder
from certiprune.core.errors import ConfigError
from certiprune.experiment import load, presets
from certiprune.experiment.config import Loss, Penalty
from certiprune.prune import scores
from certiprune.train.losses import build

SETTINGS = {
    "mnist-0.1": ("mnist", "cnn_small", 1.0, 0.1),
    "mnist-0.3": ("mnist", "cnn_small", 1.0, 0.3),
    "fashion-0.1": ("fashion_mnist", "cnn_small", 1.0, 0.1),
    "cifar-2": ("cifar10", "cnn_small", 1.0, 2 / 255),
}
SCHEMES = ["natural", "gradalign", "n_fgsm", "pgd", "ibp", "fast_ibp", "crown_ibp", "sabr", "mtl_ibp"]
LADDERS = [
    f"fashion-ladders/{loss}{penalty}"
    for loss in ("fgsm", "crown_ibp")
    for penalty in ("", "+rs", "+nrs", "+slim")
]
STABLE = [("n_fgsm", "rs"), ("n_fgsm", "nrs"), ("crown_ibp", "nrs")]
WIDE = "fashion-0.1/ibp-cnn7"
PAIRS = [(setting, scheme) for setting in SETTINGS for scheme in SCHEMES]


def test_there_is_one_for_every_setting_and_scheme() -> None:
    assert presets.names()[:2] == ["demo", "fashion-mini"]
    assert presets.names()[2:] == sorted(
        [
            *(f"{setting}/{scheme}" for setting, scheme in PAIRS),
            *(f"fashion-0.1/{scheme}+{penalty}" for scheme, penalty in STABLE),
            *LADDERS,
            WIDE,
        ]
    )
    assert set(SETTINGS) | set(SCHEMES) | {"rs", "nrs"} <= set(presets.parts())


@pytest.mark.parametrize(("scheme", "penalty"), STABLE)
def test_a_stability_loss_comes_on_top_of_a_preset(scheme: str, penalty: str) -> None:
    plain = load.load(f"fashion-0.1/{scheme}")
    stable = load.load(f"fashion-0.1/{scheme}+{penalty}")
    (added,) = stable.train.penalties
    assert (added.name, added.weight) == (penalty, 0.01)
    assert stable.train.model_copy(update={"penalties": ()}) == plain.train
    assert (stable.data, stable.model, stable.verify) == (plain.data, plain.model, plain.verify)


@pytest.mark.parametrize(("setting", "scheme"), PAIRS)
def test_a_preset_is_its_setting_with_its_scheme(setting: str, scheme: str) -> None:
    experiment = load.load(f"{setting}/{scheme}")
    data, model, width, eps = SETTINGS[setting]
    train = experiment.train
    assert (experiment.data.name, experiment.model.name, experiment.model.width) == (data, model, width)
    assert train.eps == experiment.verify.eps == eps
    assert train.loss.name == ("ibp" if scheme == "fast_ibp" else scheme)
    epochs, rise = (70, 30) if setting == "mnist-0.3" else (30, 14)
    assert train.epochs == epochs and not experiment.ladders
    assert (experiment.verify.images, experiment.verify.seconds) == (200, 20)
    certified = build(train.loss.name).certified
    assert train.optimizer == ("adam" if certified else "sgd")
    assert train.learning_rate == (1e-3 if certified else 0.05)
    warm = scheme in ("fast_ibp", "sabr", "mtl_ibp")
    assert experiment.model.initial == ("ibp" if warm else "default")
    penalty = Penalty(name="fast_ibp", weight=0.5, options={"tolerance": 0.5})
    assert train.penalties == ((penalty,) if warm else ())
    if scheme != "natural":
        assert (train.eps_start, train.eps_length, train.eps_shape) == (1, rise, "smoothed")


def test_the_wider_network_is_the_studys_at_half_its_width() -> None:
    small, wide = load.load("fashion-0.1/ibp"), load.load(WIDE)
    assert (wide.model.name, wide.model.width, wide.train.batch_size) == ("cnn7", 0.5, 128)
    assert small == wide.model_copy(
        update={"model": small.model, "train": wide.train.model_copy(update={"batch_size": 256})}
    )


def test_options_that_depend_on_the_setting() -> None:
    ratios = {s: load.load(f"{s}/sabr").train.loss.options["ratio"] for s in SETTINGS}
    assert ratios == {"mnist-0.1": 0.4, "mnist-0.3": 0.6, "fashion-0.1": 0.4, "cifar-2": 0.1}
    alphas = {s: load.load(f"{s}/mtl_ibp").train.loss.options["alpha"] for s in SETTINGS}
    assert alphas == {"mnist-0.1": 0.02, "mnist-0.3": 0.5, "fashion-0.1": 0.2, "cifar-2": 0.01}


def test_no_two_presets_are_the_same_experiment() -> None:
    assert len({load.load(name).digest() for name in presets.names()}) == len(presets.names())


def test_a_file_on_a_base_holds_only_what_differs() -> None:
    base = load.load("mnist-0.3/sabr")
    changed = load.parse("base: mnist-0.3/sabr\nseed: 1\ntrain: {epochs: 80, loss: {name: ibp}}")
    assert changed.seed == 1 and changed.train.epochs == 80
    # A setting is taken whole: nothing of the other loss's options is left.
    assert changed.train.loss == Loss(name="ibp", options={"natural": 0.0})
    assert changed.train.penalties == base.train.penalties and changed.model == base.model
    assert load.parse("base: mnist-0.3/sabr") == base
    assert load.parse(load.dump(changed)) == changed


def test_later_bases_go_over_earlier_ones() -> None:
    assert load.parse("base: [mnist-0.3, certified, descent]").train.optimizer == "sgd"
    assert load.parse("base: [mnist-0.3, descent, certified]").train.optimizer == "adam"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: mnist-0.3/igb",
            "x.yaml: base: there is no preset 'mnist-0.3/igb'; did you mean mnist-0.3/ibp?",
        ),
        ("base: [demo, certifed]", "did you mean certified?"),
        ("base: {demo: 1}", "base: there is no preset None; name presets, such as demo"),
        (
            "base: demo\nladders: [{name: {a: 1}}]",
            "x.yaml, line 2: ladders[2].name: input should be a valid string",
        ),
        (
            "base: demo\nladders: [{name: random, keep: [0.5]}, {name: random, method: snip, keep: [0.1]}]",
            "two ladders are called random",
        ),
        ("base: [3]", "there is no preset 3; name presets"),
        (
            "base: demo\ntrain: {epohcs: 3}",
            "x.yaml, line 2: train.epohcs: no such setting; did you mean epochs?",
        ),
        ("base: mnist-0.3/ibp\ntrain: {epochs: 3}", "x.yaml, line 2: train: milestones end at epoch 63"),
    ],
)
def test_mistakes_around_a_base_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.parse(text, name="x.yaml")
    assert message in str(caught.value)


def test_a_presets_folder_has_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _folder("mnist-0.3/ibp", None) == Path("runs/mnist-0.3/ibp")
    assert _folder("demo", None) == Path("runs/demo")
    assert _folder("mine/x.yaml", None) == Path("runs/x")
    assert _folder("mnist-0.3/ibp", Path("there")) == Path("there")


def test_ladders_and_penalties_of_bases_add_up() -> None:
    one = load.parse("base: [mnist-0.1, fast_ibp, imp, imp+rs]")
    assert [ladder.name for ladder in one.ladders] == ["imp", "imp+rs"]
    assert [(p.name, p.weight) for p in one.train.penalties] == [("fast_ibp", 0.5), ("rs", 0.01)]
    changed = load.parse(
        "base: [mnist-0.1, fast_ibp, imp]\n"
        "train: {penalties: [{name: fast_ibp, weight: 0.1}]}\n"
        "ladders: [{name: imp, keep: [0.3, 0.1]}]"
    )
    assert [(p.name, p.weight) for p in changed.train.penalties] == [("fast_ibp", 0.1)]
    assert changed.ladders[0].keep == (0.3, 0.1) and changed.ladders[0].method == "magnitude"
    none = load.parse("base: [mnist-0.1, fast_ibp, imp]\ntrain: {penalties: []}\nladders: []")
    assert not none.ladders and not none.train.penalties
    assert load.parse("base: [mnist-0.1, imp]\nladders: [{name: imp, rate: 0.5, rounds: 1}]").ladders[
        0
    ].keep == (0.5,)


def test_the_ladders_compare_every_method_at_the_same_sparsities() -> None:
    for loss in ("fgsm", "crown_ibp"):
        runs = [load.load(name) for name in LADDERS if name.startswith(f"fashion-ladders/{loss}")]
        assert {run.train.loss.name for run in runs} == {loss}
        ladders = [ladder for run in runs for ladder in run.ladders]
        assert {ladder.keep for ladder in ladders} == {(0.4, 0.15)}
        assert {ladder.method for ladder in ladders} == {*scores.names()} - {"rs"}
        # One dense training apart from the penalty.
        plain = [run.train.model_copy(update={"penalties": ()}) for run in runs]
        assert all(train == plain[0] for train in plain)
