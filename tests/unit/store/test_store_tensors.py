import pytest
import torch
from safetensors.torch import save_file

from certiprune.core.errors import InputError
from certiprune.store import tensors


def test_tensors_come_back_bit_for_bit_with_their_note(tmp_path):
    weight = torch.tensor([[0.1, -0.0], [float("nan"), float("-inf")]])
    given = {
        "w": weight,
        "tied": weight,
        "t": weight.t(),
        "count": torch.tensor(3),
        "on": torch.tensor([True]),
    }
    tensors.save(tmp_path / "a" / "x.safetensors", given, {"epoch": 3, "history": [0.5]})
    found, note = tensors.load(tmp_path / "a" / "x.safetensors")
    assert note == {"epoch": 3, "history": [0.5]}
    assert set(found) == set(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name
        assert found[name].shape == tensor.shape


def test_missing_damaged_and_foreign_files_are_explained(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match=r"cannot read the tensors in .*x\.safetensors"):
        tensors.load(path)
    tensors.save(path, {"w": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot read the tensors"):
        tensors.load(path)
    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(InputError, match="cannot read the tensors"):
        tensors.load(path)
