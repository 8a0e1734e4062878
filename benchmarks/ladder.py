"""What verification costs along a pruning ladder: the same images on each round's network.

It takes checkpoints in the order of the ladder, or the folder of a run of ``certiprune run``, whose networks it reads.
For each round it prints one row: the weights that are left, the accuracy on these images, the multiply-adds before and
after ``compact``, the unstable neurons under CROWN's bounds (mean), the verdicts on the images that are classified
rightly, and seconds and subproblems for each image (means; one that is not decided costs what it was given). "Reduced"
counts the images that branch and bound took in their reduced form, of those that it was needed for.

    python benchmarks/ladder.py 0.safetensors 1.safetensors 2.safetensors --images images.npz --eps 0.05
    python benchmarks/ladder.py runs/fashion-mini --only magnitude --images images.npz --eps 0.05 --plot cost.svg
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from certiprune.cli import images as image_file
from certiprune.net import checkpoint, compact, lower
from certiprune.store import DENSE, Records, RunLayout
from certiprune.verify import Budget, Stage, Verdict, unstable_counts, verify
from certiprune.verify.relaxation import ReducedRelaxation


@dataclass(frozen=True)
class Row:
    """One round, as it is printed and written; times and nodes are means over the images."""

    network: str
    kept: str
    accuracy: str
    multiply_adds: int
    compacted: int
    unstable: str
    certified: int
    falsified: int
    unknown: int
    seconds: float
    nodes: float
    reduced: str


def networks(paths: list[Path], ladder: str | None) -> dict[str, Path]:
    """Names and checkpoints, in order."""
    if len(paths) > 1 or paths[0].suffix == ".safetensors":
        return {f"{path.parent.name}/{path.stem}": path for path in paths}
    layout = RunLayout(paths[0])
    with Records.open(layout.records, read_only=True) as records:
        rounds = [row for row in records.rounds() if ladder is None or row.ladder in (DENSE, ladder)]
    return {f"{row.ladder}/{row.round}": layout.round(row.ladder, row.round).model for row in rounds}


def measure(name: str, path: Path, x: Tensor, y: Tensor, eps: float, budget: Budget) -> Row:
    """Verify the images on one network."""
    found = checkpoint.load(path)
    network = lower(found.model, shape=found.spec.shape, mask=found.mask)
    small, removed = compact(network)
    unstable = sum(float(count.double().mean()) for count in unstable_counts(small, x, eps).values())
    with mock.patch.object(ReducedRelaxation, "of", wraps=ReducedRelaxation.of) as made:
        outcomes = list(verify(small, x, y, eps=eps, budget=budget, original=found.model))
    verdicts = [o.verdict for o in outcomes]
    searched = sum(o.stage in (Stage.BRANCHING, Stage.LEAF) for o in outcomes)
    wrong = verdicts.count(Verdict.MISCLASSIFIED)
    return Row(
        network=name,
        kept="100 %" if found.mask is None else f"{100 * found.mask.kept / found.mask.total:.0f} %",
        accuracy=f"{100 - 100 * wrong / len(x):.0f} %",
        multiply_adds=removed.before.multiply_adds,
        compacted=removed.after.multiply_adds,
        unstable=f"{unstable:.0f} of {small.neurons}",
        certified=verdicts.count(Verdict.CERTIFIED),
        falsified=verdicts.count(Verdict.FALSIFIED),
        unknown=verdicts.count(Verdict.UNKNOWN),
        seconds=round(sum(o.seconds for o in outcomes) / len(x), 2),
        nodes=round(sum(o.nodes for o in outcomes) / len(x), 1),
        reduced=f"{made.call_count} of {searched}",
    )


def plot(rows: list[Row], path: Path, title: str) -> None:
    """The seconds that an image takes, round by round, and how many images are left undecided."""
    from certiprune.report import canvas

    with canvas.style():
        figure, axes = canvas.new(canvas.WIDE, 3.0)
        place = range(len(rows))
        axes.bar(place, [row.seconds for row in rows], width=0.5, color="#8fb0d6")
        axes.set_xticks(place, [f"{row.kept}\n({row.unknown})" for row in rows])
        axes.set_xlabel("weights kept (images that stay undecided)")
        axes.set_ylabel("seconds an image")
        axes.set_title(title)
        figure.savefig(path, format="svg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ladder", type=Path, nargs="+", help="checkpoints in order, or one run's folder")
    parser.add_argument("--only", help="of a run's ladders, this one after the dense network")
    parser.add_argument("--images", type=Path, required=True, help="an npz file with x and y")
    parser.add_argument("--count", type=int, default=20, help="verify the first so many images")
    parser.add_argument("--eps", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit of an image")
    parser.add_argument("--nodes", type=int, default=2000, help="node limit of an image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="write the rows here")
    parser.add_argument("--plot", type=Path, help="draw the time along the rounds, as SVG")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = image_file.read(options.images).cut(0, options.count)
    x, y = torch.from_numpy(images.x), torch.from_numpy(images.y)
    budget = Budget(seconds=options.seconds, nodes=options.nodes)
    names = [field.name for field in fields(Row)]
    print("| " + " | ".join(name.replace("_", "-") for name in names) + " |\n" + "|---" * len(names) + "|")
    rows = []
    for name, path in networks(options.ladder, options.only).items():
        rows.append(measure(name, path, x, y, options.eps, budget))
        cells = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in asdict(rows[-1]).values())
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, rows))
    if options.plot:
        plot(rows, options.plot, f"Verification of {len(x)} images at eps {options.eps:g}")


if __name__ == "__main__":
    main()
