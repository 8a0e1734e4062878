"""The networks of a run in a few lines, for the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from certiprune.cli.words import aligned
from certiprune.store import Records, RunLayout

HEAD = (
    "network",
    "weights",
    "accuracy",
    "PGD",
    "IBP",
    "CROWN",
    "certified",
    "falsified",
    "unknown",
    "unstable",
)


def table(folder: Path) -> list[str]:
    """One line per network: what is left of it, accuracies (by bounds, too), verdicts, unstable neurons per image."""
    with Records.open(RunLayout(folder).records, read_only=True) as records:
        lines: list[tuple[str, ...]] = [HEAD]
        for row in records.rounds():
            verdicts = Counter(str(outcome.verdict) for outcome in records.outcomes(row.ladder, row.round))
            count = max(sum(verdicts.values()), 1)
            shares = [verdicts[verdict] / count for verdict in ("certified", "falsified", "unknown")]
            lines.append(
                (
                    f"{row.ladder} {row.round}" if row.round else row.ladder,
                    f"{row.kept / row.total:.1%}",
                    f"{row.standard_accuracy:.1%}",
                    f"{row.pgd_accuracy:.1%}",
                    f"{row.ibp_accuracy:.1%}",
                    f"{row.crown_accuracy:.1%}",
                    *(f"{share:.1%}" for share in shares),
                    f"{row.unstable:.0f} of {row.relus}",
                )
            )
    return aligned(lines)
