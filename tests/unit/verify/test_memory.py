"""Memory that runs out ends in smaller parts, or in "unknown: memory", and never in a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from certiprune.core.errors import ModelError
from certiprune.net.onnx_run import run_onnx
from certiprune.verify import Cascade, Reason, Verdict, verify
from certiprune.verify.cascade import _Group
from certiprune.verify.memory import out_of_memory, smaller
from helpers.networks import Source, random_network

CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
STEPS = ("clean", "interval", "crown", "attack", "alpha", "branch")
ERRORS = [RuntimeError(CPU), MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")]
# Nothing is decided before branch and bound, so that every step is met.
WEAK = Cascade(attack_steps=0, attack_restarts=0, tighten_steps=0, alpha_steps=0)


def asked(how: Cascade | None = None) -> dict[int, Any]:
    network = random_network(11, 14, kind="residual_mlp")
    x = Source.of(1).uniform(5, *network.input_shape).float()
    labels = network(x.double()).argmax(1)
    return {outcome.index: outcome for outcome in verify(network, x, labels, eps=0.2, how=how)}


def failing(
    monkeypatch: pytest.MonkeyPatch, step: str, error: Exception, when: Callable[[_Group], bool]
) -> None:
    """Let a step of the cascade raise, where ``when`` says so."""
    real = getattr(_Group, step)

    def fail(group: _Group, *arguments: Any) -> Any:
        if when(group):
            raise error
        return real(group, *arguments)

    monkeypatch.setattr(_Group, step, fail)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_never_fits_is_unknown(monkeypatch: pytest.MonkeyPatch, step: str, error: Exception) -> None:
    expected = asked(WEAK)
    failing(monkeypatch, step, error, lambda group: True)
    found = asked(WEAK)
    assert sorted(found) == sorted(expected)
    starved = [outcome for outcome in found.values() if outcome.verdict is Verdict.UNKNOWN]
    assert all(outcome.reason is Reason.MEMORY for outcome in starved)
    assert starved
    for index, outcome in found.items():
        assert outcome.verdict in (Verdict.UNKNOWN, expected[index].verdict)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "when", [lambda group: len(group.problem) > 1, lambda group: group.engine.memory > 1 << 20]
)
def test_what_fits_in_smaller_parts_is_decided(
    monkeypatch: pytest.MonkeyPatch, step: str, when: Callable[[_Group], bool]
) -> None:
    expected = asked(WEAK)
    failing(monkeypatch, step, RuntimeError(CPU), when)
    found = asked(WEAK)
    assert {k: o.verdict for k, o in found.items()} == {k: o.verdict for k, o in expected.items()}


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("x"), KeyError("memory")])
def test_other_errors_come_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, "crown", error, lambda group: True)
    with pytest.raises(type(error)):
        asked(WEAK)


def test_a_failed_allocation_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 48, dtype=torch.uint8)
    assert out_of_memory(caught.value)

    class Running:
        def get_inputs(self) -> Any:
            return [type("Entry", (), {"name": "x", "shape": [1, 2], "type": "tensor(float)"})]

        def run(self, *_: Any) -> Any:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    with pytest.raises(ModelError) as refused:
        run_onnx(Running(), torch.zeros(1, 2))
    assert out_of_memory(refused.value)
    assert not out_of_memory(ModelError("x"))


def test_parts_get_smaller_until_there_is_one_of_one() -> None:
    parts, sizes = [(4 << 30, torch.arange(5))], []
    while parts:
        memory, part = parts.pop()
        sizes.append((len(part), memory))
        parts += smaller(memory, part)
    assert sum(size == (1, 1 << 20) for size in sizes) == 5
    assert len(sizes) < 40
