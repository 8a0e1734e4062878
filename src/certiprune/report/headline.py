"""What a run found, in plain sentences: honest whichever way it goes."""

from __future__ import annotations

from collections.abc import Sequence

from certiprune.report.statistics import Proportion
from certiprune.report.summary import Round, Summary
from certiprune.report.tables import Comparison
from certiprune.report.words import p_value, percent


def interval(proportion: Proportion) -> str:
    """``31 % [23, 41]``: the value and its 95 % interval."""
    return f"{percent(proportion.value)} [{100 * proportion.low:.0f}, {100 * proportion.high:.0f}]"


def sentences(summary: Summary, found: Sequence[Comparison]) -> list[str]:
    """The headline of every ladder: its last completely verified round against the dense network.

    The last round is fixed by the experiment and not picked by its result on the test images.
    """
    dense = summary.dense
    if dense is None or dense.certified is None:
        return ["The dense network has not been verified completely yet, so nothing can be said of pruning."]
    last = {comparison.round.ladder: comparison for comparison in found}
    start = f"Certified accuracy on {len(dense.outcomes)} test images: dense {interval(dense.certified)}"
    if not last:
        return [f"{start}; no pruned network has been verified completely yet."]
    several = len(found) if len(found) > 1 else 0
    return [_ladder(start, comparison, several) for comparison in last.values()]


def _ladder(start: str, comparison: Comparison, several: int) -> str:
    pruned, pair = comparison.round, comparison.pair
    certified = pruned.certified
    assert certified is not None  # a comparison has images
    text = (
        f"{start}, after {pruned.row.method} pruning to {percent(pruned.remaining)} of the {pruned.row.unit} "
    )
    text += interval(certified)
    sign = "" if pair.p_value < 1e-4 else "= "
    text += f"; McNemar p {sign}{p_value(pair.p_value)} on {pair.images} shared images"
    if several:
        text += f" ({p_value(comparison.adjusted)} when adjusted for {several} comparisons)"
    return f"{text}. {_reading(comparison)}"


def _reading(comparison: Comparison) -> str:
    """What the test says, and no more."""
    pair = comparison.pair
    if not comparison.clear:
        return "The difference is within what chance explains."
    word = "raises" if pair.gain > 0 else "lowers"
    return f"Pruning {word} certified accuracy by more than chance explains."


def caution(summary: Summary, found: Sequence[Comparison]) -> str | None:
    """A warning where undecided images alone could explain a clear gain, else None."""
    dense = summary.dense
    last = {c.round.ladder: c for c in found if c.clear and c.pair.gain > 0}
    if dense is None or dense.upper is None or not last:
        return None
    doubtful = [c.round.name for c in last.values() if c.round.certified and _covers(dense, c.round)]
    if not doubtful:
        return None
    share = f"{dense.count('unknown')} of {len(dense.outcomes)} images"
    return (
        f"The dense network leaves {share} undecided, and its upper side ({percent(dense.upper.value)}) "
        f"reaches the certified accuracy of {', '.join(doubtful)}: part or all of the gain may be that the "
        "pruned network is easier to verify, and not that it is more robust."
    )


def _covers(dense: Round, pruned: Round) -> bool:
    return bool(dense.upper and pruned.certified and dense.upper.value >= pruned.certified.value)
