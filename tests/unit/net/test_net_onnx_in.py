"""Reading ONNX: every operator against onnxruntime, on inputs of both signs; and files that cannot be read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_models import array, ints, node, save

from certiprune.core.errors import LoweringError, ModelError
from certiprune.core.rng import generator
from certiprune.net import onnx_in
from certiprune.net.onnx_run import compare_with_runtime, run_onnx, session
from certiprune.net.ops import Dense

IMAGE = ["batch", 4, 6, 5]
FLAT = ["batch", 8]
KERNEL = {"w": array(4, 4, 3, 3), "b": array(4)}


def constant(name: str, **attribute) -> object:
    return helper.make_node("Constant", [], [name], name=f"constant {name}", **attribute)


# name -> nodes, the input's shape, constants
CASES: dict[str, tuple] = {
    "conv": ([node("Conv", "x", "w", "b", pads=[1, 1, 1, 1], strides=[2, 1])], IMAGE, KERNEL),
    "conv without attributes": ([node("Conv", "x", "w")], IMAGE, {"w": KERNEL["w"]}),
    "conv with uneven pads": ([node("Conv", "x", "w", "b", pads=[0, 2, 1, 0])], IMAGE, KERNEL),
    "conv SAME_UPPER": (
        [node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2])], IMAGE, {"w": array(4, 4, 3, 2)}
    ),
    "conv SAME_LOWER": (
        [node("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[1, 2])], IMAGE, {"w": array(4, 4, 4, 2)}
    ),
    "conv VALID": ([node("Conv", "x", "w", auto_pad="VALID")], IMAGE, {"w": KERNEL["w"]}),
    "conv in groups": ([node("Conv", "x", "w", group=2)], IMAGE, {"w": array(6, 2, 3, 3)}),
    "depthwise conv": ([node("Conv", "x", "w", group=4)], IMAGE, {"w": array(4, 1, 2, 2)}),
    "gemm": ([node("Gemm", "x", "w", "b")], FLAT, {"w": array(8, 3), "b": array(3)}),
    "gemm transB alpha beta": (
        [node("Gemm", "x", "w", "b", transB=1, alpha=0.5, beta=-2.0)], FLAT, {"w": array(3, 8), "b": array(1, 3)}
    ),
    "gemm with one bias for all": ([node("Gemm", "x", "w", "b")], FLAT, {"w": array(8, 3), "b": array(1)}),
    "gemm without bias": ([node("Gemm", "x", "w")], FLAT, {"w": array(8, 3)}),
    "matmul right": ([node("MatMul", "x", "w")], FLAT, {"w": array(8, 3)}),
    "matmul left of a column": ([node("MatMul", "w", "x")], [1, 8, 1], {"w": array(3, 8)}),
    "matmul left of a vector": ([node("MatMul", "w", "x")], [8], {"w": array(3, 8)}),
    "relu": ([node("Relu", "x")], IMAGE, {}),
    "add a constant": ([node("Add", "x", "c")], IMAGE, {"c": array(1, 4, 1, 1)}),
    "add to a constant": ([node("Add", "c", "x")], IMAGE, {"c": array(5)}),
    "subtract a constant": ([node("Sub", "x", "c")], IMAGE, {"c": array(4, 6, 5)}),
    "subtract from a constant": ([node("Sub", "c", "x")], IMAGE, {"c": array(4, 1, 1)}),
    "multiply by a constant": ([node("Mul", "x", "c")], FLAT, {"c": array(1, 8)}),
    "multiply a constant": ([node("Mul", "c", "x")], FLAT, {"c": array()}),
    "divide by a constant": ([node("Div", "x", "c")], IMAGE, {"c": array(6, 1)}),
    "add values": ([node("Relu", "x", out="r"), node("Add", "x", "r")], IMAGE, {}),
    "subtract values": ([node("Relu", "x", out="r"), node("Sub", "r", "x")], IMAGE, {}),
    "add a value to itself": ([node("Add", "x", "x")], FLAT, {}),
    "batch norm of images": (
        [node("BatchNormalization", "x", "g", "b", "m", "v", epsilon=0.01)], IMAGE,
        {"g": array(4), "b": array(4), "m": array(4), "v": np.abs(array(4))},
    ),
    "batch norm of neurons": (
        [node("BatchNormalization", "x", "g", "b", "m", "v")], FLAT,
        {"g": array(8), "b": array(8), "m": array(8), "v": np.abs(array(8))},
    ),
    "average pool": ([node("AveragePool", "x", kernel_shape=[2, 3], strides=[2, 1])], IMAGE, {}),
    "average pool, pads not counted": ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], IMAGE, {}),
    "average pool, pads counted": (
        [node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1, strides=[2, 2])],
        IMAGE, {},
    ),
    "global average pool": ([node("GlobalAveragePool", "x")], IMAGE, {}),
    "max pool": ([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])], IMAGE, {}),
    "max pool, overlapping": ([node("MaxPool", "x", kernel_shape=[3, 2])], IMAGE, {}),
    "max pool with pads after relu": (
        [node("Relu", "x", out="r"), node("MaxPool", "r", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
        IMAGE, {},
    ),
    "flatten": ([node("Flatten", "x")], IMAGE, {}),
    "flatten from the end": ([node("Flatten", "x", axis=-3)], IMAGE, {}),
    "flatten a batch of one": ([node("Flatten", "x", axis=0)], [1, 4, 6, 5], {}),
    "reshape with 0": ([node("Reshape", "x", "s")], IMAGE, {"s": ints(0, 0, 30)}),
    "reshape with -1": ([node("Reshape", "x", "s")], IMAGE, {"s": ints(0, 10, -1)}),
    "reshape with the batch as -1": ([node("Reshape", "x", "s")], IMAGE, {"s": ints(-1, 120)}),
    "reshape for a batch of one": ([node("Reshape", "x", "s")], [1, 4, 6, 5], {"s": ints(1, -1)}),
    "transpose": ([node("Transpose", "x", perm=[0, 2, 3, 1])], IMAGE, {}),
    "transpose to itself": ([node("Transpose", "x", perm=[0, 1, 2, 3]), node("Relu", "y", out="z")], IMAGE, {}),
    "pad": ([node("Pad", "x", "p")], IMAGE, {"p": ints(0, 1, 0, 2, 0, 0, 3, 1)}),
    "pad with a given zero": (
        [node("Pad", "x", "p", "z")], IMAGE, {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "z": np.float32(0)}
    ),
    "crop": ([node("Pad", "x", "p")], IMAGE, {"p": ints(0, 0, -1, 0, 0, 0, 0, -2)}),
    "concat channels": ([node("Relu", "x", out="r"), node("Concat", "x", "r", "x", axis=1)], IMAGE, {}),
    "concat columns": ([node("Relu", "x", out="r"), node("Concat", "r", "x", axis=-1)], IMAGE, {}),
    "slice": ([node("Slice", "x", "s", "e", "a")], IMAGE, {"s": ints(1, 0), "e": ints(3, 2), "a": ints(1, 3)}),
    "slice with steps": (
        [node("Slice", "x", "s", "e", "a", "t")], IMAGE,
        {"s": ints(0, 1), "e": ints(2**40, 5), "a": ints(2, -1), "t": ints(2, 3)},
    ),
    "slice backwards": (
        [node("Slice", "x", "s", "e", "a", "t")], IMAGE,
        {"s": ints(-1), "e": ints(-(2**40)), "a": ints(2), "t": ints(-2)},
    ),
    "slice from the end": ([node("Slice", "x", "s", "e", "a")], IMAGE, {"s": ints(-3), "e": ints(-1), "a": ints(2)}),
    "gather several": ([node("Gather", "x", "i", axis=2)], IMAGE, {"i": ints(5, 0, -2, 0)}),
    "gather one": ([node("Gather", "x", "i", axis=1)], IMAGE, {"i": np.int64(-1)}),
    "unsqueeze and squeeze": (
        [node("Unsqueeze", "x", "u", out="a"), node("Relu", "a", out="b"), node("Squeeze", "b", "q")],
        FLAT, {"u": ints(1, 3), "q": ints(-1)},
    ),
    "identity and dropout": (
        [node("Identity", "x", out="a"), node("Dropout", "a", out="b"), node("Relu", "b")], FLAT, {}
    ),
    "an identity as the output of a sum": (
        [node("Relu", "x", out="r"), node("Add", "r", "x", out="a"), node("Identity", "a")], FLAT, {}
    ),
    "constants": (
        [constant("c", value=numpy_helper.from_array(array(8))), constant("f", value_float=-0.5),
         node("Mul", "x", "c", out="a"), node("Add", "a", "f")],
        FLAT, {},
    ),
    "constants worked out": (
        [node("Transpose", "w", out="t", perm=[1, 0]), node("Exp", "t", out="e"), node("Mul", "e", "e", out="m"),
         node("MatMul", "x", "m")],
        FLAT, {"w": array(3, 8)},
    ),
    "sizes worked out": (
        [node("Shape", "x", out="s"), node("Gather", "s", "zero", out="n"), node("Unsqueeze", "n", "zero1", out="n1"),
         node("Concat", "n1", "rest", out="t", axis=0), node("Reshape", "x", "t")],
        IMAGE, {"zero": np.int64(0), "zero1": ints(0), "rest": ints(-1)},
    ),
    "part of a shape": ([node("Shape", "x", out="s", start=1), node("Cast", "s", out="f", to=TensorProto.FLOAT),
                         node("ReduceMax", "f", out="m", keepdims=0), node("Mul", "x", "m")], IMAGE, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_operator_computes_what_onnxruntime_computes(name, tmp_path):
    nodes, shape, constants = CASES[name]
    path = save(tmp_path / "model.onnx", nodes, shape, constants, output=nodes[-1].output[0])
    network = onnx_in.read(path)
    inner = shape[1:] if len(shape) > 1 else shape
    x = torch.randn(3, *inner, generator=generator(0, name))
    torch.testing.assert_close(network(x.double()).float(), run_onnx(session(path), x), rtol=1e-4, atol=1e-5)
    assert network.input_shape == tuple(inner)


OLD = {
    "slice by attributes": (
        9, [node("Slice", "x", axes=[1, 2], starts=[1, -4], ends=[3, 2**31])], IMAGE, {}
    ),
    "pad by attributes": (9, [node("Pad", "x", pads=[0, 0, 1, 0, 0, 0, 0, 2])], IMAGE, {}),
    "squeeze by attributes": (
        11, [node("Unsqueeze", "x", out="a", axes=[2]), node("Squeeze", "a", axes=[2], out="b"), node("Relu", "b")],
        FLAT, {},
    ),
    "constants by attributes": (
        11, [node("Unsqueeze", "c", out="a", axes=[1, 2]), node("Mul", "x", "a")], IMAGE, {"c": array(4)}
    ),
    "pad some axes": (18, [node("Pad", "x", "p", "", "a")], IMAGE, {"p": ints(1, 2, 0, 3), "a": ints(-1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_other_versions_of_the_operators_are_read(name, tmp_path):
    opset, nodes, shape, constants = OLD[name]
    path = save(tmp_path / "model.onnx", nodes, shape, constants, opset=opset)
    x = torch.randn(2, *shape[1:], generator=generator(0, name))
    torch.testing.assert_close(onnx_in.read(path)(x.double()).float(), run_onnx(session(path), x))


def test_double_precision_inputs_are_read(tmp_path):
    constants = {"w": array(8, 3).astype(np.float64)}
    path = save(tmp_path / "m.onnx", [node("MatMul", "x", "w")], FLAT, constants, kind=TensorProto.DOUBLE)
    assert onnx_in.read(path).outputs == 3


def test_neighbouring_affine_operators_become_one(tmp_path):
    nodes = [
        node("Sub", "x", "m", out="a"),
        node("Div", "a", "s", out="b"),
        node("MatMul", "b", "w", out="c"),
    ]
    constants = {"m": array(8), "s": array(8), "w": array(8, 3), "b2": array(3)}
    network = onnx_in.read(save(tmp_path / "m.onnx", [*nodes, node("Add", "c", "b2")], FLAT, constants))
    assert [type(n.op) for n in network.nodes] == [Dense]


REFUSED = {
    "operators, all of them named": (
        [node("Sigmoid", "x", out="a"), node("Relu", "a", out="b"), node("Softmax", "b")], FLAT, {},
        r"m\.onnx: operators that are not supported: sigmoid \(Sigmoid\), softmax \(Softmax\)$",
    ),
    "random numbers": (
        [node("RandomNormal", out="r", shape=[8]), node("Add", "x", "r")], FLAT, {}, r"randomnormal \(RandomNormal\)"
    ),
    "dilation": ([node("Conv", "x", "w", dilations=[2, 2])], IMAGE, KERNEL, r"conv \(Conv\): dilation is not"),
    "a convolution in one dimension": (
        [node("Conv", "x", "w")], ["batch", 4, 6], {"w": array(4, 4, 3)}, "only two-dimensional convolutions"
    ),
    "a convolution of another size": (
        [node("Conv", "x", "w")], IMAGE, {"w": array(4, 3, 3, 3)}, r"its weight \(4, 3, 3, 3\) does not fit"
    ),
    "a kernel that depends on the input": ([node("Conv", "x", "x")], IMAGE, {}, "input 1 must be a constant"),
    "a missing weight": ([node("Conv", "x")], IMAGE, {}, "input 1 is missing"),
    "transA": ([node("Gemm", "x", "w", transA=1)], FLAT, {"w": array(8, 3)}, "transA is not supported"),
    "a matrix of another size": ([node("Gemm", "x", "w")], FLAT, {"w": array(7, 3)}, r"gemm \(Gemm\): its weight"),
    "a bias of another size": ([node("Gemm", "x", "w", "b")], FLAT, {"w": array(8, 3), "b": array(2)}, "its bias"),
    "a product of a matrix and an image": (
        [node("MatMul", "x", "w")], IMAGE, {"w": array(5, 3)}, r"a product of \(5, 3\) and a value of \(4, 6, 5\)"
    ),
    "a matrix product of values": ([node("MatMul", "x", "x")], ["batch", 3, 3], {}, "two values .* not affine"),
    "a product of values": ([node("Mul", "x", "x")], FLAT, {}, r"mul \(Mul\): of two values .* is not affine"),
    "a quotient by a value": ([node("Div", "c", "x")], FLAT, {"c": array(8)}, "by a value that depends"),
    "a division by zero": ([node("Div", "x", "c")], FLAT, {"c": np.zeros(8, np.float32)}, "div: the scale holds NaN"),
    "weights that are not numbers": (
        [node("MatMul", "x", "w")], FLAT, {"w": np.full((8, 2), np.nan, np.float32)}, "matmul: the weight holds NaN"
    ),
    "a constant that enlarges": (
        [node("Add", "x", "c")], FLAT, {"c": array(3, 8)}, r"add: a constant of shape \(3, 8\) does not fit"
    ),
    "values of two shapes": (
        [node("GlobalAveragePool", "x", out="g"), node("Add", "x", "g")], IMAGE, {}, "add: Add of different shapes"
    ),
    "pooling with ceil_mode": (
        [node("MaxPool", "x", kernel_shape=[2, 2], ceil_mode=1)], IMAGE, {}, "only plain two-dimensional pooling"
    ),
    "pooling with uneven pads": (
        [node("AveragePool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1])], IMAGE, {}, "uneven padding is not"
    ),
    "padded max pooling of any numbers": (
        [node("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], IMAGE, {}, "only right after a ReLU"
    ),
    "batch norm in training": (
        [node("BatchNormalization", "x", "g", "g", "g", "g", training_mode=1)], FLAT, {"g": np.abs(array(8))},
        "training mode depends on the batch",
    ),
    "flattening a part": ([node("Flatten", "x", axis=2)], IMAGE, {}, "only flattening everything but the batch"),
    "a reshape of the batch": ([node("Reshape", "x", "s")], IMAGE, {"s": ints(2, -1)}, "must keep the batch first"),
    "a reshape to another size": ([node("Reshape", "x", "s")], IMAGE, {"s": ints(0, 7, -1)}, "reshape: cannot reshape"),
    "a transposed batch": ([node("Transpose", "x")], FLAT, {}, r"transpose \(Transpose\): the batch dimension"),
    "padding by reflection": (
        [node("Pad", "x", "p", mode="reflect")], FLAT, {"p": ints(0, 1, 0, 1)}, "only padding with zeros"
    ),
    "padding with ones": (
        [node("Pad", "x", "p", "v")], FLAT, {"p": ints(0, 1, 0, 1), "v": np.float32(1)}, "only padding with zeros"
    ),
    "padding the batch": ([node("Pad", "x", "p")], FLAT, {"p": ints(1, 0, 0, 0)}, "padding the batch is not"),
    "padding of another rank": ([node("Pad", "x", "p")], FLAT, {"p": ints(1, 1)}, r"the padding \[1, 1\] does not fit"),
    "slicing the batch": (
        [node("Slice", "x", "s", "e")], FLAT, {"s": ints(0), "e": ints(1)}, "along the batch is not supported"
    ),
    "an empty slice": (
        [node("Slice", "x", "s", "e", "a")], FLAT, {"s": ints(5), "e": ints(2), "a": ints(1)},
        "slice: Select leaves nothing",
    ),
    "an index out of range": ([node("Gather", "x", "i", axis=1)], FLAT, {"i": ints(8)}, "do not fit a value"),
    "concatenating the batch": ([node("Concat", "x", "x", axis=0)], FLAT, {}, "along the batch is not supported"),
    "concatenating a constant": (
        [node("Concat", "x", "c", axis=1)], FLAT, {"c": array(1, 8)}, "input 1 must depend on the model's input"
    ),
    "squeezing what is not given": ([node("Squeeze", "x")], ["batch", 1, 8], {}, "its axes must be given"),
    "an output without the input": ([node("Exp", "c")], FLAT, {"c": array(8)}, "the output y does not depend"),
    "constants that cannot be worked out": (
        [node("MatMul", "c", "c", out="m"), node("Add", "x", "m")], FLAT, {"c": array(2, 3)},
        r"matmul \(MatMul\): of constants cannot be worked out",
    ),
    "a free size": ([node("Relu", "x")], ["batch", "width"], {}, r"x has the shape \[batch, width\], which"),
    "a fixed batch": ([node("Relu", "x")], [16, 8], {}, "a fixed batch of 16"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named(name, tmp_path):
    nodes, shape, constants, message = REFUSED[name]
    path = save(tmp_path / "m.onnx", nodes, shape, constants)
    with pytest.raises(ModelError, match=message) as caught:
        onnx_in.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_unsupported_operators_are_named_before_anything_else_is_looked_at(tmp_path):
    nodes = [node("Conv", "x", "w", dilations=[2, 2], out="c"), *(node("Tanh", "c") for _ in range(7))]
    with pytest.raises(ModelError, match=r"tanh \(Tanh\).* and 2 more"):
        onnx_in.read(save(tmp_path / "m.onnx", nodes, IMAGE, KERNEL))


def test_several_inputs_or_outputs_are_refused(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    add = helper.make_node("Add", ["x", "y"], ["z"])
    z = helper.make_empty_tensor_value_info("z")
    onnx.save(helper.make_model(helper.make_graph([add], "two", [x, y], [z])), tmp_path / "two.onnx")
    with pytest.raises(ModelError, match="one input and one output, not 2 inputs and 1 outputs"):
        onnx_in.read(tmp_path / "two.onnx")


def test_whole_numbers_are_refused_as_input(tmp_path):
    path = save(tmp_path / "m.onnx", [node("Identity", "x")], FLAT, kind=TensorProto.INT64)
    with pytest.raises(ModelError, match="the input x must be a tensor of float32 or float64 numbers"):
        onnx_in.read(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x3a\xff\xff\xff\xff\x0f"])
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.onnx"):
        onnx_in.read(path)


def test_a_shortened_file_is_named(tmp_path):
    path = save(tmp_path / "m.onnx", [node("MatMul", "x", "w")], FLAT, {"w": array(8, 3)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"m\.onnx"):
        onnx_in.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no such model file: .*absent\.onnx"):
        onnx_in.read(tmp_path / "absent.onnx")


def test_a_file_that_onnxruntime_refuses_is_a_model_error(tmp_path):
    path = save(tmp_path / "m.onnx", [node("Relu", "x", axis=3)], FLAT)
    assert onnx_in.read(path, check=False).neurons == 8
    with pytest.raises(ModelError, match="onnxruntime cannot run the model"):
        onnx_in.read(path)


def test_the_comparison_sees_a_difference_and_the_probe_that_shows_it(tmp_path):
    path = save(tmp_path / "m.onnx", [node("MatMul", "x", "w")], FLAT, {"w": array(8, 3)})
    other = save(tmp_path / "o.onnx", [node("MatMul", "x", "w")], FLAT, {"w": array(8, 3)})
    network = onnx_in.read(path, probe=torch.zeros(1, 8))
    compare_with_runtime(network, other, torch.zeros(1, 8))
    with pytest.raises(LoweringError, match=r"o\.onnx: the network and onnxruntime differ by"):
        compare_with_runtime(network, other)
    wider = save(tmp_path / "w.onnx", [node("MatMul", "x", "w")], FLAT, {"w": array(8, 4)})
    with pytest.raises(LoweringError, match="onnxruntime gives 4 outputs, the network 3"):
        compare_with_runtime(network, wider)


def test_inputs_that_onnxruntime_cannot_take_are_a_model_error(tmp_path):
    path = save(tmp_path / "m.onnx", [node("Relu", "x")], FLAT)
    with pytest.raises(ModelError, match="onnxruntime cannot run the model"):
        run_onnx(session(path), torch.zeros(2, 5))
