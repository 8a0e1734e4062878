"""Tables of pruning methods from finished runs of one training: networks, and which differences are significant.

    python benchmarks/ladders.py runs/fashion-ladders/fgsm*

Runs are taken together, so that methods with a training of their own (with a penalty) stand beside the others; they
must have verified the same images. Numbers in brackets are 95 % Wilson score intervals. Certified images are compared
by the exact McNemar test on the same images: each network with the dense one of its own run, and with the network of
the ladder `imp` at the same round. P-values are adjusted for all comparisons of the page (Holm). All this covers the
choice of images, not the randomness of training.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from certiprune.report.statistics import Paired, Proportion, holm, paired
from certiprune.report.summary import Round, Summary, read

HEAD = (
    "ladder", "left", "standard", "PGD", "certified", "upper side", "unknown", "unstable", "multiply-adds compacted",
    "against dense", "against imp",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A network with its two comparisons."""

    name: str
    network: Round
    dense: Paired | None
    imp: Paired | None


def rows(summaries: list[Summary]) -> list[Row]:
    """Every completely verified network of all runs."""
    imp = {r.number: r for s in summaries for r in s.rounds if r.ladder == "imp" and r.complete}
    found = []
    for summary in summaries:
        penalties = "+".join(p["name"] for p in summary.meta["config"]["train"]["penalties"])
        for network in summary.rounds:
            if not network.complete:
                continue
            start, rival = summary.dense, imp.get(network.number)
            pruned = network is not start
            against = paired(start.proved, network.proved) if pruned and start and start.complete else None
            beside = paired(rival.proved, network.proved) if rival and rival is not network else None
            name = network.ladder if pruned or not penalties else f"dense with {penalties}"
            found.append(Row(name, network, against, beside if pruned else None))
    return found


def table(found: list[Row]) -> list[str]:
    """The lines of a Markdown table, by what is left."""
    pairs = [pair for row in found for pair in (row.dense, row.imp) if pair]
    adjusted = dict(zip(map(id, pairs), holm([pair.p_value for pair in pairs]), strict=True))
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in sorted(found, key=lambda row: -row.network.remaining):
        r = row.network
        cells = [
            row.name,
            f"{r.remaining:.3g} {r.row.unit}" if r.row.kept < r.row.total else "all",
            _share(r.standard),
            _share(r.pgd),
            _share(r.certified),
            _share(r.upper),
            str(r.count("unknown")),
            f"{r.row.unstable / r.row.relus:.1%}",
            f"{r.row.compact_multiply_adds:,}",
            _difference(row.dense, adjusted),
            _difference(row.imp, adjusted),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _share(share: Proportion | None) -> str:
    return (
        "-" if share is None else f"{100 * share.value:.1f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    )


def _difference(pair: Paired | None, adjusted: dict[int, float]) -> str:
    """The gain in points; in bold where it is significant."""
    if pair is None:
        return "-"
    p = adjusted[id(pair)]
    gain = f"{100 * pair.gain:+.1f}"
    return f"{f'**{gain}**' if p < 0.05 else gain} (p {p:.2g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    found = rows([read(folder / "results.sqlite") for folder in parser.parse_args().runs])
    print("\n".join(table(found)))
    clear = sum(pair is not None for row in found for pair in (row.dense, row.imp))
    print(f"\n{len(found)} networks, {clear} comparisons.")


if __name__ == "__main__":
    main()
