"""Small ONNX files made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    """Random numbers in single precision, away from zero."""
    drawn = RANDOM.uniform(0.2, 1.5, shape) * RANDOM.choice([-1.0, 1.0], shape)
    return drawn.astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def node(kind: str, *inputs: str, out: str = "y", **attributes: Any) -> Any:
    """A node whose name is its operator's in lower case."""
    return helper.make_node(kind, list(inputs), [out], name=kind.lower(), **attributes)


def save(
    path: Path,
    nodes: list[Any],
    shape: list[Any],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    output: str = "y",
) -> Path:
    """Write a model from ``x`` of ``shape`` (the batch first) to ``output``."""
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    graph.output[0].type.tensor_type.elem_type = kind
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path
