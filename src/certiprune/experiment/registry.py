"""The names that other rooms know: datasets, networks, losses, pruning methods, and their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from certiprune import data
from certiprune.core.errors import CertipruneError, ConfigError, hint
from certiprune.experiment import foresee
from certiprune.experiment.config import Experiment
from certiprune.experiment.known import DATA, OTHER
from certiprune.net import zoo
from certiprune.prune import scores
from certiprune.train import losses, penalties


def fill_in(experiment: Experiment, name: str) -> Experiment:
    """``experiment`` with every name looked up and every option of losses, penalties and methods written out.

    Args:
        name: what errors call the file.

    Raises:
        ConfigError: a name or an option is unknown, an option's value is refused, or a ladder's rounds would fail.
    """
    _known(experiment.data.name, data.names(), f"{name}: data.name", "dataset")
    _known(experiment.model.name, zoo.names(), f"{name}: model.name", "network")
    loss = experiment.train.loss
    options = _options(losses.build, loss.name, loss.options, f"{name}: train.loss")
    added = []
    for number, penalty in enumerate(experiment.train.penalties):
        place = f"{name}: train.penalties[{number}]"
        filled = _options(penalties.build, penalty.name, penalty.options, place)
        added.append(penalty.model_copy(update={"options": filled}))
    chosen = {"loss": loss.model_copy(update={"options": options}), "penalties": tuple(added)}
    train = experiment.train.model_copy(update=chosen)
    ladders = []
    for number, ladder in enumerate(experiment.ladders):
        place = f"{name}: ladders[{number}]"
        options = _options(scores.build, ladder.method, ladder.options, place)
        method = scores.build(ladder.method, **options)
        if ladder.granularity == "weights" and method.of_units:
            raise ConfigError(
                f"{place}: {ladder.method} ranks channels and neurons; set granularity: channels"
            )
        if ladder.granularity == "channels" and method.of_weights:
            raise ConfigError(f"{place}: {ladder.method} ranks weights only; set granularity: weights")
        ladders.append(ladder.model_copy(update={"options": options}))
    whole = experiment.model_copy(update={"train": train, "ladders": tuple(ladders)})
    images = DATA.get(experiment.data.name, OTHER)
    for number, ladder in enumerate(whole.ladders):
        try:
            foresee.check(whole, ladder, images, exact=experiment.data.name in DATA)
        except CertipruneError as error:
            raise ConfigError(f"{name}: ladders[{number}]: {error}") from error
    return whole


def _known(word: str, names: Sequence[str], place: str, what: str) -> None:
    if word not in names:
        raise ConfigError(f"{place}: there is no {what} {word!r}; {hint(word, names)}")


def _options(build: Callable[..., Any], word: str, given: dict[str, Any], place: str) -> dict[str, Any]:
    """All options of the loss, penalty or method ``word``: those that are given, and the defaults of the others."""
    try:
        built = build(word, **given)
    except CertipruneError as error:
        raise ConfigError(f"{place}: {error}") from error
    return {field.name: getattr(built, field.name) for field in fields(built)}
