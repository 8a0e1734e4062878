"""From an ONNX file straight into a ``Network``, without running it.

Every operator is checked before anything else happens: what is not supported is named with its node. The
result is compared with onnxruntime on a probe. A fixed batch of 1 in the file does not matter: the network
takes any batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from certiprune.core.errors import ModelError
from certiprune.net.build import Builder
from certiprune.net.network import Network
from certiprune.net.onnx_ops import HANDLERS
from certiprune.net.onnx_run import compare_with_runtime
from certiprune.net.ops import Shape

if TYPE_CHECKING:
    import onnx

_DOMAINS = ("", "ai.onnx")
_RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
_FLOATS = (1, 11)  # onnx.TensorProto.FLOAT and DOUBLE


def read(path: str | Path, *, probe: Tensor | None = None, check: bool = True) -> Network:
    """The network in an ONNX file, with weights in float64.

    Args:
        path: the file.
        probe: inputs [n, *shape] to compare on; by default two seeded random ones in [0, 1].
        check: whether to compare with onnxruntime.

    Raises:
        ModelError: no ONNX file, an unsupported operator (named), several inputs or outputs, weights that are
            not finite, or a file that onnxruntime refuses.
        LoweringError: onnxruntime gives other outputs.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise ModelError(f"no such model file: {path}") from error
    except Exception as error:  # protobuf's errors are classes of its own
        said = str(error).strip().split("\n")[0]
        raise ModelError(f"{path} is not a readable ONNX file ({type(error).__name__}: {said})") from error
    try:
        network = Reader(model).read()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if check:
        compare_with_runtime(network, path, probe)
    return network


class Reader:
    """Reads one graph into a builder; names map to value numbers or to constants."""

    def __init__(self, model: onnx.ModelProto):
        import onnx.numpy_helper as helper

        self.helper, self.model, self.graph = helper, model, model.graph
        self.constants: dict[str, np.ndarray] = {}
        for tensor in model.graph.initializer:
            try:
                self.constants[tensor.name] = helper.to_array(tensor)
            except (ValueError, TypeError, KeyError) as error:
                raise ModelError(f"the weight {tensor.name} is damaged: {error}") from error
        self.values: dict[str, int] = {}

    def read(self) -> Network:
        """The whole graph.

        Raises:
            ModelError: it cannot be read.
        """
        inputs = [i for i in self.graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            counts = f"{len(inputs)} inputs and {len(self.graph.output)} outputs"
            raise ModelError(f"a model must have one input and one output, not {counts}")
        shape = _input_shape(inputs[0])
        unknown = [f"{_name(node)} ({_operator(node)})" for node in self._unsupported()]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise ModelError(f"operators that are not supported: {', '.join(unknown[:5])}{more}")
        self.b = Builder(shape)
        self.values[inputs[0].name] = 0
        for node in self.graph.node:
            try:
                self._node(node)
            except (ValueError, TypeError, LookupError, StopIteration) as error:
                raise self.fail(node, f"is malformed ({str(error) or type(error).__name__})") from error
        name = self.graph.output[0].name
        if name not in self.values:
            raise ModelError(f"the output {name} does not depend on the input")
        return self.b.finish(self.values[name])

    def _unsupported(self) -> list[Any]:
        """The nodes that depend on the input's numbers and have no handler, and those that are not ONNX's own."""
        known, found = set(self.constants), []
        for node in self.graph.node:
            if node.domain not in _DOMAINS or node.op_type in _RANDOM:
                # A function of the file's own may have an operator's name and do anything.
                found.append(node)
            elif node.op_type in ("Constant", "Shape") or (
                node.input and known.issuperset(filter(None, node.input))
            ):
                known.update(node.output)
            elif node.op_type not in HANDLERS:
                found.append(node)
        return found

    def _node(self, node: Any) -> None:
        attributes = {a.name: self._attribute(a) for a in node.attribute}
        first = node.output[0]
        if node.op_type == "Constant":
            self.constants[first] = np.asarray(next(iter(attributes.values())))
        elif all(i in self.constants for i in node.input if i):
            self.constants[first] = self._folded(node)
        elif node.op_type == "Shape":
            shape = (1, *self.b.shapes[self.value(node, 0)])
            wanted = slice(attributes.get("start", 0), attributes.get("end"))
            self.constants[first] = np.array(shape[wanted], dtype=np.int64)
        else:
            self.values[first] = HANDLERS[node.op_type](self, node, attributes, _name(node))

    def _attribute(self, a: Any) -> Any:
        import onnx

        value = onnx.helper.get_attribute_value(a)
        if isinstance(value, onnx.TensorProto):
            return self.helper.to_array(value)
        return value.decode() if isinstance(value, bytes) else value

    def _folded(self, node: Any) -> np.ndarray:
        """An operator whose inputs are all constants, worked out here."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        names = dict.fromkeys(i for i in node.input if i)
        graph = onnx.helper.make_graph(
            [node],
            "constant",
            [],
            [onnx.helper.make_empty_tensor_value_info(o) for o in node.output if o],
            [self.helper.from_array(self.constants[i], i) for i in names],
        )
        try:
            model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
            outputs: Any = ReferenceEvaluator(model).run(None, {})
            return np.asarray(outputs[0])
        except Exception as error:  # any operator of ONNX may stand here
            raise self.fail(node, "of constants cannot be worked out") from error

    def fail(self, node: Any, why: str) -> ModelError:
        """The error that names a node and says what is wrong with it."""
        return ModelError(f"{_name(node)} ({node.op_type}): {why}")

    def value(self, node: Any, k: int) -> int:
        """The number of the value that is a node's input ``k``.

        Raises:
            ModelError: it is no value that depends on the model's input.
        """
        if k >= len(node.input) or node.input[k] not in self.values:
            raise self.fail(node, f"input {k} must depend on the model's input")
        return self.values[node.input[k]]

    def constant(self, node: Any, k: int) -> np.ndarray | None:
        """A node's input ``k``, None where it is left out.

        Raises:
            ModelError: it is no constant.
        """
        if k >= len(node.input) or not node.input[k]:
            return None
        if node.input[k] not in self.constants:
            raise self.fail(node, f"input {k} must be a constant")
        return self.constants[node.input[k]]

    def integers(self, node: Any, k: int, otherwise: list[int]) -> list[int]:
        """A node's input ``k`` as whole numbers; ``otherwise`` (older files' attribute) where it is left out."""
        found = self.constant(node, k)
        return list(otherwise) if found is None else [int(v) for v in np.asarray(found).reshape(-1)]

    def tensor(self, node: Any, k: int) -> Tensor | None:
        """A node's input ``k`` in float64, None where it is left out."""
        array = self.constant(node, k)
        return None if array is None else torch.from_numpy(np.array(array, dtype=np.float64))

    def weight(self, node: Any, k: int) -> Tensor:
        """A node's input ``k`` in float64.

        Raises:
            ModelError: it is left out or no constant.
        """
        found = self.tensor(node, k)
        if found is None:
            raise self.fail(node, f"input {k} is missing")
        return found


def _name(node: Any) -> str:
    return str(node.name or next(iter(node.output), "a node without an output"))


def _operator(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _input_shape(entry: Any) -> Shape:
    """The input's shape without the batch dimension."""
    kind = entry.type.tensor_type
    dims = [d.dim_value for d in kind.shape.dim]
    shape = tuple(dims[1:]) if len(dims) > 1 else tuple(dims)
    if not shape or any(d < 1 for d in shape):
        named = ", ".join(str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim)
        raise ModelError(
            f"the input {entry.name} has the shape [{named}], which must be fixed but for the batch"
        )
    if len(dims) > 1 and dims[0] > 1:
        raise ModelError(f"the input has a fixed batch of {dims[0]}; export it with a batch of 1 or any")
    if kind.elem_type not in _FLOATS:
        raise ModelError(f"the input {entry.name} must be a tensor of float32 or float64 numbers")
    return shape
