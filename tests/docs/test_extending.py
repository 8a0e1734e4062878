"""The page on extending is run from its first line to its last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certiprune.prune import scores

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


def test_its_code_runs_and_its_score_is_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "extending"}
    try:
        for number, block in enumerate(blocks):
            exec(compile(block, f"extending.md, block {number + 1}", "exec", dont_inherit=True), names)
        assert "fisher" in scores.names()
    finally:
        scores.unregister("fisher")
    # The score, with its imports, is the thirty lines that the page promises.
    assert len(blocks[0].strip().splitlines()) <= 30
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{72 - 14 - 12 - 9} of 72 weights"
    before, after = (int(n) for n in re.findall(r"\d+", lines[1]))
    assert after < before
