"""Validation images verified for a choice: the same answers as a verifier gives alone, kept, and shown to users."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from facts import facts

from certiprune import data
from certiprune.cli.entry import status
from certiprune.core.errors import InputError
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event
from certiprune.experiment.validate import validate
from certiprune.net import checkpoint, lower
from certiprune.store import Records, RunLayout
from certiprune.verify import Budget, verify

IMAGES = 7


@pytest.fixture
def run(unbroken: tuple[Path, list[Event]], tmp_path: Path) -> Path:
    """A copy of the unbroken run, to write into."""
    return Path(shutil.copytree(unbroken[0], tmp_path / "run"))


def stage(folder: Path, name: str) -> dict[str, object]:
    with Records.open(RunLayout(folder).records, read_only=True) as records:
        found = records.stage(name)
    assert found is not None
    return dict(found.payload)


def test_the_answers_are_those_of_the_verifier(run: Path, experiment: Experiment) -> None:
    validate(run, [("dense", 0), ("magnitude", 2)], images=IMAGES, seconds=60)
    dataset = data.load(
        "digits",
        seed=experiment.seed,
        validation=experiment.data.validation,
        train_limit=400,
        test_limit=None,
    )
    for ladder, number in (("dense", 0), ("magnitude", 2)):
        found = checkpoint.load(RunLayout(run).round(ladder, number).model)
        network = lower(found.model, shape=dataset.shape, mask=found.mask)
        split = dataset.validation.head(IMAGES)
        budget = Budget(nodes=experiment.verify.nodes)
        outcomes = list(verify(network, split.images, split.labels, eps=experiment.verify.eps, budget=budget))
        payload = stage(run, f"{ladder}/{number}/validate")
        assert payload["verdicts"] == dict(Counter(str(o.verdict) for o in outcomes))
        assert (payload["images"], payload["seconds"], payload["nodes"]) == (IMAGES, 60, 60)


def test_what_is_there_is_not_done_again_and_nothing_else_changes(run: Path) -> None:
    before = facts(run)
    validate(run, [("dense", 0)], images=IMAGES, seconds=60)
    events: list[Event] = []
    validate(run, [("dense", 0)], images=IMAGES, seconds=60, progress=events.append)
    assert [(event.stage, event.skipped) for event in events] == [("dense/0/validate", True)]
    validate(run, [("dense", 0)], images=2, seconds=60)
    assert stage(run, "dense/0/validate")["images"] == 2
    after = facts(run)
    assert [s for s in after.stages if not s[0].endswith("/validate")] == before.stages
    assert (after.rounds, after.verdicts, after.epochs) == (before.rounds, before.verdicts, before.epochs)


@pytest.mark.parametrize(
    ("network", "images", "seconds", "message"),
    [
        (("magnitude", 3), 5, 1.0, "magnitude/3 is not trained"),
        (("dense", 0), 0, 1.0, "0 validation images are too few"),
        (("dense", 0), 5, 0.0, "a time limit of 0 s"),
        (("dense", 0), 5, float("nan"), "a time limit of nan s"),
    ],
)
def test_what_cannot_be_verified_is_refused(
    run: Path, network: tuple[str, int], images: int, seconds: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        validate(run, [network], images=images, seconds=seconds)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run has been begun there"):
        validate(tmp_path, [("dense", 0)], images=1, seconds=1)


def test_the_command_names_a_network_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "chosen.json"
    arguments = [
        "recommend",
        str(run),
        "--images",
        "8",
        "--seconds",
        "30",
        "--within",
        "100",
        "--json",
        str(file),
    ]
    assert status(arguments) == 0
    said = capsys.readouterr().out
    tree = json.loads(file.read_text())
    assert tree["measure"] == "validation_verified/8x30sx60"
    assert tree["seconds_of"] == "validation"
    names = [(one["method"], one["round"]) for one in tree["front"]]
    assert (tree["chosen"]["method"], tree["chosen"]["round"]) in names
    # With all losses allowed the smallest network is taken: a fifth of the weights, by either method.
    assert (tree["chosen"]["method"], tree["chosen"]["round"]) in [("magnitude", 2), ("random", 1)]
    model = tree["chosen"]["networks"]["0"]
    assert Path(model).is_file()
    assert model in said
    assert "complete verification of 8 of them" in said
    assert status(["report", str(run)]) == 0


def test_the_command_used_wrongly(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        ("recommend", str(tmp_path / "none")): "no such folder",
        ("recommend", str(run), "--seconds", "3"): "give both",
        ("recommend", str(run), "--within", "-1"): "--within -1 must lie between 0 and 100",
        ("recommend", str(run), "--images", "0"): "0 validation images are too few",
        ("recommend", str(run), "--json", str(tmp_path / "a" / "b.json")): "there is no folder",
        ("recommend", str(run), "--want", "prettiest"): "prettiest",
    }
    for arguments, message in wrong.items():
        assert status(list(arguments)) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_a_wish_that_nothing_meets_ends_with_status_1(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "recommend",
        str(run),
        "--images",
        "3",
        "--seconds",
        "30",
        "--certified",
        "100",
        "--standard",
        "100",
    ]
    assert status(arguments) == 1
    assert (
        "No network is good enough: at least 100.0% certified and at least 100.0% standard"
        in capsys.readouterr().out
    )
