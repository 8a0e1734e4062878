"""Files beside certificates: what has their names is not lost, and counts for what it is about."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from certiprune import api, data
from certiprune.core.errors import InputError
from certiprune.net import checkpoint, zoo

Run = Callable[..., Any]


@pytest.fixture
def folder(certiprune: Run, model: Path, images: Path, tmp_path: Path) -> Path:
    out = tmp_path / "certificates"
    assert certiprune("certify", model, "--images", images, "--eps", "1/500", "--out", out).status == 0
    return out


def test_a_copy_under_another_name_is_no_certificate_of_that_image(
    certiprune: Run, folder: Path, model: Path, images: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "verdicts.csv"
    certiprune("verify", model, "--images", images, "--eps", "1/500", "--csv", rows)
    first, second, *_ = sorted(folder.glob("*.npz"))
    shutil.copy(first, second)
    said = certiprune("check", folder, "--images", images, "--eps", "1/500", "--csv", rows)
    assert said.status == 1
    assert f"without a certificate: {second.stem}" in said.out


def test_one_name_in_two_folders_counts_twice(certiprune: Run, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "again")
    count = 2 * len(list(folder.glob("*.npz")))
    said = certiprune("check", folder, tmp_path / "again", "--model", folder / "model.onnx")
    assert said.status == 0
    assert f"{count} of {count} certificates hold" in said.out


def test_another_model_s_folder_is_left_as_it_is(
    certiprune: Run, folder: Path, images: Path, digits: data.Dataset, tmp_path: Path
) -> None:
    spec = zoo.ModelSpec("mlp", digits.shape, digits.classes, digits.mean, digits.std, width=0.2)
    other = checkpoint.save(tmp_path / "other.safetensors", zoo.build(spec), spec, mask=None, note={})
    said = certiprune("certify", other, "--images", images, "--eps", "1/500", "--out", folder)
    assert said.status == 2 and "model.onnx is another model; choose another folder" in said.err
    assert certiprune("check", folder).status == 0


def test_an_archive_that_is_no_certificate_is_not_lost(
    certiprune: Run, folder: Path, model: Path, images: Path
) -> None:
    file = min(folder.glob("*.npz"))
    shutil.copy(images, file)
    said = certiprune("certify", model, "--images", images, "--eps", "1/500", "--out", folder)
    assert said.status == 2 and "choose another folder" in said.err
    assert file.read_bytes() == images.read_bytes()


def test_two_images_of_one_number_are_refused(model: Path, images: Path, tmp_path: Path) -> None:
    with np.load(images) as arrays:
        x, y = arrays["x"][:2], arrays["y"][:2]
    with pytest.raises(InputError, match="same number"):
        api.certify(model, x, y, eps="1/500", out=tmp_path / "out", indices=[3, 3])


def test_a_model_of_one_output_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1))],
        [numpy_helper.from_array(np.ones((2, 1), np.float32), "w")],
    )
    file = tmp_path / "model.onnx"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="one output"):
        list(api.certify(file, np.full((1, 2), 0.5), [0], eps="1/500", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
