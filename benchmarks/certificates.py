"""What certificates cost on public instances: to find them, to check them, and in bytes.

Each set is three processes: ``certiprune verify``, ``certiprune certify`` for what it certified, and the checker,
alone, on what was written. ``--shared`` is as in ``verify.py``.

    python benchmarks/certificates.py --timeout 60 --csv certificates.csv
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS = (
    "set", "rows", "certified", "certificates", "hold", "verify s", "certify s", "check s", "largest check s", "leaves",
    "kB", "largest kB",
)  # fmt: skip


def run(*arguments: object, statuses: tuple[int, ...] = (0,)) -> tuple[str, float]:
    """Standard output and wall time of one process.

    Raises:
        SystemExit: it ends with another status.
    """
    command = [sys.executable, "-m", *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in statuses:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr or done.stdout}")
    return done.stdout, time.perf_counter() - start


def measure(folder: Path, rows: int | None, timeout: float, threads: int) -> list[object]:
    """The cells of one set."""
    model, images = folder / "model.onnx", folder / "images.npz"
    with np.load(images) as arrays:
        end = ["--end", min(len(arrays["y"]), rows or len(arrays["y"]))]
    with tempfile.TemporaryDirectory() as scratch:
        verdicts, out = Path(scratch) / "verdicts.csv", Path(scratch) / "certificates"
        common = [model, "--images", images, "--timeout", timeout, "--threads", threads, *end]
        _, verify = run("certiprune", "verify", *common, "--csv", verdicts)
        _, certify = run("certiprune", "certify", *common, "--out", out, "--csv", verdicts)
        with verdicts.open(newline="", encoding="utf-8") as file:
            said = [row["verdict"] for row in csv.DictReader(file)]
        files = sorted(out.glob("*.npz"))
        held, check = "", 0.0
        if files:
            held, check = run(
                "certiprune.checker", out, "--model", model, "--images", images, statuses=(0, 1)
            )
        lines = [line for line in held.splitlines() if " holds: " in line]
        sizes = [file.stat().st_size / 1000 for file in files]
        return [
            folder.name,
            len(said),
            said.count("certified"),
            len(files),
            len(lines),
            f"{verify:.1f}",
            f"{certify:.1f}",
            f"{check:.1f}",
            f"{max((float(line.split(', ')[-1].split(' s)')[0]) for line in lines), default=0.0):.1f}",
            sum(int(line.split(" leaves")[0].split(", ")[-1]) for line in lines),
            f"{sum(sizes):.0f}",
            f"{max(sizes, default=0.0):.0f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of the instances")
    parser.add_argument("--sets", nargs="*", help="names of sets; all when left out")
    parser.add_argument("--rows", type=int, help="images of each set; all when left out")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that an image may take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="write the table here, too")
    given = parser.parse_args()
    folders = sorted(path.parent for path in (given.shared / "benchmarks").glob("*/images.npz"))
    table: list[list[object]] = []
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for folder in folders:
        if not given.sets or folder.name in given.sets:
            table.append(measure(folder, given.rows, given.timeout, given.threads))
            print("| " + " | ".join(map(str, table[-1])) + " |", flush=True)
    if given.csv is not None:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *table])


if __name__ == "__main__":
    main()
