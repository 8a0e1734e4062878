"""Several worker processes: the same rows as one, and one clear line where a worker ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certiprune.cli import images as files
from certiprune.cli import jobs, machine
from certiprune.cli.machine import Share, shares
from certiprune.core import memory
from certiprune.core.errors import InputError
from certiprune.core.memory import parse_memory


@pytest.fixture
def work(model: Path, images: Path) -> jobs.Work:
    return jobs.Work(model, images, 0, 10, 1 / 255, 60.0, None, "cpu", Share(1, None))


def test_workers_decide_what_one_process_does(work: jobs.Work) -> None:
    chosen, part = replace(work, start=1, end=9), [8, 1, 2, 5, 7]
    one = {row.index: row for row in jobs.alone(chosen, files.read(work.images).cut(1, 9), part)}
    two = list(jobs.shared(chosen, part, 2))
    assert sorted(row.index for row in two) == sorted(part)
    for row in two:
        assert replace(row, seconds=0.0, lower=0.0) == replace(one[row.index], seconds=0.0, lower=0.0)
        assert row.lower == pytest.approx(one[row.index].lower, rel=1e-4)
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_ends_the_command(work: jobs.Work) -> None:
    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.01)
        pid = multiprocessing.active_children()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(jobs.WorkerError, match=r"crashed on its way to the first images: .*SIGKILL, perhaps"):
        list(jobs.shared(work, range(10), 2))
    thread.join()
    assert multiprocessing.active_children() == []


def test_an_error_in_a_worker_is_one_clear_line(work: jobs.Work) -> None:
    broken = replace(work, share=Share("two", None))  # type: ignore[arg-type]
    with pytest.raises(jobs.WorkerError, match=r"a worker failed on .*Error: .*--jobs 1"):
        list(jobs.shared(broken, range(10), 1))


def test_what_a_user_did_wrong_is_said_as_by_one_process(
    certiprune: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, x=np.zeros((5, 1, 8, 8), np.float32), y=np.array([0, 1, 2, 10, 0]))
    said = [
        certiprune(
            "verify", model, "--images", file, "--eps", "0.1", "--start", "1", "--jobs", n, "--threads", "2"
        )
        for n in (1, 2)
    ]
    assert said[0] == said[1]
    assert (said[0].status, len(said[0].err.splitlines())) == (2, 1)
    assert "label 10 of image 3" in said[0].err


def test_the_command_takes_jobs(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "o.csv"
    options = ("--eps", "1/255", "--jobs", "2", "--threads", "3", "--memory", "1G", "--csv", file)
    said = certiprune("verify", model, "--images", images, *options)
    assert said.status == 0, said.err
    assert said.out.startswith("10 images")
    assert file.read_text().count("\n") == 11


def test_threads_and_memory_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(memory, "free", lambda **_: 1000 << 20)
    assert shares(1, None, None) == Share(None, None)
    assert shares(1, 5, "2G") == Share(5, 2 << 30)
    assert shares(3, None, "3G") == Share(2, 1 << 30)
    assert shares(3, 6, None) == Share(2, 200 << 20)
    for count, threads, message in ((9, None, "this machine has 8"), (3, 2, "--threads gives 2")):
        with pytest.raises(InputError, match=message):
            shares(count, threads, None)


def test_workers_do_not_get_what_the_parent_has_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free_here", lambda: 1000 << 20)
    monkeypatch.setattr(memory, "_free_in_group", lambda: 1 << 62)
    monkeypatch.setattr(memory, "_kept", lambda: 1000 << 20)
    assert shares(2, 2, None) == Share(1, 300 << 20)
    assert shares(2, 2, "50%") == Share(1, 250 << 20)
    assert shares(1, 2, "50%") == Share(2, 1000 << 20)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4G", 4 << 30),
        ("800M", 800 << 20),
        ("1.5GiB", 3 << 29),
        ("2000 kb", 2000 << 10),
        ("50%", 1 << 30),
        (1 << 30, 1 << 30),
    ],
)
def test_amounts_of_memory(monkeypatch: pytest.MonkeyPatch, text: str | int, amount: int) -> None:
    monkeypatch.setattr(memory, "free", lambda **_: 2 << 30)
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["", "4", "G", "-1G", "1e3M", "nan%", "101%", "4X", "0%", "1K", 5])
def test_what_is_no_amount_of_memory(text: str | int) -> None:
    with pytest.raises(InputError, match="memory"):
        parse_memory(text)


def test_a_container_has_as_much_memory_as_its_group(tmp_path: Path) -> None:
    assert memory._free_in_group(tmp_path) > 1 << 60
    for name, text in (("max", "1000"), ("current", "700"), ("stat", "anon 5\ninactive_file 100\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory._free_in_group(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._free_in_group(tmp_path) > 1 << 60
    assert 0 < memory.free() < 1 << 50
