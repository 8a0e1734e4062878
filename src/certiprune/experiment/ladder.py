"""The section of an experiment file that says how a network is pruned, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from certiprune.core.errors import CertipruneError
from certiprune.experiment.settings import Count, Kept, Name, Options, Positive, Section, decreasing
from certiprune.prune import schedule
from certiprune.train import Plan


class Ladder(Section):
    """One method's way down.

    Which weights or channels go is said by ``method`` with its ``options``, ``granularity``, ``layers`` and ``scope``;
    see ``prune.prune``.

    ``keep`` is the fraction of them that each round keeps; ``rate`` and ``rounds`` in its place stand for rounds that
    remove the fraction ``rate`` of what is left. ``mode`` says what a round is pruned from: the network of the round
    before (``iterative``) or the dense one (``one-shot``: every round a target of its own). With ``source``, the name
    of an earlier ladder with as many rounds, it is that ladder's network of the same round, as structured tickets from
    unstructured ones are made.

    ``scored`` says with which weights the method looks at that network: ``trained``, or those that ``rewind`` goes back
    to (``rewound``: pruning before training, as SNIP, GraSP and SynFlow were meant).

    ``rewind`` says from where the pruned network is trained: with ``initial`` from the untrained weights, with a number
    from the dense network's after that many epochs, with ``learning_rate`` from the weights that were pruned, each with
    the whole schedule of ``train``; with ``finetune`` from the weights that were pruned, at the schedule's last
    learning rate and the final eps. ``epochs`` and ``learning_rate`` change the length and the rate of finetuning.
    """

    name: Name
    method: str
    options: Options = Field(default_factory=dict)
    granularity: Literal["weights", "channels"] = "weights"
    layers: Literal["convolutions", "linear", "all"] = "convolutions"
    scope: Literal["global", "layer"] = "global"
    keep: Annotated[tuple[Kept, ...], Field(min_length=1), AfterValidator(decreasing)]
    mode: Literal["iterative", "one-shot"] = "iterative"
    source: Name | None = None
    scored: Literal["trained", "rewound"] = "trained"
    rewind: Literal["initial", "learning_rate", "finetune"] | Count = "initial"
    epochs: Count | None = None
    learning_rate: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _rate_and_rounds(cls, value: Any) -> Any:
        """``rate`` and ``rounds`` written out as ``keep``."""
        if not isinstance(value, dict) or not {"rate", "rounds"} & value.keys():
            return value
        rest = {key: item for key, item in value.items() if key not in ("rate", "rounds")}
        if "keep" in value or not {"rate", "rounds"} <= value.keys():
            raise ValueError("needs either keep, or rate and rounds")
        rate, rounds = value["rate"], value["rounds"]
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise ValueError(f"rate must be a number between 0 and 1, not {rate!r}")
        if isinstance(rounds, bool) or not isinstance(rounds, int):
            raise ValueError(f"rounds must be a whole number, not {rounds!r}")
        try:
            return rest | {"keep": schedule.Ladder.geometric(rounds, float(rate)).keep}
        except CertipruneError as error:
            raise ValueError(str(error)) from error

    @field_validator("name")
    @classmethod
    def _not_dense(cls, value: str) -> str:
        if value == "dense":
            raise ValueError("is taken by the network that is not pruned; choose another name")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) is not None and self.rewind != "finetune":
                raise ValueError(f"{name} is for rewind: finetune; otherwise training is as train says")
        if self.source is not None and self.mode == "one-shot":
            raise ValueError("has a source, so mode one-shot has no meaning: leave one of them out")
        if self.scored == "rewound" and self.rewind in ("learning_rate", "finetune"):
            raise ValueError(f"scored: rewound needs weights to go back to, and rewind is {self.rewind}")
        return self

    def check(self, plan: Plan, before: Mapping[str, Ladder]) -> None:
        """See that this ladder fits to a dense network trained by ``plan`` and to the ladders before it.

        Raises:
            ValueError: it does not.
        """
        if isinstance(self.rewind, int) and self.rewind > plan.epochs:
            raise ValueError(f"ladder {self.name} rewinds to epoch {self.rewind} of {plan.epochs}")
        self.plan(plan)
        if self.source is None:
            return
        if self.source not in before:
            known = f"choose one of {', '.join(before)}" if before else "there is none"
            raise ValueError(f"ladder {self.name}: no ladder before it is called {self.source}; {known}")
        source = before[self.source]
        if len(source.keep) != len(self.keep):
            raise ValueError(
                f"ladder {self.name} has {len(self.keep)} rounds and its source {self.source} {len(source.keep)}"
            )
        if (source.granularity, source.layers) != (self.granularity, self.layers):
            return
        for number, (least, most) in enumerate(zip(self.keep, source.keep, strict=True), start=1):
            if least > most:
                raise ValueError(
                    f"round {number} of ladder {self.name} keeps {least}, more than the {most} that its source "
                    f"{self.source} has left"
                )

    def plan(self, plan: Plan) -> Plan:
        """How a round trains, where the dense network trains by ``plan``.

        Raises:
            ValueError: finetuning after a cosine, which ends at 0, without a learning rate.
        """
        if self.rewind != "finetune":
            return plan
        rate = self.learning_rate
        if rate is None and plan.rate_shape == "cosine":
            raise ValueError(f"ladder {self.name}: the cosine ends at 0, so finetuning needs a learning_rate")
        return replace(
            plan,
            epochs=self.epochs or plan.epochs,
            learning_rate=plan.rates.at(plan.epochs) if rate is None else rate,
            rate_shape="milestones",
            milestones=(),
            warm_up=0,
            eps_shape="constant",
            eps_start=0,
            eps_length=0,
        )
