"""A Slurm of one machine, for tests: what stands behind its commands ``sbatch``, ``srun``, ``sacct`` and ``scancel``.

``$FAKE_SLURM`` is a folder with a folder for each job. A partition's name says what becomes of its jobs: in ``dying``,
``preempting`` and ``cancelling`` that, without being run, in ``held`` they wait for ever, and ``nowhere`` is refused.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

JOBS = Path(os.environ["FAKE_SLURM"])
ENDS = {
    "dying": "NODE_FAIL",
    "preempting": "PREEMPTED",
    "cancelling": "CANCELLED by 0",
    "held": "PENDING",
}


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    flags = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))
    partition = flags.get("partition", "any")
    if partition == "nowhere":
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    job = JOBS / str(len(list(JOBS.iterdir())) + 1)
    job.mkdir()
    (job / "name").write_text(flags["job-name"])
    (job / "script").write_text(text)
    (job / "inherited").write_text(" ".join(name for name in os.environ if name.startswith("SLURM_")))
    (job / "state").write_text(ENDS.get(partition, "RUNNING"))
    if partition not in ENDS:
        # Deaf and mute, so that it outlives the command and nobody waits for its output.
        deaf = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(
            [sys.executable, __file__, "job", job.name], start_new_session=True, **deaf
        )
        (job / "group").write_text(str(process.pid))
    print(f"Submitted batch job {job.name}")


def job(number: str) -> None:
    """Stay with a job until it ends."""
    folder = JOBS / number
    found = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    status = subprocess.run(["bash", str(folder / "script")], env=found, check=False).returncode
    (folder / "state").write_text("FAILED" if status else "COMPLETED")


def srun(*words: str) -> None:
    number, rest = os.environ["SLURM_JOB_ID"], list(words)
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            path = rest.pop(0).replace("%j", number).replace("%t", "0")
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1 if option == "--output" else 2)
    os.execvp(rest[0], rest)


def sacct(*words: str) -> None:
    print("JobID|State|NodeList")
    for option, number in pairwise(words):
        if option == "-j":
            print(f"{number}|{(JOBS / number / 'state').read_text()}|here")


def scancel(*words: str) -> None:
    names = [word.removeprefix("--name=") for word in words if word.startswith("--name=")]
    for folder in JOBS.iterdir():
        meant = (folder / "name").read_text() in names if names else folder.name in words
        if meant and (folder / "state").read_text() in ("RUNNING", "PENDING"):
            end(folder)


def end(folder: Path) -> None:
    (folder / "state").write_text("CANCELLED by 0")
    if (folder / "group").exists():
        os.killpg(int((folder / "group").read_text()), signal.SIGTERM)


if __name__ == "__main__":
    {"sbatch": sbatch, "job": job, "srun": srun, "sacct": sacct, "scancel": scancel}[sys.argv[1]](
        *sys.argv[2:]
    )
