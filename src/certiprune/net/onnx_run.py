"""ONNX models run by onnxruntime, to hold networks to what they came from or became."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certiprune.core.errors import LoweringError, ModelError
from certiprune.net.lower import random_probe
from certiprune.net.network import Network


def session(model: str | Path | bytes, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU for a file, or for a model in memory.

    Raises:
        ModelError: onnxruntime refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        raise ModelError(f"onnxruntime cannot run the model: {_first_line(error)}") from error


def run_onnx(running: Any, x: Tensor) -> Tensor:
    """Outputs [n, outputs] of an onnxruntime session for inputs [n, *shape], given to it one by one.

    Raises:
        ModelError: onnxruntime fails on them.
    """
    entry = running.get_inputs()[0]
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape]
    kind = np.float64 if entry.type == "tensor(double)" else np.float32
    rows = []
    for item in x.detach().cpu().unbind(0):
        try:
            found = running.run(None, {entry.name: item.numpy().astype(kind).reshape(shape)})[0]
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run the model: {_first_line(error)}") from error
        rows.append(torch.from_numpy(np.array(found)).reshape(-1))
    return torch.stack(rows)


def runner(model: str | Path) -> Callable[[Tensor], Tensor]:
    """The file's model as a function from inputs [n, *shape] to outputs [n, outputs]; loaded when first called."""
    loaded: list[Any] = []

    def run(x: Tensor) -> Tensor:
        if not loaded:
            loaded.append(session(model))
        return run_onnx(loaded[0], x)

    return run


def compare_with_runtime(
    network: Network, model: str | Path | bytes, probe: Tensor | None = None, *, rtol: float = 1e-4
) -> None:
    """Check that ``network`` and onnxruntime agree on a probe, up to float32 rounding.

    Args:
        network: what ``model`` should compute.
        model: a file, or a model in memory.
        probe: inputs [n, *shape]; two seeded random ones in [0, 1] when None.
        rtol: the largest difference, as a fraction of the largest output (or of 1 where that is smaller).

    Raises:
        LoweringError: they do not agree.
        ModelError: onnxruntime refuses the model.
    """
    inputs = (random_probe(network.input_shape)[:2] if probe is None else probe).float()
    given = run_onnx(session(model), inputs).double()
    ours = network(inputs.to(network.device, network.dtype)).double().cpu()
    where = "the ONNX model" if isinstance(model, bytes) else str(model)
    if given.shape != ours.shape:
        sizes = f"{given.shape[1]} outputs, the network {ours.shape[1]}"
        raise LoweringError(f"{where}: onnxruntime gives {sizes}")
    worst = float((given - ours).abs().max())
    if not (math.isfinite(worst) and worst <= rtol * max(1.0, float(given.abs().max()))):
        raise LoweringError(f"{where}: the network and onnxruntime differ by {worst:.3g} on a probe")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split("\n")[0]
