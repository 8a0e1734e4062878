"""What the commands do when they are used rightly."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from certiprune import api
from certiprune.cli import progress
from certiprune.cli.app import app
from certiprune.cli.rows import COLUMNS
from certiprune.cli.verify import summary
from certiprune.experiment import load, presets
from certiprune.net import checkpoint
from certiprune.verify.outcome import Outcome, Reason, Stage, Verdict

COMMANDS = [command.name for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_in_an_example(certiprune: Callable[..., Any], command: str) -> None:
    said = certiprune(command, "--help")
    assert (said.status, said.err) == (0, "")
    example = said.out.split("Example:\n")[1].splitlines()[0].split()
    assert example[:2] == ["certiprune", command]


def test_without_arguments_the_commands_are_listed(certiprune: Callable[..., Any]) -> None:
    said = certiprune()
    assert said.status == 0
    assert all(str(command) in said.out for command in COMMANDS)


def test_verify_writes_a_row_per_image(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out.csv"
    said = certiprune(
        "verify", model, "--images", images, "--eps", "1/255", "--start", "2", "--end", "7", "--csv", file
    )
    assert said.status == 0, said.err
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert tuple(rows[0]) == COLUMNS
    assert sorted(int(row["index"]) for row in rows) == [2, 3, 4, 5, 6]
    with np.load(images) as archive:
        labels = archive["y"]
    predicted = checkpoint.load(model).model(torch.from_numpy(np.load(images)["x"])).argmax(1)
    for row in rows:
        index = int(row["index"])
        assert int(row["label"]) == labels[index]
        assert int(row["predicted"]) == predicted[index]
        assert (row["verdict"] == "misclassified") == (predicted[index] != labels[index])
    assert said.out.startswith("5 images")


def test_eps_may_come_from_the_file(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    file, arrays = tmp_path / "x.npz", dict(np.load(images))
    np.savez(file, **arrays, eps=np.linspace(0, 0.01, 10))
    assert certiprune("verify", model, "--images", file, "--start", "8").out.startswith("2 images")


def test_the_summary_shows_both_sides() -> None:
    def outcome(verdict: Verdict, reason: Reason = Reason.NONE) -> Outcome:
        return Outcome(0, 0, 0, verdict, reason, Stage.CROWN, 0.0, 0, 1.0)

    found = [outcome(Verdict.CERTIFIED), outcome(Verdict.FALSIFIED), outcome(Verdict.MISCLASSIFIED)]
    assert summary(found)[-1] == "certified accuracy 33.3%"
    lines = summary([*found, outcome(Verdict.UNKNOWN, Reason.TIME)])
    assert lines[-1] == "certified accuracy between 25.0% and 50.0%"
    assert any("unknown 1" in line and "time 1" in line for line in lines)


def test_verify_by_call_and_by_command_agree(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    arrays = np.load(images)
    found = api.verify(model, arrays["x"], arrays["y"], eps="1/255")
    assert [outcome.index for outcome in found] == list(range(10))
    certiprune("verify", model, "--images", images, "--eps", "1/255", "--csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as text:
        rows = sorted(csv.DictReader(text), key=lambda row: int(row["index"]))
    assert [row["verdict"] for row in rows] == [str(outcome.verdict) for outcome in found]


def test_prune_keeps_what_it_says(certiprune: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    said = certiprune("prune", model, "--amount", "0.5", "--out", once)
    assert said.status == 0
    assert certiprune("prune", once, "--amount", "0.5", "--method", "random", "--out", twice).status == 0
    first, second = checkpoint.load(once).mask, checkpoint.load(twice).mask
    assert first is not None and second is not None
    assert first.kept == pytest.approx(first.total / 2, abs=1)
    assert second.kept == pytest.approx(first.total / 4, abs=1)
    assert second.nested_in(first)
    assert said.out.startswith(f"{first.kept} of {first.total} weights are left")


def test_options_of_a_method_are_numbers_in_any_spelling(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    files = []
    for rate in ("0.1", "1e-1", ".1"):
        files.append(tmp_path / f"{rate}.safetensors")
        wanted = ("--method", "hydra", "--option", "epochs=1", "--option", f"learning_rate={rate}")
        said = certiprune("prune", model, "--amount", "0.5", "--images", images, *wanted, "--out", files[-1])
        assert said.status == 0, said.err
    first, *others = (checkpoint.load(file).mask for file in files)
    assert all(torch.equal(mask[name], first[name]) for mask in others for name in first)


def test_export_computes_what_the_checkpoint_does(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    import onnxruntime

    said = certiprune("export", model, tmp_path / "m.onnx")
    assert said.status == 0, said.err
    size = (tmp_path / "m.onnx").stat().st_size
    assert "neurons are left" in said.out and "multiply-adds: " in said.out
    assert said.out.splitlines()[-1].endswith(f"before, {size:,} after")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    x = np.load(images)["x"]
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    with torch.no_grad():
        np.testing.assert_allclose(
            found, checkpoint.load(model).model(torch.from_numpy(x)).numpy(), atol=1e-4
        )


def test_export_says_what_compaction_saves(
    certiprune: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    pruned = tmp_path / "pruned.safetensors"
    assert certiprune("prune", model, "--amount", "0.97", "--out", pruned).status == 0
    small = certiprune("export", pruned, tmp_path / "small.onnx")
    whole = certiprune("export", pruned, tmp_path / "whole.onnx", "--no-compact")
    assert small.status == whole.status == 0
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < sizes[0]
    assert f"bytes: {sizes[0]:,} before, {sizes[1]:,} after" in small.out
    assert f"bytes: {sizes[0]:,} before, {sizes[0]:,} after" in whole.out


def test_datasets_lists_and_writes(certiprune: Callable[..., Any], tmp_path: Path) -> None:
    assert "digits" in certiprune("datasets").out
    file = tmp_path / "d.npz"
    assert certiprune("datasets", "digits", "--npz", file, "--count", "7").status == 0
    with np.load(file) as archive:
        assert archive["x"].shape == (7, 1, 8, 8)
        assert archive["y"].dtype == np.int64


def test_presets_are_listed_and_written_out(certiprune: Callable[..., Any]) -> None:
    assert certiprune("presets").out.split() == presets.names()
    shown = certiprune("presets", "mnist-0.3/ibp").out
    assert load.parse(shown) == load.load("mnist-0.3/ibp")
    assert "did you mean mnist-0.3/ibp" in certiprune("presets", "mnist-0.3/ipb").err


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    certiprune: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("certiprune.experiment.pipeline.run", interrupted)
    said = certiprune("run", "demo", "--out", tmp_path / "r")
    assert said.status == 130
    assert f"go on with: certiprune run demo --out {tmp_path / 'r'}" in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import certiprune", "torch numpy pydantic sklearn matplotlib scipy typer"),
        ("from certiprune.cli.entry import status; status(['--help'])", "torch numpy pydantic sklearn scipy"),
        ("from certiprune import api, verify", "pydantic sklearn matplotlib typer rich"),
        # Typer itself takes pydantic to convert arguments, where it finds a new one; we do not.
        (
            "from certiprune.cli.entry import status; status({verify})",
            "sklearn matplotlib certiprune.experiment",
        ),
    ],
)
def test_what_start_up_does_not_load(code: str, absent: str, model: Path, images: Path) -> None:
    verify = ["verify", str(model), "--images", str(images), "--eps", "0.001", "--end", "1"]
    code = f"import sys; {code.replace('{verify}', repr(verify))}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(absent.split()) & set(done.stderr.splitlines()[-1].split())


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3)"], stdin=subprocess.PIPE
    ) as reader:
        reader.kill()
        reader.wait()
        assert reader.stdin is not None
        writer = subprocess.run(
            [sys.executable, "-m", "certiprune", "datasets"],
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        reader.stdin.close()
    assert writer.stderr == ""
    assert writer.returncode == 1


def test_plain_progress_is_rare_and_says_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 5.0, 12.0, 13.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.Meter() as meter:
        for done in range(5):
            meter.update("verify", done, 4, f"{done} certified")
    assert capsys.readouterr().err.splitlines() == [
        "verify: 2/4, about 12.0 s left; 2 certified",
        "verify: 4 certified (20.0 s)",
    ]


def test_presets_lists_the_parts_that_files_are_put_together_from(certiprune):
    lines = certiprune("presets", "--parts").out.splitlines()
    assert [line.split()[0] for line in lines] == presets.parts()
    assert "magnitude pruning" in next(line for line in lines if line.startswith("imp "))


def test_presets_says_what_sweeps_take_and_writes_one_out(certiprune, monkeypatch):
    from certiprune.experiment.estimate import Pace

    monkeypatch.setattr(Pace, "image", lambda self, experiment: 1e-3)
    lines = certiprune("presets", "--sweeps").out.splitlines()
    assert [line.split()[0] for line in lines] == presets.sweeps()
    # Nine rows with 148 rounds (structlth with those of imp besides) and four dense networks, five times.
    line = next(line for line in lines if line.startswith("study-fashion-certified"))
    assert "760 networks: training about" in line and "verification at most 528 d" in line
    assert certiprune("presets", "study-fashion-certified").out.startswith("schema: 1")
    timed = certiprune("presets", "--time").out.splitlines()
    assert [line.split()[0] for line in timed] == presets.names()
