"""``certiprune certify`` and ``certiprune check``: what they write and say, and wrong use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import certiprune as package

Run = Callable[..., Any]


@pytest.fixture
def folder(certiprune: Run, model: Path, images: Path, tmp_path: Path) -> Path:
    """Certificates of the untrained network, which is right for some images and wrong for others."""
    out = tmp_path / "certificates"
    said = certiprune("certify", model, "--images", images, "--eps", "1/500", "--out", out)
    assert said.status == 0
    return out


def test_certificates_are_written_and_hold(certiprune: Run, folder: Path, model: Path, images: Path) -> None:
    files = sorted(path.name for path in folder.glob("*.npz"))
    assert 0 < len(files) < 10
    for arguments in ((folder,), (folder, "--model", model), (folder, "--model", folder / "model.onnx")):
        said = certiprune("check", *arguments, "--images", images, "--eps", "1/500")
        assert said.status == 0, said.err
        assert f"{len(files)} of {len(files)} certificates hold" in said.out
        assert said.out.count("holds: image") == len(files)


def test_the_command_goes_on_with_what_is_there(
    certiprune: Run, folder: Path, model: Path, images: Path
) -> None:
    files = sorted(folder.glob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in files[1:]}
    files[0].unlink()
    files[-1].write_bytes(b"torn")
    said = certiprune("certify", model, "--images", images, "--eps", "1/500", "--out", folder)
    assert f"{len(files)} of 10 images have a certificate" in said.out
    assert sorted(folder.glob("*.npz")) == files
    kept = {path: path.stat().st_mtime_ns for path in files[1:-1]}
    assert kept == {path: before[path] for path in files[1:-1]}
    assert certiprune("check", folder).status == 0
    # Another radius is another claim: nothing is lost.
    said = certiprune("certify", model, "--images", images, "--eps", "1/400", "--out", folder)
    assert said.status == 2 and "certificate of another eps; choose another folder" in said.err
    assert certiprune("check", folder, "--eps", "1/500").status == 0


def test_rows_of_verify_say_which_images(certiprune: Run, model: Path, images: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "verdicts.csv", tmp_path / "certificates"
    certiprune("verify", model, "--images", images, "--eps", "1/500", "--csv", rows)
    certified = rows.read_text().count(",certified,")
    said = certiprune("certify", model, "--images", images, "--eps", "1/500", "--out", out, "--csv", rows)
    assert f"{certified} of {certified} images have a certificate" in said.out
    asked = ("--images", images, "--eps", "1/500", "--csv", rows)
    assert certiprune("check", out, *asked).status == 0
    with np.load(images) as arrays:
        np.savez(tmp_path / "radii.npz", **arrays, eps=np.full(10, 0.002))
    assert certiprune("check", out, "--images", tmp_path / "radii.npz", "--csv", rows).status == 0
    missing = min(out.glob("*.npz"), key=lambda path: path.name)
    missing.unlink()
    said = certiprune("check", out, *asked)
    assert said.status == 1
    assert f"without a certificate: {missing.stem}" in said.out


def test_a_row_that_is_not_true_is_named(certiprune: Run, model: Path, images: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "verdicts.csv", tmp_path / "certificates"
    certiprune("verify", model, "--images", images, "--eps", "0.2", "--csv", rows)
    rows.write_text(rows.read_text().replace("falsified", "certified").replace("misclassified", "certified"))
    said = certiprune("certify", model, "--images", images, "--eps", "0.2", "--out", out, "--csv", rows)
    assert said.status == 1
    assert "calls certified what is not: image" in said.out


def test_what_does_not_hold_ends_with_status_1(
    certiprune: Run, folder: Path, images: Path, tmp_path: Path
) -> None:
    file = next(iter(folder.glob("*.npz")))
    with np.load(images) as arrays:
        other = tmp_path / "other.npz"
        np.savez(other, x=arrays["x"][::-1], y=arrays["y"][::-1])
    for arguments, words in (
        (("--images", other), "is not the one that it is about"),
        (("--eps", "1/100"), "about the radius 0.002 only"),
    ):
        said = certiprune("check", file, "--model", folder / "model.onnx", *arguments)
        assert said.status == 1
        assert "DOES NOT HOLD" in said.out and words in said.out
        assert "0 of 1 certificates hold" in said.out


def test_wrong_use_of_both(certiprune: Run, folder: Path, model: Path, images: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    rows = tmp_path / "rows.csv"
    rows.write_text("index\nno row\n")
    good = (model, "--images", images, "--eps", "0.01", "--out", nothing)
    table: list[tuple[tuple[object, ...], str]] = [
        (("certify",), "Missing"),
        (("certify", "nothere.onnx", *good[1:]), "no such model file"),
        (("certify", *good[:3], "--out", nothing), "give --eps"),
        (("certify", *good[:5], "--out", images), "--out needs one"),
        (("certify", *good, "--timeout", "0"), "--timeout"),
        (("certify", *good, "--eps", "2"), "input units"),
        (("certify", *good, "--start", "10"), "chooses no images"),
        (("certify", *good, "--csv", nothing / "rows.csv"), "no such file"),
        (("certify", *good, "--csv", rows), "no rows of certiprune verify"),
        (("certify", *good, "--threads", "0"), "--threads 0"),
        (("check",), "Missing"),
        (("check", folder / "0.npz"), "--model MODEL.onnx"),
        (("check", nothing, "--model", model), "no certificates in"),
        (("check", folder, "--model", images), "no model file"),
        (("check", folder, "--model", "nothere.onnx"), "no such model file"),
        (("check", folder, "--images", rows), "holds no images x and labels y"),
        (("check", folder, "--eps", "x"), "no number"),
        (("check", folder, "--csv", rows), "name them with --images"),
        (("check", folder, "--images", images, "--csv", rows), "give --eps"),
        (
            ("check", folder, "--images", images, "--eps", "1/500", "--csv", rows),
            "no rows of certiprune verify",
        ),
    ]
    for arguments, message in table:
        said = certiprune(*arguments)
        assert said.status == 2, arguments
        assert message in said.err and len(said.err.splitlines()) == 1, (arguments, said.err)


def test_the_checker_runs_alone(folder: Path, images: Path, tmp_path: Path) -> None:
    """Its folder is a program: it needs neither the package nor torch."""
    assert package.__file__ is not None
    place = tmp_path / "elsewhere"
    shutil.copytree(Path(package.__file__).parent / "checker", place / "checker")
    for name in ("torch", "certiprune", "onnxruntime"):
        (place / f"{name}.py").write_text("raise SystemExit('this must not be imported')\n")
    model = folder / "model.onnx"

    def run(*more: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "checker", folder, "--model", model, *more]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [str(part) for part in command],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--images", images, "--eps", "1/500")
    assert (done.returncode, done.stderr) == (0, "")
    assert "certificates hold" in done.stdout
    assert run("--eps", "1/100").returncode == 1
    assert run("--domain", "0", "2").returncode == 1
    assert run("--images", model).returncode == 2
