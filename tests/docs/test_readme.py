"""What README says can be typed can be typed: its commands are run in order, and its Python too."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from certiprune.cli.entry import status
from certiprune.experiment import presets

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TINY = ROOT / "tests" / "pipeline" / "tiny.yaml"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_its_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tiny experiment in the place of each preset, so that it takes seconds."""
    monkeypatch.chdir(tmp_path)
    known = presets.names()
    monkeypatch.setattr(presets, "path", lambda name: TINY if name in known else None)
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(commands) >= 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "certiprune"
        assert status(arguments) == 0, (command, capsys.readouterr().err)
    assert (tmp_path / "demo-run" / "report.html").is_file()
    assert (tmp_path / "verdicts.csv").read_text().count("\n") == 51


def test_its_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert names["smaller"].neurons <= names["network"].neurons  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_its_make_targets_and_links_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^ {4}make (\w+)|`make (\w+)`", text, re.MULTILINE))
    assert {one or other for one, other in named} <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).is_file(), link


@pytest.mark.slow
def test_the_demonstration_itself(tmp_path: Path) -> None:
    assert status(["demo", "--out", str(tmp_path / "demo-run")]) == 0
    assert (tmp_path / "demo-run" / "report.html").is_file()
