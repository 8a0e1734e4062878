"""How much is left after each round of pruning."""

from __future__ import annotations

from dataclasses import dataclass

from certiprune.core.errors import InputError


@dataclass(frozen=True)
class Ladder:
    """The rounds of a pruning run: after round k (counted from 1) the fraction ``keep[k - 1]`` is left.

    The fractions are of all prunable weights, lie between 0 and 1 and fall strictly.

    Raises:
        InputError: there is no round, or the fractions are not as said.
    """

    keep: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", tuple(self.keep))
        if not self.keep:
            raise InputError("a pruning ladder needs at least one round")
        above = 1.0
        for number, fraction in enumerate(self.keep, start=1):
            if not 0.0 < fraction < above:
                raise InputError(
                    f"round {number} of the pruning ladder keeps {fraction}: it must lie between 0 and "
                    f"{above}, what the round before kept"
                )
            above = fraction

    @staticmethod
    def geometric(rounds: int, rate: float) -> Ladder:
        """Rounds that remove the fraction ``rate`` of what is left: ``(1 - rate) ** k`` stays after round k.

        Raises:
            InputError: ``rounds`` is below 1, or ``rate`` is not between 0 and 1.
        """
        if rounds < 1:
            raise InputError(f"a pruning ladder needs at least one round, not {rounds}")
        if not 0.0 < rate < 1.0:
            raise InputError(
                f"the pruning rate {rate} must lie between 0 and 1: it is the fraction removed a round"
            )
        return Ladder(tuple((1.0 - rate) ** k for k in range(1, rounds + 1)))

    @property
    def rounds(self) -> int:
        return len(self.keep)

    def counts(self, total: int) -> tuple[int, ...]:
        """How many of ``total`` weights or channels are kept after each round.

        Strictly falling from below ``total``: each count is the rounded share, or one less than the count
        before where rounding would make them equal.

        Raises:
            InputError: so few cannot be pruned so often.
        """
        counts: list[int] = []
        left = total
        for number, fraction in enumerate(self.keep, start=1):
            left = min(round(fraction * total), left - 1)
            if left < 1:
                raise InputError(
                    f"{total} weights or channels are too few: round {number} of the pruning ladder would "
                    "keep none; use fewer rounds or a lower rate"
                )
            counts.append(left)
        return tuple(counts)
