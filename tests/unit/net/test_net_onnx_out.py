"""ONNX files that are written: onnxruntime computes what the network does, and reading gives the network back."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError, LoweringError, ModelError
from certiprune.core.rng import generator
from certiprune.net import Network, compact, lower, onnx_in, onnx_out
from certiprune.net.build import Builder
from certiprune.net.network import Node
from certiprune.net.onnx_run import run_onnx, session
from certiprune.net.ops import Affine, Conv, Dense, Pad, Permute, Relu, Reshape, Scale, Select
from certiprune.net.zoo import ModelSpec, build, names

RANDOM = generator(0, "onnx out")
IMAGE = (3, 6, 5)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


def round_trip(network: Network, path) -> None:
    """Write ``network``; what onnxruntime computes and what is read back both equal it."""
    file = onnx_out.write(network, path)
    x = draw(4, *network.input_shape).float()
    expected = network(x.double())
    torch.testing.assert_close(run_onnx(session(file), x).double(), expected, rtol=1e-4, atol=1e-4)
    again = onnx_in.read(file)
    assert again.input_shape == network.input_shape
    torch.testing.assert_close(again(x.double()), expected, rtol=1e-5, atol=1e-5)


OPS: dict[str, Affine | Relu] = {
    "convolution": Conv(draw(4, 3, 3, 3), draw(4, 1, 1), (2, 1), (1, 0)),
    "convolution without bias": Conv(draw(4, 3, 3, 2), None),
    "convolution with a bias per position": Conv(draw(4, 3, 3, 3), draw(4, 6, 5), (1, 1), (1, 1)),
    "grouped convolution": Conv(draw(6, 1, 2, 2), draw(6, 1, 1), (1, 1), (0, 1), 3),
    "relu": Relu(),
    "scale and shift": Scale(draw(3, 1, 1), draw(6, 5)),
    "scale by a number": Scale(draw(), None),
    "shift": Scale(torch.ones((), dtype=torch.float64), draw(3, 1, 1)),
    "nothing": Scale(torch.ones((), dtype=torch.float64), None),
    "reshape": Reshape((5, 18)),
    "permute": Permute((1, 2, 0)),
    "pad": Pad((1, 0, 2, 3)),
    "crop rows": Pad((0, 0, -1, -2)),
    "pad channels": Pad((0, 0, 0, 0, 1, 2)),
    "pick": Select(2, torch.tensor([4, 0, 0, 1])),
    "place": Select(0, torch.tensor([4, 0, 2]), 6),
    "place in the middle": Select(1, torch.tensor([1, 2, 3, 4, 5, 6]), 9),
    "flatten": Reshape((90,)),
}


@pytest.mark.parametrize("name", OPS)
def test_every_operation_goes_out_and_comes_back(name, tmp_path):
    nodes = [Node(OPS[name], (0,), name)]
    if name != "flatten":
        size = Network(tuple(nodes), IMAGE).outputs
        nodes.append(Node(Reshape((size,)), (1,)))
    round_trip(Network((*nodes, Node(Relu(), (len(nodes),))), IMAGE), tmp_path / "model.onnx")


def test_matrices_and_sums_of_several_values(tmp_path):
    builder = Builder((4,))
    a = builder.emit(Dense(draw(3, 4), draw(3)), 0, name="a")
    b = builder.relu(builder.emit(Dense(draw(3, 4), None), 0, name="b"), "r")
    builder.add(a, b, a, builder.relu(a), name="sum")
    round_trip(Network(tuple(builder.nodes), (4,)), tmp_path / "model.onnx")


@pytest.mark.parametrize("name", names())
def test_every_model_of_the_zoo_goes_out_compacted_and_comes_back(name, tmp_path):
    model = build(ModelSpec(name, (3, 8, 8), 4, (0.3,) * 3, (0.2,) * 3, width=0.25)).eval()
    with torch.no_grad():
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        first.weight[0] = 0
    network, _ = compact(lower(model, shape=(3, 8, 8)))
    round_trip(network, tmp_path / "model.onnx")


def example() -> Network:
    return lower(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), shape=(3, 2, 2))


def test_the_file_is_an_ordinary_model_for_any_batch(tmp_path):
    path = onnx_out.write(
        example(), tmp_path / "deep" / "model.onnx", input_name="image", output_name="scores"
    )
    assert path == tmp_path / "deep" / "model.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (onnx_out.OPSET, 8)
    assert {tensor.data_type for tensor in model.graph.initializer} == {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }
    running = session(path)
    assert (running.get_inputs()[0].name, running.get_outputs()[0].name) == ("image", "scores")
    images = draw(7, 3, 2, 2).float()
    found = torch.from_numpy(running.run(["scores"], {"image": images.numpy()})[0])
    torch.testing.assert_close(found.double(), example_outputs(path, images), rtol=1e-5, atol=1e-5)


def example_outputs(path, images: Tensor) -> Tensor:
    return onnx_in.read(path)(images.double())


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    onnx_out.write(example(), path)
    assert onnx.load(path).graph.node
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_that_onnxruntime_disagrees_with_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_out, "_steps", lambda op, shape, where: [("Identity", [], {})])
    network = Network((Node(Scale(torch.tensor(2.0), None), (0,), "double"),), (4,))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(LoweringError, match=r"is not written: .* differ by"):
        onnx_out.write(network, path)
    assert path.read_bytes() == b"old"


def test_weights_beyond_single_precision_are_not_written(tmp_path):
    network = Network(
        (Node(Dense(torch.full((2, 3), 1e300, dtype=torch.float64), None), (0,), "huge"),), (3,)
    )
    with pytest.raises(LoweringError, match="is not written"):
        onnx_out.write(network, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named(tmp_path):
    with pytest.raises(InputError, match="need names of their own, not 'x' twice"):
        onnx_out.write(example(), tmp_path / "model.onnx", input_name="x", output_name="x")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write the ONNX file .*model\.onnx"):
        onnx_out.write(example(), tmp_path / "file" / "model.onnx")
    twice = Network((Node(Select(0, torch.tensor([1, 1]), 3), (0,), "heap"),), (2,))
    with pytest.raises(ModelError, match=r"value 1 \(heap\): entries placed on top of each other"):
        onnx_out.write(twice, tmp_path / "model.onnx")
