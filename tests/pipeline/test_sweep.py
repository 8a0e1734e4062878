"""Sweeps end as their cells would alone, whatever is killed in the middle, and say what failed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import sweeping
from facts import assert_equal_runs
from sweeping import MEANS, PART, TINY, Inline

from certiprune.cli import sweep as command
from certiprune.cli.entry import status
from certiprune.core.errors import ConfigError, InputError
from certiprune.experiment import load, pipeline, sweep
from certiprune.experiment.sweep import run as runs
from certiprune.experiment.sweep.executors import local
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.perform import perform
from certiprune.store import Busy, Records, RunLayout, SweepLayout, alone

SWEEP = sweep.parse(TINY)
DENSE, OTHER = [task.name for task in sweep.tasks(sweep.grid(SWEEP), SweepLayout(Path("s")))][:2]
CELLS = [f"cells/fgsm/{pruning}/seed-0" for pruning in ("imp", "snip", "imp+rs")]


class Sweeping:
    """Runs the sweep, and keeps what its watcher is told."""

    def __init__(self, folder: Path, sweep: sweep.Sweep = SWEEP) -> None:
        self.folder, self.sweep, self.news = folder, sweep, list[runs.News]()

    def run(self, executor: runs.Executor, **options: bool) -> dict[str, str]:
        """The reasons of what failed, by name."""
        self.news = []
        failed = runs.run(
            self.sweep, self.folder, executor, watch=lambda board, news: self.news.append(news), **options
        )
        return {task.name: reason for task, reason in failed}

    @property
    def begun(self) -> list[str]:
        return [news.task.name for news in self.news if isinstance(news, runs.Begun)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Sweeping:
    """An unbroken sweep, one task after the other."""
    sweeping = Sweeping(tmp_path_factory.mktemp("swept"))
    assert sweeping.run(Inline()) == {}
    return sweeping


def test_dense_networks_are_trained_once_and_each_cell_is_run(swept: Sweeping) -> None:
    assert swept.begun == [DENSE, OTHER, *CELLS]
    trained = [
        news.task.name
        for news in swept.news
        if isinstance(news, Told) and news.event.stage == "dense/0/train" and not news.event.skipped
    ]
    assert set(trained) == {DENSE, OTHER}
    for cell in sweep.cells(swept.folder):
        with Records.open(RunLayout(cell.folder).records, read_only=True) as records:
            assert [(row.ladder, row.round) for row in records.rounds()] == [("dense", 0), (cell.pruning, 1)]
            assert [row.epoch for row in records.epochs()] == [1, 2, 1, 2]


def test_a_cell_is_what_it_would_be_alone(swept: Sweeping, tmp_path: Path) -> None:
    cell = sweep.cells(swept.folder)[1].folder
    pipeline.run(load.load(RunLayout(cell).experiment), tmp_path, threads=1)
    assert_equal_runs(tmp_path, cell)
    assert status(["report", str(cell)]) == 0


def test_killed_workers_and_a_killed_sweep_lose_nothing(
    swept: Sweeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Sweeping(tmp_path / "sweep", sweep.parse(PART))
    with monkeypatch.context() as patch:
        patch.setattr(local, "_serve", sweeping.serve_and_die)
        failed = broken.run(local.Processes(2, MEANS))
    assert failed.keys() == {DENSE, *CELLS[:2]}
    assert failed[DENSE].startswith(
        "the worker was ended by SIGKILL, perhaps by the system for want of memory"
    )
    assert failed[CELLS[0]] == f"its dense network failed ({DENSE})"
    # The next attempt is killed itself, with two workers at work.
    killed = subprocess.run(
        [sys.executable, sweeping.__file__, str(broken.folder)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert broken.run(Inline()) == {}
    assert set(broken.begun) <= set(CELLS[:2]) and broken.begun
    for name in (DENSE, *CELLS[:2]):
        assert_equal_runs(broken.folder / name, swept.folder / name)


class Typed:
    """``certiprune sweep`` on a file, with tasks run in this process."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, executor: Inline, text: str = TINY) -> None:
        file, self.out = folder / "s.yaml", folder / "sweep"
        file.write_text(text)
        self.words = ["sweep", str(file), "--out", str(self.out)]
        patch.setattr(command, "_executor", lambda *arguments: executor)

    def __call__(self, *more: str) -> int:
        return status([*self.words, *more])


class Obstructed(Inline):
    """A foreign file stands in the way of a cell."""

    def submit(self, task: sweep.Task) -> None:
        if task.name == CELLS[0] and not task.folder.exists():
            task.folder.mkdir(parents=True)
            (task.folder / "experiment.yaml").write_text("mine: 1")
        super().submit(task)


Capture = pytest.CaptureFixture[str]


def test_a_failed_cell_is_named_at_the_end_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    executor = Obstructed()
    typed = Typed(tmp_path, monkeypatch, executor, PART)
    assert typed("--plan") == 0 and not typed.out.exists()
    assert "2 cells, 1 dense networks, 3 tasks" in capsys.readouterr().out
    assert typed() == 1 and executor.closed
    said = capsys.readouterr()
    end = said.err.splitlines()[-2:]
    assert end[0].startswith(f"certiprune: failed: {CELLS[0]}: ") and "belongs to no run here" in end[0]
    assert end[1] == "certiprune: the same command (without --fresh) tries again what failed"
    assert f"{CELLS[1]}: done (2 of 3 tasks done, 1 failed)" in said.err
    (typed.out / CELLS[0] / "experiment.yaml").unlink()
    assert typed("--plan") == 0
    assert "8 of 8 stages done; fgsm, snip, seed 0" in capsys.readouterr().out
    assert typed() == 0
    said = capsys.readouterr()
    page = typed.out / "report.html"
    assert said.out == f"The report: {page}\n"
    assert [line for line in said.err.splitlines() if line.endswith("begun")] == [f"{CELLS[0]}: begun"]
    # The same page again, from the records alone.
    before = page.read_bytes()
    page.unlink()
    assert status(["report", str(typed.out)]) == 0 and page.read_bytes() == before
    assert (typed.out / CELLS[0] / "report.html").is_file()
    assert status(["run", "demo", "--out", str(typed.out)]) == 2 and page.read_bytes() == before
    assert "holds a sweep" in capsys.readouterr().err
    assert status(["report", str(typed.out / CELLS[0]), "--margin", "0.01"]) == 2
    assert "are for the folder of a sweep" in capsys.readouterr().err


def test_nothing_is_begun_after_a_failure_where_that_is_asked_for(tmp_path: Path) -> None:
    class Failing(Inline):
        def news(self, seconds: float) -> list[Told | Ended]:
            return [Ended(self.tasks.pop(), "no")]

    sweeping = Sweeping(tmp_path)
    assert sweeping.run(Failing(), keep_going=False).keys() == {DENSE, *CELLS[:2]}
    assert sweeping.begun == [DENSE]
    assert sweeping.run(Failing()).keys() == {DENSE, OTHER, *CELLS}
    assert sweeping.begun == [DENSE, OTHER]


def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    class Interrupted(Inline):
        def news(self, seconds: float) -> list[Told | Ended]:
            raise KeyboardInterrupt

    executor = Interrupted()
    typed = Typed(tmp_path, monkeypatch, executor)
    assert typed("--fresh", "--jobs", "3") == 130 and executor.closed
    hint = f"go on with: certiprune {' '.join(typed.words)} --jobs 3"
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == f"certiprune: interrupted; what is finished is kept; {hint}"
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    class Idle(Inline):
        def room(self) -> bool:
            return False

    folder = tmp_path / "sweep"
    assert Sweeping(folder).run(Idle()) == {}
    (folder / DENSE).mkdir(parents=True)
    other = sweep.parse(TINY.replace("[0.5]", "[0.4]"))
    with pytest.raises(ConfigError, match=r"holds another sweep \(keep\[0\] was 0.5 and is 0.4\).*--fresh"):
        Sweeping(folder, other).run(Idle())
    assert (folder / DENSE).exists()
    assert Sweeping(folder, other).run(Idle(), fresh=True) == {}
    assert not (folder / DENSE).exists() and sweep.load(folder / "sweep.yaml") == other
    for name in ("cells", "results.sqlite"):
        (tmp_path / name / name).mkdir(parents=True)
        with pytest.raises(ConfigError, match="belongs to no sweep here"):
            Sweeping(tmp_path / name).run(Idle(), fresh=True)
        assert (tmp_path / name / name).exists()


def test_one_process_at_a_time_runs_a_sweep(tmp_path: Path) -> None:
    layout = SweepLayout(tmp_path)
    with alone(layout.root, layout.lock), pytest.raises(InputError, match="is already running in"):
        Sweeping(tmp_path).run(Inline())


def test_runs_keep_their_number_of_threads(swept: Sweeping) -> None:
    with pytest.raises(
        InputError, match=r"dense/\w+ was begun with 1 threads, and 2 would give other numbers"
    ):
        runs.run(SWEEP, swept.folder, Inline(), threads=2)


def test_a_worker_says_where_the_sweeps_folder_is_missing(tmp_path: Path) -> None:
    (task, *_) = sweep.tasks(sweep.grid(SWEEP), SweepLayout(tmp_path))
    with pytest.raises(InputError, match=r"sweep.yaml is not there on .*storage that all nodes see"):
        perform(task, MEANS, lambda event: None)
    assert not task.folder.exists()


def test_a_worker_waits_for_one_that_is_just_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task, *_) = sweep.tasks(sweep.grid(SWEEP), SweepLayout(tmp_path))
    (tmp_path / "sweep.yaml").touch()
    tried: list[int] = []

    def busy(*arguments: object, **options: object) -> None:
        tried.append(1)
        if len(tried) < 3:
            raise Busy("in use")

    monkeypatch.setattr(pipeline, "run", busy)
    monkeypatch.setattr("certiprune.experiment.sweep.perform.PAUSE", 0.01)
    perform(task, MEANS, lambda event: None)
    assert len(tried) == 3
    monkeypatch.setattr("certiprune.experiment.sweep.perform.WAIT", 0.0)
    tried.clear()
    with pytest.raises(InputError, match="in use"):
        perform(task, MEANS, lambda event: None)


def test_an_error_that_reads_like_a_lost_parent_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*arguments: object) -> None:
        raise EOFError("Compressed file ended early")

    class Pipe:
        sent: ClassVar[list[str]] = []

        def send(self, text: str) -> None:
            self.sent.append(text)

    monkeypatch.setattr(local, "perform", cut_off)
    monkeypatch.setattr(local.processes, "end_with_parent", lambda: None)
    (task, *_) = sweep.tasks(sweep.grid(SWEEP), SweepLayout(tmp_path))
    local._serve(Pipe(), task, MEANS)  # type: ignore[arg-type]
    assert [text.startswith("EOFError: Compressed file ended early") for text in Pipe.sent] == [True]


def test_starting_over_does_not_go_on_with_what_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Idle(Inline):
        def room(self) -> bool:
            return False

    assert Sweeping(tmp_path).run(Idle()) == {}
    (tmp_path / "cells").mkdir()

    def refused(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(PermissionError):
        Sweeping(tmp_path).run(Idle(), fresh=True)


def test_a_report_that_cannot_be_written_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def full(folder: Path) -> Path:
        raise InputError("cannot write the report: No space left on device")

    monkeypatch.setattr(command, "sweep_page", full)
    monkeypatch.setattr(runs, "run", lambda *arguments, **options: [])
    assert Typed(tmp_path, monkeypatch, Inline())() == 2
    assert "No space left on device" in capsys.readouterr().err


def test_a_cell_of_another_experiment_is_named(swept: Sweeping, tmp_path: Path, capsys: Capture) -> None:
    folder = Path(shutil.copytree(swept.folder, tmp_path / "sweep"))
    assert status(["report", str(folder)]) == 0
    words = "fgsm, snip, seed 0 is another experiment than the sweep"
    assert words not in (folder / "report.html").read_text()
    cell = next(cell for cell in sweep.cells(folder) if cell.pruning == "snip")
    with Records.open(RunLayout(cell.folder).records) as records:
        records.put_meta({"digest": "of an older preset"})
    assert status(["report", str(folder)]) == 0
    assert words in (folder / "report.html").read_text()
    assert words not in capsys.readouterr().err
    status(["recommend", str(folder)])
    assert words in capsys.readouterr().err
