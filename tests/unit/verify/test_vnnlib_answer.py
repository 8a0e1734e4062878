"""Answers to VNN-LIB files: replayed witnesses, the command, and the competition's scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from certiprune.cli.vnnlib import age
from certiprune.cli.vnnlib import vnnlib as command
from certiprune.core.box import Box
from certiprune.core.errors import CertipruneError, InputError, ModelError
from certiprune.net import onnx_in, onnx_run
from certiprune.verify import vnnlib, vnnlib_answer
from certiprune.verify.outcome import Outcome, Reason, Stage, Verdict
from certiprune.verify.problem import Budget, Problem

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts" / "vnncomp"
DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))\n"
HALVES = "(assert (or (and (<= X_0 0) (>= X_0 -1)) (and (>= X_0 0) (<= X_0 1))))(assert (= X_1 0))\n"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Y_0 = |X_0 + X_1| and Y_1 = X_0 + X_1, of two ReLUs; the input has shape (1, 1, 2)."""
    first = np.array([[1.0, -1.0], [1.0, -1.0]], np.float32)
    second = np.array([[1.0, 1.0], [1.0, -1.0]], np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "a"], ["p"]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("MatMul", ["q", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")],
    )
    file = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """A property file of the tiny model that ends in the given text."""

    def write(text: str) -> Path:
        file = tmp_path / "p.vnnlib"
        file.write_text(DECLARED + text)
        return file

    return write


def problems(file: Path) -> list[Problem]:
    return vnnlib.read(file, inputs=2, outputs=2, shape=(1, 2))


def point(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def outcome(index: int, verdict: Verdict, reason: Reason = Reason.NONE, x: Tensor | None = None) -> Outcome:
    return Outcome(index, -1, 0, verdict, reason, Stage.BRANCHING, 0.0, 1, 0.0, x)


def fake(monkeypatch: pytest.MonkeyPatch, *rounds: list[Outcome]) -> list[tuple[int, float]]:
    """Let ``decide`` give these outcomes, a list for each call; returns each call's questions and seconds."""
    calls: list[tuple[int, float]] = []

    def decide(network: object, problem: Problem, *, budget: Budget, replay: object) -> Iterator[Outcome]:
        calls.append((len(problem), budget.seconds))
        return iter(rounds[len(calls) - 1])

    monkeypatch.setattr(vnnlib_answer, "decide", decide)
    return calls


def answered(model: Path, file: Path, seconds: float = 20.0) -> vnnlib_answer.Answer:
    return vnnlib_answer.answer(
        onnx_in.read(model, check=False),
        problems(file),
        session=lambda: onnx_run.session(model),
        deadline=time.monotonic() + seconds,
    )


def test_a_witness_is_inside_the_box_in_float32() -> None:
    box = Box(
        torch.tensor([[0.1, 0.1, -1.0]]).double() + 1e-12, torch.tensor([[0.3, 0.1, 1.0]]).double() + 2e-12
    )
    low, high = vnnlib.snap(box, box.lower), vnnlib.snap(box, box.upper)
    for x in (low, high):
        assert x.dtype == torch.float32
        assert bool(((x.double() >= box.lower) & (x.double() <= box.upper))[:, [0, 2]].all())
    assert low[0, 0].double() - box.lower[0, 0] < 1e-8 and box.upper[0, 0] - high[0, 0].double() < 1e-7
    # No float32 number lies between the two ends, so the nearest one stands for them.
    assert low[0, 1].item() == high[0, 1].item() == np.float32(0.1)


def test_a_witness_reads_back_as_the_same_numbers() -> None:
    x = torch.tensor([[0.1, 1e-30], [-3.4e38, 1 / 3]])
    lines = vnnlib.write_witness(x, torch.tensor([2.0, -0.7])).splitlines()
    assert lines[0] == "sat" and lines[1].startswith("((X_0 ") and lines[-1].endswith("))")
    pairs = re.findall(r"\(([XY]_\d+) ([^()\s]+)\)", "\n".join(lines))
    assert [name for name, _ in pairs] == ["X_0", "X_1", "X_2", "X_3", "Y_0", "Y_1"]
    assert [np.float32(v) for _, v in pairs[:4]] == x.flatten().tolist()
    assert [float(v) for _, v in pairs[4:]] == [2.0, float(np.float32(-0.7))]


def test_a_witness_must_violate_in_the_box(model: Path, written: Callable[[str], Path]) -> None:
    asked = problems(written(BOX + "(assert (or (and (<= Y_0 0.5) (>= Y_1 0.25)) (>= Y_0 1.5)))"))
    session = onnx_run.session(model)
    assert vnnlib.check_witness(session, asked, point(0.25, 0.0))
    assert vnnlib.check_witness(session, asked, point(0.5, 0.0))
    assert vnnlib.check_witness(session, asked, point(-1.0, -0.5))
    assert not vnnlib.check_witness(session, asked, point(0.2, 0.0))
    assert not vnnlib.check_witness(session, asked, point(-0.25, 0.0))
    assert not vnnlib.check_witness(session, asked, point(2.0, -1.75))
    assert not vnnlib.check_witness(session, asked, point(float("nan"), 0.0))


def test_a_threshold_is_not_rounded_to_float32(model: Path, written: Callable[[str], Path]) -> None:
    session = onnx_run.session(model)
    beyond = problems(written(BOX + "(assert (>= Y_1 0.50000000000001))"))
    assert not vnnlib.check_witness(session, beyond, point(0.5, 0.0))
    assert vnnlib.check_witness(session, problems(written(BOX + "(assert (>= Y_1 0.5))")), point(0.5, 0.0))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BOX + "(assert (<= Y_0 -0.001))", "unsat"),
        (BOX + "(assert (and (>= Y_0 1.9) (<= Y_1 -1.9)))", "sat"),
        (BOX + "(assert (or (<= Y_0 -1) (and (<= (+ Y_0 Y_1) -0.01))))", "unsat"),
        (HALVES + "(assert (>= Y_1 0.9))", "sat"),
        (HALVES + "(assert (>= Y_0 1.1))", "unsat"),
        (BOX + "(assert (>= X_0 3))", "unsat"),
        (BOX, "sat"),
    ],
)
def test_the_verifier_answers(model: Path, written: Callable[[str], Path], text: str, word: str) -> None:
    file = written(text)
    found = answered(model, file)
    assert found.word == word
    if found.x is not None and found.y is not None:
        assert vnnlib.check_witness(onnx_run.session(model), problems(file), found.x)
        total = float(found.x.sum())
        assert found.y.tolist() == [abs(total), total]


def test_one_falsified_problem_is_sat(
    model: Path, written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = outcome(0, Verdict.UNKNOWN, Reason.TIME)
    fake(monkeypatch, [late, outcome(1, Verdict.FALSIFIED, x=point(1.0, 0.0))])
    assert answered(model, written(HALVES + "(assert (>= Y_1 0.9))")).word == "sat"


def test_a_counterexample_that_does_not_hold_is_unknown(
    model: Path, written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, [outcome(0, Verdict.FALSIFIED, x=point(1.0, 0.0))])
    assert answered(model, written(BOX + "(assert (>= Y_1 1.1))")).word == "unknown"


def test_time_that_is_left_goes_to_the_problems_that_ran_out(
    model: Path, written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [outcome(0, Verdict.CERTIFIED), outcome(1, Verdict.UNKNOWN, Reason.TIME)]
    calls = fake(monkeypatch, first, [outcome(0, Verdict.CERTIFIED)])
    assert answered(model, written(HALVES + "(assert (>= Y_0 1.1))"), seconds=20.0).word == "unsat"
    assert [count for count, _ in calls] == [2, 1]
    assert 9.0 < calls[0][1] <= 10.0 and 19.0 < calls[1][1] <= 20.0


@pytest.mark.parametrize(("reason", "word"), [(Reason.TIME, "timeout"), (Reason.MEMORY, "unknown")])
def test_the_reason_makes_the_word(
    model: Path,
    written: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    reason: Reason,
    word: str,
) -> None:
    fake(monkeypatch, [outcome(0, Verdict.UNKNOWN, reason)])
    assert answered(model, written(BOX + "(assert (<= Y_0 0))")).word == word


def test_no_time_is_a_timeout(
    model: Path, written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake(monkeypatch)
    assert answered(model, written(BOX + "(assert (<= Y_0 0))"), seconds=0.0).word == "timeout"
    assert calls == []


def run(model: Path, file: Path, **options: Any) -> None:
    # The age of the test's process is no part of the time.
    command(model, file, **{"timeout": age() + 20.0, **options})


def test_the_command_prints_and_writes_the_answer(
    model: Path, written: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "answer.txt"
    run(model, written(BOX + "(assert (<= Y_0 -1))"), result=result, threads=1)
    assert capsys.readouterr().out == result.read_text() == "unsat\n"
    run(model, written(BOX + "(assert (>= Y_0 1.9))"), result=result)
    out = capsys.readouterr().out
    assert out == result.read_text() and out.startswith("sat\n((X_0 ")


def test_a_mistake_is_an_error_on_the_first_line(
    model: Path, written: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, result = written(BOX + "(assert (<= Y_0 0))"), tmp_path / "answer.txt"
    bad, text = tmp_path / "bad.vnnlib", tmp_path / "text.onnx"
    bad.write_text(DECLARED + BOX + "(assert (< Y_0 0))")
    text.write_text("no model")
    table: list[tuple[Path, Path, dict[str, Any], type[Exception], str]] = [
        (model, bad, {}, InputError, "line 6"),
        (model, tmp_path / "none", {}, InputError, "no such property file"),
        (tmp_path / "none", good, {}, InputError, "no such model file"),
        (text, good, {}, ModelError, "not a readable ONNX file"),
        (model, good, {"timeout": 0.0}, InputError, "--timeout"),
        (model, good, {"threads": 0}, InputError, "--threads"),
        (model, good, {"device": "tpu"}, CertipruneError, "tpu"),
        (model, good, {"result": tmp_path / "none" / "x"}, InputError, "must be a file in a folder"),
    ]
    for network, file, options, kind, message in table:
        result.write_text("unsat\n")
        with pytest.raises(kind, match=message):
            run(network, file, **{"result": result, **options})
        assert capsys.readouterr().out == "error\n"
        assert "result" in options or result.read_text() == "error\n"


def test_a_proof_about_another_network_is_not_told(
    model: Path,
    written: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = onnx_run.run_onnx
    monkeypatch.setattr(onnx_run, "run_onnx", lambda session, x: right(session, x) + 1.0)
    with pytest.raises(CertipruneError, match="differ"):
        run(model, written(BOX + "(assert (<= Y_0 -1))"))
    assert capsys.readouterr().out == "error\n"


def test_the_age_of_a_process_counts_from_its_start() -> None:
    code = "import time; time.sleep(0.3); from certiprune.cli.vnnlib import age; print(age())"
    started = time.monotonic()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.0 < float(said.stdout) <= time.monotonic() - started + 0.05


def test_start_up_is_lean(model: Path, written: Callable[[str], Path]) -> None:
    file = written(BOX + "(assert (<= Y_0 -1))")
    code = (
        "import sys; from pathlib import Path; from certiprune.cli.vnnlib import vnnlib\n"
        f"vnnlib(Path({str(model)!r}), Path({str(file)!r}))\n"
        "print(sorted({'pydantic', 'sklearn', 'scipy', 'matplotlib', 'vnnlib'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "unsat\n[]\n"


TOOL = """#!/usr/bin/env bash
[[ $2 == --help ]] && exit 0
[[ "$1 $2 $3 $4 $5 $6 $7" == "vnnlib --timeout 7 --result my results.txt -- a net.onnx" ]] || exit 9
[[ -e $5 ]] && exit 8
grep -q unknown "$8" || exit 3
echo unknown >"$5"
"""


def script(name: str, *arguments: object, tool: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    call = ["bash", str(SCRIPTS / name), *map(str, arguments)]
    environment = {**os.environ, "CERTIPRUNE": str(tool)}
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_scripts_of_the_competition(tmp_path: Path) -> None:
    tool, net, file, results = (
        tmp_path / n for n in ("a tool", "a net.onnx", "a prop.vnnlib", "my results.txt")
    )
    tool.write_text(TOOL)
    tool.chmod(0o755)
    net.write_text("net")
    file.write_text("unknown")
    where = {"tool": tool, "folder": tmp_path}
    assert script("prepare_instance.sh", "v1", "acasxu", net.name, file.name, **where).returncode == 0
    results.write_text("sat\n")
    said = script("run_instance.sh", "v1", "acasxu", net.name, file.name, results.name, 7, **where)
    assert (said.returncode, results.read_text()) == (0, "unknown\n"), said.stderr
    file.write_text("crash")
    said = script("run_instance.sh", "v1", "acasxu", net.name, file.name, results.name, 7, **where)
    assert (said.returncode, results.read_text()) == (3, "error\n")


def test_the_scripts_refuse_wrong_calls(tmp_path: Path) -> None:
    where = {"tool": tmp_path / "none", "folder": tmp_path}
    (tmp_path / "x").write_text("")
    for name in ("install_tool.sh", "prepare_instance.sh", "run_instance.sh"):
        for arguments in ((), ("v2",), ("v1", "a", "b", "c", "d", "e", "f", "g")):
            said = script(name, *arguments, **where)
            assert said.returncode == 2 and said.stderr.startswith("usage: ")
    assert "cannot read" in script("prepare_instance.sh", "v1", "c", "none", "x", **where).stderr
    assert "install_tool.sh" in script("prepare_instance.sh", "v1", "c", "x", "x", **where).stderr
