"""Compare ``certiprune verify`` with a peer's answers and times on public instances.

Each set is one process of the command line: start-up and memory count as a user meets them.
The folder given by ``--shared`` holds ``benchmarks/<set>/{model.onnx, images.npz}``, ``peers/<set>.csv`` with the
columns ``set,index,verdict,seconds,stage,domains``, and ``peers.md`` with a table that has a row a set and a column
``whole process, s``. A peer's start-up is its whole process minus its rows. All its times are scaled by ``--scale``
(the figure of the calibration here over the one there).

    python benchmarks/verify.py --csv verdicts.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

COLUMNS = ("set", "index", "verdict", "stage", "seconds", "nodes", "peer_verdict", "peer_seconds")
DECIDED = ("certified", "falsified", "misclassified")
HEAD = (
    "rows",
    "certified",
    "falsified",
    "unknown",
    "decided against peer",
    "contradictions",
    "s on peer's decided rows",
    "peer's s",
    "ratio",
    "start-up s",
    "peer's start-up s",
    "s with start-up",
    "peer's s with start-up",
    "ratio with start-up",
    "median ratio of hard rows",
    "subproblems a second",
    "peer's subproblems a second",
    "whole process s",
    "peak MB",
)
PROCESS = "whole process, s"
# Subproblems of the peer from which on a row that it decides by branching counts as hard.
HARD = 100


@dataclass(frozen=True)
class Run:
    """One process: its rows, wall time and peak memory."""

    rows: list[dict[str, str]]
    seconds: float
    peak_mb: float


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verify(folder: Path, rows: int, timeout: float, threads: int) -> Run:
    """Run the command line on the first ``rows`` images of a set."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "rows.csv"
        command = [sys.executable, "-m", "certiprune", "verify", str(folder / "model.onnx")]
        command += ["--images", str(folder / "images.npz"), "--start", "0", "--end", str(rows)]
        command += ["--timeout", str(timeout), "--threads", str(threads), "--csv", str(out)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        error = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command)} failed:\n{error}")
        return Run(read(out), seconds, usage.ru_maxrss / 1024)


def same(ours: str, peer: str) -> bool:
    """Whether two verdicts agree; a misclassified image counts as falsified for the peer."""
    return ours == peer or (ours == "misclassified" and peer == "falsified")


def processes(page: Path) -> dict[str, float]:
    """Seconds of the peer's whole process by set, from the table of a Markdown page; empty without one."""
    if not page.is_file():
        return {}
    table = [text.strip("| \n").split("|") for text in page.open(encoding="utf-8") if text.startswith("|")]
    head, *rows = [[cell.strip() for cell in cells] for cells in table]
    column = head.index(PROCESS)
    return {row[0]: float(row[column]) for row in rows if len(row) == len(head) and row[column][:1].isdigit()}


@dataclass(frozen=True)
class Pair:
    """One image: our row and the peer's, whose seconds are scaled."""

    ours: dict[str, str]
    theirs: dict[str, str]
    seconds: float
    peer_seconds: float

    @property
    def decided(self) -> bool:
        return self.ours["verdict"] in DECIDED

    @property
    def known(self) -> bool:
        return self.theirs["verdict"] in DECIDED

    @property
    def hard(self) -> bool:
        """Whether the peer decided it with a search worth the name."""
        return self.known and self.theirs["stage"] == "branching" and int(self.theirs["domains"]) >= HARD


@dataclass
class Tally:
    """What one line of the table says, of one set or of several."""

    pairs: list[Pair]
    startup: float
    peer_startup: float
    whole: float
    peak_mb: float

    def cells(self) -> list[str]:
        pairs = self.pairs
        count = {v: sum(p.ours["verdict"] == v for p in pairs) for v in (*DECIDED, "unknown")}
        ours = sum(p.seconds for p in pairs if p.known)
        theirs = sum(p.peer_seconds for p in pairs if p.known)
        gained = sum(p.decided and not p.known for p in pairs)
        lost = sum(p.known and not p.decided for p in pairs)
        both = [p for p in pairs if p.decided and p.known]
        contradictions = sum(not same(p.ours["verdict"], p.theirs["verdict"]) for p in both)
        hard = [p.seconds / p.peer_seconds for p in pairs if p.hard]
        searched = [p for p in pairs if p.ours["stage"] in ("branching", "leaf")]
        peer_searched = [p for p in pairs if p.theirs["stage"] == "branching"]
        nodes = sum(int(p.ours["nodes"]) for p in searched)
        domains = sum(int(p.theirs["domains"]) for p in peer_searched)
        with_startup = ours + self.startup, theirs + self.peer_startup
        return [
            str(len(pairs)),
            str(count["certified"]),
            str(count["falsified"] + count["misclassified"]),
            str(count["unknown"]),
            f"+{gained} -{lost}",
            str(contradictions),
            f"{ours:.1f}",
            f"{theirs:.1f}",
            f"{ratio(ours, theirs):.2f}",
            f"{self.startup:.1f}",
            f"{self.peer_startup:.1f}",
            f"{with_startup[0]:.1f}",
            f"{with_startup[1]:.1f}",
            f"{ratio(*with_startup):.2f}",
            f"{median(hard):.3f} ({len(hard)})" if hard else "- (0)",
            f"{ratio(nodes, sum(p.seconds for p in searched)):.0f}",
            f"{ratio(domains, sum(p.peer_seconds for p in peer_searched)):.0f}",
            f"{self.whole:.0f}",
            f"{self.peak_mb:.0f}",
        ]

    @staticmethod
    def together(tallies: list[Tally]) -> Tally:
        return Tally(
            [pair for tally in tallies for pair in tally.pairs],
            sum(tally.startup for tally in tallies),
            sum(tally.peer_startup for tally in tallies),
            sum(tally.whole for tally in tallies),
            max(tally.peak_mb for tally in tallies),
        )


def ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def tally(run: Run, peers: dict[str, dict[str, str]], process: float | None, scale: float) -> Tally:
    """Our run of a set beside the peer's rows; ``process`` are the seconds of its whole process, if they are known."""
    rows = sorted(run.rows, key=lambda row: int(row["index"]))
    pairs = [
        Pair(row, peers[row["index"]], float(row["seconds"]), float(peers[row["index"]]["seconds"]) * scale)
        for row in rows
    ]
    ours, theirs = sum(p.seconds for p in pairs), sum(p.peer_seconds for p in pairs)
    peer_startup = 0.0 if process is None else process * scale - theirs
    return Tally(pairs, run.seconds - ours, peer_startup, run.seconds, run.peak_mb)


def csv_row(name: str, pair: Pair) -> dict[str, str]:
    ours = {key: pair.ours[key] for key in ("index", "verdict", "stage", "seconds", "nodes")}
    return {
        "set": name,
        **ours,
        "peer_verdict": pair.theirs["verdict"],
        "peer_seconds": f"{pair.peer_seconds:.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--sets", nargs="*", help="names of sets; all that the peer has by default")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds an image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the peer's times")
    parser.add_argument("--csv", type=Path, help="write every row here")
    options = parser.parse_args()
    peers = {p.stem: p for p in sorted((options.shared / "peers").glob("*.csv"))}
    if not peers:
        raise SystemExit(f"no peer's answers in {options.shared / 'peers'}: give --shared FOLDER")
    process = processes(options.shared / "peers.md")
    print(f"| set | {' | '.join(HEAD)} |\n|{'---|' * (len(HEAD) + 1)}")
    everything: list[dict[str, str]] = []
    tallies = []
    for name in options.sets or peers:
        known = {row["index"]: row for row in read(peers[name])}
        run = verify(options.shared / "benchmarks" / name, len(known), options.timeout, options.threads)
        tallies.append(tally(run, known, process.get(name), options.scale))
        print(f"| {name} | {' | '.join(tallies[-1].cells())} |", flush=True)
        everything += [csv_row(name, pair) for pair in tallies[-1].pairs]
        if options.csv:
            with options.csv.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(everything)
    print(f"| total | {' | '.join(Tally.together(tallies).cells())} |")


if __name__ == "__main__":
    main()
