"""Ladders: short forms, what fits together, and how a round trains."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from certiprune.core.errors import ConfigError
from certiprune.experiment import load
from certiprune.experiment.config import Experiment
from certiprune.experiment.ladder import Ladder
from certiprune.experiment.steps.work import Work
from certiprune.train import Plan


def ladder(**settings: Any) -> Ladder:
    return Ladder.model_validate({"name": "a", "method": "magnitude", "keep": [0.5, 0.2], **settings})


def test_rate_and_rounds_stand_for_what_they_keep() -> None:
    short = Ladder.model_validate({"name": "a", "method": "magnitude", "rate": 0.2, "rounds": 16})
    assert len(short.keep) == 16
    assert short.keep == pytest.approx([0.8**k for k in range(1, 17)])
    assert short == ladder(keep=short.keep)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.2, "rounds": 2, "keep": [0.5]}, "either keep, or rate and rounds"),
        ({"rate": 0.2, "keep": None}, "either keep, or rate and rounds"),
        ({"rate": 1.2, "rounds": 2}, "1.2 must lie between 0 and 1"),
        ({"rate": "fast", "rounds": 2}, "rate must be a number"),
        ({"rate": 0.2, "rounds": True}, "rounds must be a whole number"),
        ({"rate": 0.2, "rounds": 0}, "at least one round"),
        ({"rewind": "none"}, "'initial', 'learning_rate' or 'finetune'"),
        ({"epochs": 3}, "epochs is for rewind: finetune"),
        ({"rewind": 1, "learning_rate": 0.1}, "learning_rate is for rewind: finetune"),
        ({"source": "b", "mode": "one-shot"}, "has no meaning"),
        ({"scored": "rewound", "rewind": "finetune"}, "rewind is finetune"),
        ({"granularity": "neurons"}, "'weights' or 'channels'"),
        ({"layers": "dense"}, "'convolutions', 'linear' or 'all'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    base = {"name": "a", "method": "magnitude"} | ({} if "rate" in settings else {"keep": [0.5]})
    given = {key: value for key, value in (base | settings).items() if value is not None}
    with pytest.raises(ValidationError, match=message):
        Ladder.model_validate(given)


@pytest.mark.parametrize(
    ("ladders", "message"),
    [
        ([{"name": "b", "source": "a"}, {"name": "a"}], "no ladder before it is called a; there is none"),
        ([{"name": "a"}, {"name": "b", "source": "c"}], "is called c; choose one of a"),
        ([{"name": "a", "keep": [0.5]}, {"name": "b", "source": "a"}], "has 2 rounds and its source a 1"),
        (
            [{"name": "a"}, {"name": "b", "source": "a", "keep": [0.5, 0.3]}],
            "round 2 of ladder b keeps 0.3, more than the 0.2 that its source a has left",
        ),
    ],
)
def test_a_source_is_an_earlier_ladder_with_as_many_rounds(
    ladders: list[dict[str, Any]], message: str
) -> None:
    given = [{"method": "magnitude", "keep": [0.5, 0.2]} | settings for settings in ladders]
    with pytest.raises(ValidationError, match=message):
        Experiment.model_validate({"ladders": given})


def test_what_a_source_counts_otherwise_may_be_more() -> None:
    source = {"name": "a", "method": "magnitude", "keep": [0.5, 0.2]}
    for other in ({"granularity": "channels"}, {"layers": "all"}):
        given = [source, source | other | {"name": "b", "source": "a", "keep": [0.8, 0.3]}]
        Experiment.model_validate({"ladders": given})


def test_a_method_and_what_it_can_rank_go_together() -> None:
    text = "ladders: [{name: a, method: %s, granularity: %s, keep: [0.5]}]"
    for method, wrong, right in (("hydra", "channels", "weights"), ("slim", "weights", "channels")):
        with pytest.raises(ConfigError, match=rf"ladders\[0\]: {method} ranks .* set granularity: {right}"):
            load.parse(text % (method, wrong))
        load.parse(text % (method, right))


def test_finetuning_goes_on_at_the_last_rate_and_the_final_eps() -> None:
    plan = Plan(10, learning_rate=0.1, milestones=(5, 8), warm_up=2, eps=0.1, eps_start=1, eps_length=4)
    tuned = ladder(rewind="finetune", epochs=3).plan(plan)
    assert tuned.epochs == 3
    assert [tuned.rates.at(t) for t in (0, 2.9)] == pytest.approx([0.001] * 2)
    assert [tuned.schedule.at(t) for t in (0, 3)] == [0.1, 0.1]
    assert ladder(rewind="finetune", learning_rate=0.5).plan(plan).rates.at(0) == 0.5
    assert ladder(rewind="finetune").plan(plan).epochs == 10
    assert ladder(rewind="learning_rate").plan(plan) == plan
    assert ladder().plan(plan) == plan


def test_finetuning_after_a_cosine_needs_a_rate() -> None:
    tuned = {"name": "a", "method": "magnitude", "keep": [0.5], "rewind": "finetune"}
    content = {"train": {"rate_shape": "cosine"}, "ladders": [tuned]}
    with pytest.raises(ValidationError, match="the cosine ends at 0"):
        Experiment.model_validate(content)
    content["ladders"] = [tuned | {"learning_rate": 0.01}]
    Experiment.model_validate(content)


def test_what_each_round_is_pruned_from() -> None:
    imp = ladder(name="imp")
    shots, tickets = ladder(name="shots", mode="one-shot"), ladder(name="tickets", source="imp")
    experiment = Experiment(ladders=(imp, shots, tickets))
    dense = Work(None, 0)
    assert [Work(imp, k).before(experiment) for k in (1, 2)] == [dense, Work(imp, 1)]
    assert [Work(shots, k).before(experiment) for k in (1, 2)] == [dense, dense]
    assert [Work(tickets, k).before(experiment) for k in (1, 2)] == [Work(imp, 1), Work(imp, 2)]


def test_a_file_with_the_short_form_gives_the_same_identity() -> None:
    text = "ladders: [{name: a, method: magnitude, %s}]"
    short, long = (load.parse(text % t) for t in ("rate: 0.5, rounds: 2", f"keep: {[0.5, 0.25]}"))
    assert short.digest() == long.digest()
    assert load.parse(load.dump(short)) == short
    with pytest.raises(ConfigError, match=r"ladders\[0\]"):
        load.parse(text % "rate: 0.5")
