"""Certificates of a run: all that its records call certified, kept with it and counted on its page."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from facts import facts

from certiprune import checker, data, report
from certiprune.checker.__main__ import Images, Wanted, verdict
from certiprune.cli.entry import status
from certiprune.core.epsilon import exact_epsilon
from certiprune.core.errors import InputError
from certiprune.experiment import pipeline
from certiprune.experiment.certify import certify
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event
from certiprune.store import Records, RunLayout
from certiprune.verify.outcome import Verdict


@pytest.fixture
def run(unbroken: tuple[Path, list[Event]], tmp_path: Path) -> Path:
    """A copy of the unbroken run, to write into."""
    return Path(shutil.copytree(unbroken[0], tmp_path / "run"))


def certified(folder: Path, ladder: str, number: int) -> list[int]:
    with Records.open(RunLayout(folder).records, read_only=True) as records:
        rows = records.outcomes(ladder, number)
    return [row.idx for row in rows if row.verdict == Verdict.CERTIFIED]


def test_every_certified_image_has_a_certificate_that_holds(run: Path, experiment: Experiment) -> None:
    before = facts(run)
    found = certify(run, seconds=60)
    dataset = data.load(
        "digits", seed=experiment.seed, validation=experiment.data.validation, train_limit=400
    )
    x = dataset.test.images.flatten(1).numpy()
    wanted = Wanted(Images(x, dataset.test.labels.numpy(), None), exact_epsilon(experiment.verify.eps))
    layout, total = RunLayout(run), 0
    for name, reasons in found.items():
        ladder, number = name.split("/")
        indices, folder = certified(run, ladder, int(number)), layout.certified(ladder, int(number))
        assert reasons.total() == reasons[""] == len(indices)
        if indices:
            graph = checker.read_model(folder / "model.onnx")
            files = [folder / f"{index}.npz" for index in indices]
            assert all(verdict(file, graph, wanted)[0] is not None for file in files)
            assert len(list(folder.glob("*.npz"))) == len(indices)
        total += len(indices)
    assert total > 0 and len(found) == len(before.rounds)
    after = facts(run)
    added = [name for name, _ in after.stages if name.endswith("/certify")]
    assert len(added) == len(found)
    kept = [stage for stage in after.stages if stage[0] not in added]
    assert dataclasses.replace(after, stages=kept) == before


def test_the_page_and_its_table_count_them(run: Path) -> None:
    page = report.write(run).read_text()
    assert "checked</small>" not in page
    certify(run, seconds=60)
    assert "checked</small>" in report.write(run).read_text()
    with (run / "tables" / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["certificates"] == row["certified"] for row in rows)


def test_what_is_there_is_kept(run: Path) -> None:
    certify(run, seconds=60)
    files = {path: path.stat().st_mtime_ns for path in run.glob("certificates/*/*/*")}
    (lost, *_) = run.glob("certificates/*/*/*.npz")
    lost.unlink()
    events: list[Event] = []
    certify(run, seconds=60, progress=events.append)
    now = {path: path.stat().st_mtime_ns for path in run.glob("certificates/*/*/*")}
    assert now.keys() == files.keys()
    assert {path for path in now if now[path] != files[path]} == {lost}
    assert events[-1].done == events[-1].total


def test_a_fresh_start_removes_them(run: Path, experiment: Experiment) -> None:
    certify(run, seconds=60)
    pipeline.run(experiment, run, fresh=True, until="dense/0/initial")
    assert not RunLayout(run).certificates.exists()


def test_the_command_says_how_many(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["certify", str(run)]) == 0
    said = capsys.readouterr().out
    assert "images have a certificate in dense/0" in said and "report.html" in said
    assert status(["check", str(run / "certificates" / "dense" / "0")]) == 0


def test_a_verdict_that_is_not_true_is_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Records.open(RunLayout(run).records) as records:
        (wrong, *_) = [row for row in records.outcomes("dense", 0) if row.verdict == Verdict.FALSIFIED]
        records._connection.execute(
            "UPDATE outcomes SET verdict = 'certified' WHERE ladder = 'dense' AND idx = ?", (wrong.idx,)
        )
        records._connection.commit()
    assert status(["certify", str(run)]) == 1
    assert "the run calls certified what is not" in capsys.readouterr().out


def test_wrong_use_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for act, words in (
        (lambda: certify(tmp_path, seconds=1), "no run has been begun"),
        (lambda: certify(run, seconds=0), "above 0"),
    ):
        _refused(act, words)
    for more in (["--eps", "0.1"], ["--out", str(tmp_path)], ["--start", "2"], ["--threads", "1"]):
        assert status(["certify", str(run), *more]) == 2
        assert "is a run" in capsys.readouterr().err


def _refused(act: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        act()
