"""Wrong uses of sweeps and presets, each with a line in the words of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from certiprune.cli.entry import status


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training: fgsm", "training: must be a list, such as [a, b]"),
        ("training: []", "training: must not be empty"),
        ("training: [fgsm]\nseeds: 3", "line 2: seeds: must be a list, such as [a, b]"),
        ("training: [fgsm]\npruning: [imp]\nkeep: []", "line 3: keep: must not be empty"),
    ],
)
def test_a_setting_that_is_no_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    assert status(["sweep", str(file), "--plan"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", [("demo", "--parts"), ("--parts", "--sweeps"), ("--sweeps", "--time")])
def test_presets_are_asked_one_thing_at_a_time(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert status(["presets", *words]) == 2
    assert "give one of them" in capsys.readouterr().err
