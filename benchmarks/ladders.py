"""One page about finished runs that no sweep made: the study's table, comparisons, tickets and figures.

    python benchmarks/ladders.py runs/fashion-ladders/* --out runs/fashion-ladders

Runs with the same loss are taken together, so that methods with a penalty of their own stand beside the others; they
must have verified the same images. A folder is called by its name. See docs/statistics.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from certiprune.report import sweep
from certiprune.report.summary import read
from certiprune.store import RunLayout


def cell(folder: Path) -> sweep.Cell:
    """The run at ``folder`` as a cell: its loss, its folder's name, its seed."""
    config = read(RunLayout(folder).records).meta["config"]
    return config["train"]["loss"]["name"], folder.name, config["seed"], folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--out", type=Path, required=True, help="where report.html and tables/ are written")
    parser.add_argument("--margin", type=float, default=0.02, help="of lottery tickets, 0.02: two points")
    given = parser.parse_args()
    runs = [folder for folder in given.runs if RunLayout(folder).records.exists()]
    print(sweep.write(given.out, map(cell, runs), claim=sweep.Claim(given.margin)))


if __name__ == "__main__":
    main()
