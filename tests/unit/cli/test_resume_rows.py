"""The CSV of verdicts: gone on with after a kill, without losing, repeating or mixing anything."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certiprune.cli.rows import COLUMNS, Row, table
from certiprune.core.errors import InputError

ABOUT = {"model": "m", "images": "i", "eps": "0.1"}


def row(index: int, verdict: str = "certified", reason: str = "") -> Row:
    return Row(index, 1, 2, verdict, reason, "crown", float("-inf") if index % 2 else 0.1, 3, 0.25)


def about(**changes: str) -> Callable[[], dict[str, str]]:
    return lambda: ABOUT | changes


def write(file: Path, *rows: Row, **options: Any) -> dict[int, Row]:
    """Add rows to a file; returns what was there before."""
    with table(file, about(), **options) as opened:
        for one in rows:
            opened.write(one)
        return dict(opened.before)


def indices(file: Path) -> list[int]:
    with file.open(newline="") as text:
        return [int(found["index"]) for found in csv.DictReader(text)]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    file, rows = tmp_path / "o.csv", [row(4), row(1, "unknown", "time"), row(7, "falsified")]
    assert write(file, *rows) == {}
    assert file.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert write(file) == {one.index: one for one in rows}
    assert write(file, row(2)) == {one.index: one for one in rows}
    assert indices(file) == [4, 1, 7, 2]


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "o.csv"
    write(file, row(0), row(1), row(12))
    file.write_bytes(file.read_bytes()[:-cut])
    left = set(indices(file)[:2]) if cut < len(",".join(row(12).cells())) + 1 else {0}
    assert set(write(file, row(30))) == left
    assert indices(file) == [*sorted(left), 30]


@pytest.mark.parametrize("text", ["", "index,lab", ",".join(COLUMNS) + "\n", ",".join(COLUMNS) + "\n0,1,"])
def test_a_file_without_a_whole_row_is_begun_again(tmp_path: Path, text: str) -> None:
    file = tmp_path / "o.csv"
    file.write_text(text)
    assert write(file, row(3)) == {}
    assert indices(file) == [3]


@pytest.mark.parametrize("part", list(ABOUT))
def test_another_question_is_not_mixed_in(tmp_path: Path, part: str) -> None:
    file = tmp_path / "o.csv"
    write(file, row(0))
    before = file.read_bytes()
    with (
        pytest.raises(InputError, match=f"another question .{part} differ"),
        table(file, about(**{part: "x"})),
    ):
        pass
    assert file.read_bytes() == before
    with table(file, about(**{part: "x"}), fresh=True) as opened:
        assert opened.before == {}
        opened.write(row(5))
    assert indices(file) == [5]
    with pytest.raises(InputError, match="another question"):
        write(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is no CSV of verdicts"),
        (b"\xff\xfe\x00junk\n", "is no CSV of verdicts"),
        (",".join(COLUMNS) + "\n1,2\n", "line 2: is no row"),
        (",".join(COLUMNS) + "\n" + 2 * (",".join(row(0).cells()) + "\n"), "line 3: image 0 is there twice"),
        (",".join(COLUMNS) + "\n" + ",".join(row(0).cells()) + "\n", "does not say of what"),
    ],
)
def test_what_is_no_such_file_is_left_alone(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "o.csv"
    content = text if isinstance(text, bytes) else text.encode()
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        write(file)
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]


def test_damaged_words_about_the_rows_are_no_words(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    write(file, row(0))
    for text in ("{", "[]", ""):
        (tmp_path / "o.csv.run.json").write_text(text)
        with pytest.raises(InputError, match="does not say of what"):
            write(file)


def test_rows_to_decide_again_are_gone_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    write(file, row(0), row(1, "unknown", "time"), row(2))
    assert set(write(file, forget=lambda one: one.verdict == "unknown")) == {0, 2}
    assert indices(file) == [0, 2]


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    with table(file, about()) as opened:
        opened.write(row(0))
        with pytest.raises(InputError, match="another process is writing"):
            write(file, row(1))
    assert indices(file) == [0]


def test_nothing_is_left_of_a_command_that_decided_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError), table(tmp_path / "o.csv", about()):
        raise InputError("the model is wrong")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_regular_file_is_only_written_to() -> None:
    for _ in range(2):
        assert write(Path(os.devnull), row(0)) == {}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Path:
    """So many images that a command can be stopped amid them."""
    file = tmp_path_factory.mktemp("many") / "many.npz"
    x = np.tile(digits.test.images.numpy(), (20, 1, 1, 1))
    np.savez(file, x=x, y=np.tile(digits.test.labels.numpy(), 20))
    return file


def started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "certiprune", *map(str, arguments)]
    # Who runs the tests in the background may ignore Ctrl-C, which processes inherit.
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_rows(file: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and (not file.exists() or file.read_text().count("\n") < 9):
        time.sleep(0.02)


def test_a_killed_command_goes_on(
    certiprune: Callable[..., Any], model: Path, many: Path, tmp_path: Path
) -> None:
    file = tmp_path / "o.csv"
    command = ("verify", model, "--images", many, "--eps", "1/255", "--end", "4000", "--csv", file)
    with started(*command, "--threads", "1") as process:
        wait_for_rows(file, process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    first = indices(file)
    assert 8 <= len(first) < 4000
    with file.open("a") as text:
        text.write("3999,1,1,cert")
    said = certiprune(*command)
    assert said.status == 0, said.err
    assert f"holds {len(first)} of the 4000 images" in said.err.splitlines()[0]
    assert indices(file)[: len(first)] == first
    assert sorted(indices(file)) == list(range(4000))
    assert said.out.startswith("4000 images")
    said = certiprune(*command)
    assert "nothing is left to do" in said.err and said.out.startswith("4000 images")


def test_ctrl_c_ends_every_worker_and_leaves_the_rows_whole(model: Path, many: Path, tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    options = ("--eps", "1/255", "--csv", file, "--jobs", "2", "--threads", "2")
    with started("verify", model, "--images", many, *options) as process:
        wait_for_rows(file, process)
        os.killpg(process.pid, signal.SIGINT)
        # It ends only when the last process that holds the pipe has gone.
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        f"certiprune: interrupted; the rows decided so far are in {file}; "
        "the same command (without --fresh) goes on"
    )
    assert "Traceback" not in said
    assert file.read_text().endswith("\n")
    assert len(set(indices(file))) == len(indices(file)) >= 8


def test_the_command_knows_its_question(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "o.csv"
    base = ("verify", model, "--images", images, "--csv", file)
    assert certiprune(*base, "--eps", "1/255", "--end", "4").status == 0
    assert certiprune(*base, "--eps", "1/255", "--start", "2", "--end", "7").out.startswith("5 images")
    assert sorted(indices(file)) == list(range(7))
    said = certiprune(*base, "--eps", "2/255", "--end", "4")
    assert said.status == 2 and "(eps differ)" in said.err and len(said.err.splitlines()) == 1
    moved = tmp_path / "renamed.safetensors"
    moved.write_bytes(model.read_bytes())
    assert certiprune("verify", moved, "--images", images, "--csv", file, "--eps", "1/255").status == 0
    assert certiprune("export", model, tmp_path / "m.onnx").status == 0
    said = certiprune("verify", tmp_path / "m.onnx", "--images", images, "--csv", file, "--eps", "1/255")
    assert said.status == 2 and "(model differ)" in said.err
    arrays = dict(np.load(images))
    np.savez(tmp_path / "x.npz", x=arrays["x"] * np.float32(0.5), y=arrays["y"])
    said = certiprune("verify", model, "--images", tmp_path / "x.npz", "--csv", file, "--eps", "1/255")
    assert said.status == 2 and "(images differ)" in said.err
    assert certiprune(*base, "--eps", "2/255", "--end", "4", "--fresh").status == 0
    assert sorted(indices(file)) == [0, 1, 2, 3]
    assert set(json.loads((tmp_path / "o.csv.run.json").read_text())) == {"model", "images", "eps"}


def test_unknown_rows_are_decided_again_where_that_is_wanted(
    certiprune: Callable[..., Any], model: Path, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "o.csv"
    base = ("verify", model, "--images", images, "--csv", file, "--eps", "0.15")
    said = certiprune(*base, "--timeout", "1e-9")
    assert said.status == 0
    with file.open(newline="") as text:
        unknown = [int(found["index"]) for found in csv.DictReader(text) if found["verdict"] == "unknown"]
    assert unknown
    said = certiprune(*base)
    assert f"({len(unknown)} unknown; --retry-unknown decides them again)" in said.err
    said = certiprune(*base, "--retry-unknown", "--start", unknown[0], "--end", unknown[0] + 1)
    assert "unknown 0" in said.out
    assert sorted(indices(file)) == list(range(10))
    assert indices(file)[-1] == unknown[0]
