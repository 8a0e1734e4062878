"""A table of training schemes from finished runs: one row for each run's dense network.

    python benchmarks/results.py runs/mnist-0.3/* runs/fashion-0.1/*

Numbers in brackets are 95 % Wilson score intervals, in per cent: over all test images for what is cheap to measure,
over the verified images for what is proved. They cover the choice of images, not the randomness of training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from certiprune.report.statistics import Proportion
from certiprune.store import OutcomeRow, Records

COLUMNS = (
    "setting", "scheme", "seed", "standard", "PGD", "IBP", "CROWN-IBP", "certified", "upper side", "images verified",
    "unknown", "unstable", "training min", "s an image",
)  # fmt: skip

# Options that move a scheme from adversarial to certified training: rows say them.
SHARES = ("alpha", "ratio")
# Penalties whose weight is a choice; that of fast_ibp is its paper's and falls to 0.
STABLE = ("rs", "nrs", "slimming", "l1")


def row(folder: Path) -> list[str] | None:
    """The cells of one run; None where its dense network is not verified yet."""
    with Records.open(folder / "results.sqlite", read_only=True) as records:
        if not records.stage_done("dense/0/verify"):
            return None
        config, (network,) = records.meta()["config"], records.rounds("dense")
        outcomes: Sequence[OutcomeRow] = records.outcomes("dense", 0)
        seconds = sum(epoch.seconds for epoch in records.epochs("dense", 0))
    counts = {
        v: sum(o.verdict == v for o in outcomes)
        for v in ("certified", "falsified", "misclassified", "unknown")
    }
    n, train = len(outcomes), config["train"]
    shares = [f" ({name} {value:g})" for name, value in train["loss"]["options"].items() if name in SHARES]
    penalties = [p["name"] + f" ({p['weight']:g})" * (p["name"] in STABLE) for p in train["penalties"]]
    scheme = "+".join([train["loss"]["name"] + "".join(shares), *penalties])
    upper = n - counts["falsified"] - counts["misclassified"]
    measured = (
        network.standard_accuracy,
        network.pgd_accuracy,
        network.ibp_accuracy,
        network.crown_accuracy,
    )
    return [
        f"{config['data']['name']} {train['eps']:.4g}, {config['model']['name']} x {config['model']['width']:g}",
        scheme,
        str(config["seed"]),
        *(_share(round(value * network.test_images), network.test_images) for value in measured),
        _share(counts["certified"], n),
        _share(upper, n),
        str(n),
        str(counts["unknown"]),
        f"{network.unstable / network.relus:.1%}",
        f"{seconds / 60:.1f}",
        f"{sum(o.seconds for o in outcomes) / n:.2f}",
    ]


def _share(k: int, n: int) -> str:
    share = Proportion(k, n)
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for folder in parser.parse_args().runs:
        cells = row(folder)
        if cells is not None:
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
