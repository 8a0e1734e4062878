"""Compare ``certiprune verify`` with a peer's answers and times on public instances.

Each set is one process of the command line: start-up and memory count as a user meets them.
The folder given by ``--shared`` holds ``benchmarks/<set>/{model.onnx, images.npz}`` and ``peers/<set>.csv`` with the
columns ``set,index,verdict,seconds,stage,domains``; a peer's time is scaled by ``--scale`` (the figure of the
calibration here over the one there).

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

COLUMNS = ("set", "index", "verdict", "stage", "seconds", "nodes", "peer_verdict", "peer_seconds")
DECIDED = ("certified", "falsified", "misclassified")


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


def line(
    name: str, run: Run, peers: dict[str, dict[str, str]], scale: float
) -> tuple[str, list[dict[str, str]]]:
    """One row of the table, and the set's rows for the CSV."""
    merged, ours, theirs = [], 0.0, 0.0
    lost = gained = contradictions = 0
    for row in sorted(run.rows, key=lambda r: int(r["index"])):
        peer = peers[row["index"]]
        decided, known = row["verdict"] in DECIDED, peer["verdict"] in DECIDED
        seconds = float(peer["seconds"]) * scale
        if known:
            ours, theirs = ours + float(row["seconds"]), theirs + seconds
            lost += not decided
        gained += decided and not known
        contradictions += decided and known and not same(row["verdict"], peer["verdict"])
        merged.append(
            {
                "set": name,
                "index": row["index"],
                "verdict": row["verdict"],
                "stage": row["stage"],
                "seconds": row["seconds"],
                "nodes": row["nodes"],
                "peer_verdict": peer["verdict"],
                "peer_seconds": f"{seconds:.3f}",
            }
        )
    count = {v: sum(r["verdict"] == v for r in merged) for v in (*DECIDED, "unknown")}
    startup = run.seconds - sum(float(r["seconds"]) for r in run.rows)
    text = (
        f"| {name} | {len(merged)} | {count['certified']} | {count['falsified'] + count['misclassified']} "
        f"| {count['unknown']} | +{gained} -{lost} | {contradictions} | {ours:.1f} | {theirs:.1f} "
        f"| {ours / theirs if theirs else 0:.2f} | {startup:.1f} | {run.seconds:.0f} | {run.peak_mb:.0f} |"
    )
    return text, merged


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
    print(
        "| set | rows | certified | falsified | unknown | decided against peer | contradictions "
        "| s on peer's decided rows | peer's s | ratio | start-up s | whole process s | peak MB |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    everything = []
    for name in options.sets or peers:
        known = {row["index"]: row for row in read(peers[name])}
        run = verify(options.shared / "benchmarks" / name, len(known), options.timeout, options.threads)
        text, rows = line(name, run, known, options.scale)
        print(text, flush=True)
        everything += rows
        if options.csv:
            with options.csv.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(everything)


if __name__ == "__main__":
    main()
