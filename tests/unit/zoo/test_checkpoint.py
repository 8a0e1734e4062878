from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask
from certiprune.net import checkpoint
from certiprune.net.tensor_file import read_tensors, write_tensors
from certiprune.net.zoo import ModelSpec, build

SPEC = ModelSpec("cnn_small", (1, 8, 8), 10, (0.3,), (0.4,), width=0.5)


@pytest.fixture
def model() -> nn.Module:
    model = build(SPEC)
    model(torch.rand(5, 1, 8, 8))
    return model


def pruned(model: nn.Module) -> Mask:
    mask = Mask({"conv2.weight": torch.rand_like(model.get_parameter("conv2.weight")) > 0.5})
    mask.apply_(model)
    return mask


def rewrite(path: Path, change: dict[str, Tensor]) -> None:
    tensors, header = read_tensors(path, kind="checkpoint", version=1)
    header = {key: value for key, value in header.items() if key not in ("kind", "version")}
    write_tensors(path, tensors | change, header, kind="checkpoint", version=1)


@pytest.mark.parametrize("name", ["run/model.safetensors", "other.safetensors", "folder"])
def test_a_loaded_model_is_the_saved_one(tmp_path: Path, model: nn.Module, name: str) -> None:
    mask = pruned(model)
    file = checkpoint.save(tmp_path / name, model, SPEC, mask=mask, note={"round": 3, "kept": 0.5})
    loaded = checkpoint.load(tmp_path / name)
    assert file.is_file() and checkpoint.load(file).spec == loaded.spec == SPEC
    assert loaded.note == {"round": 3, "kept": 0.5}
    assert not any(module.training for module in loaded.model.modules())
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], tensor), key
    assert loaded.mask is not None and list(loaded.mask) == ["conv2.weight"]
    assert torch.equal(loaded.mask["conv2.weight"], mask["conv2.weight"])


def test_without_a_mask_none_comes_back(tmp_path: Path, model: nn.Module) -> None:
    checkpoint.save(tmp_path, model, SPEC, mask=None, note={})
    assert checkpoint.load(tmp_path).mask is None


def test_the_file_is_plain_safetensors_with_byte_masks(tmp_path: Path, model: nn.Module) -> None:
    file = checkpoint.save(tmp_path, model, SPEC, mask=pruned(model), note={})
    tensors = load_file(file)
    assert tensors["mask.conv2.weight"].dtype == torch.uint8
    assert {name.removeprefix("model.") for name in tensors if name.startswith("model.")} == set(
        model.state_dict()
    )


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = checkpoint.save(tmp_path, model, SPEC, mask=None, note={"n": 1})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=r"cannot write the checkpoint .*No space left"):
        checkpoint.save(tmp_path, model, SPEC, mask=None, note={"n": 2})
    assert checkpoint.load(file).note == {"n": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_missing_damaged_and_foreign_files_are_told_apart(tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"there is no checkpoint at .*model.safetensors"):
        checkpoint.load(tmp_path)
    file = checkpoint.save(tmp_path, model, SPEC, mask=None, note={})
    whole = file.read_bytes()
    for data in (whole[:-5], whole[:3], b"\x00" * 100):
        file.write_bytes(data)
        with pytest.raises(ModelError, match="is damaged"):
            checkpoint.load(file)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="is not a checkpoint of certiprune's"):
        checkpoint.load(file)


def test_another_version_and_a_header_without_a_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    write_tensors(file, {}, {}, kind="checkpoint", version=99)
    with pytest.raises(ModelError, match="has version 99; this program reads 1"):
        checkpoint.load(file)
    write_tensors(file, {}, {"mask": None}, kind="checkpoint", version=1)
    with pytest.raises(ModelError, match="header lacks or misstates 'spec'"):
        checkpoint.load(file)


def test_numbers_that_are_not_finite_are_refused_both_ways(tmp_path: Path, model: nn.Module) -> None:
    file = checkpoint.save(tmp_path, model, SPEC, mask=None, note={})
    rewrite(file, {"model.output.bias": torch.full((10,), torch.inf)})
    with pytest.raises(ModelError, match=r"output.bias holds numbers that are not finite"):
        checkpoint.load(file)
    with torch.no_grad():
        model.get_parameter("conv1.weight")[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"conv1.weight holds numbers that are not finite"):
        checkpoint.save(file, model, SPEC, mask=None, note={})


def test_tensors_must_be_those_of_the_model(tmp_path: Path, model: nn.Module) -> None:
    file = checkpoint.save(tmp_path, model, SPEC, mask=None, note={})
    rewrite(file, {"model.output.bias": torch.zeros(3)})
    with pytest.raises(ModelError, match=r"output.bias is \(\(3,\).*says \(\(10,\)"):
        checkpoint.load(file)
    with pytest.raises(ModelError, match="float64"):
        checkpoint.save(file, model.double(), SPEC, mask=None, note={})
    with pytest.raises(ModelError, match="says nothing"):
        checkpoint.save(file, nn.Linear(2, 2), SPEC, mask=None, note={})


def test_pruned_weights_must_be_zero_and_masks_must_fit(tmp_path: Path, model: nn.Module) -> None:
    none = Mask({"conv1.weight": torch.zeros(4, 1, 4, 4, dtype=torch.bool)})
    with pytest.raises(ModelError, match="pruned weights that are not zero"):
        checkpoint.save(tmp_path, model, SPEC, mask=none, note={})
    with pytest.raises(ModelError, match=r"mask of nothing.weight .* fits no tensor"):
        checkpoint.save(tmp_path, model, SPEC, mask=Mask({"nothing.weight": torch.ones(1).bool()}), note={})


def test_a_note_must_be_plain_json(tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(InputError, match="plain numbers, texts and lists"):
        checkpoint.save(tmp_path, model, SPEC, mask=None, note={"when": object()})
