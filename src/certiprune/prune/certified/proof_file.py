"""Proofs on disk: one safetensors file with a JSON header (``net.tensor_file``).

Header: ``kind`` "stability proof", ``version`` 1, ``digest``, ``relus`` (the ReLU values, in order) and ``forms``: by
ReLU value, for each batch of forms, the ReLU values that it has slopes of. Tensors, with v and w for ReLU values and k
for the number of a batch:
    domain.lower, domain.upper                      [1, *input_shape] float64
    {v}.lower, {v}.upper                            [1, *shape] float64
    {v}.{k}.neuron, {v}.{k}.upper                   [m] int64, [m] uint8
    {v}.{k}.slopes.{w}                              [m, *what the forms see of w] float32
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from certiprune.bounds import PreActivation
from certiprune.core.box import Box
from certiprune.core.errors import InputError, ModelError
from certiprune.net.tensor_file import read_tensors, write_tensors
from certiprune.prune.certified.proof import Forms, Proof

_KIND = "stability proof"
_VERSION = 1


def save(proof: Proof, path: str | Path) -> Path:
    """Write ``proof`` atomically, and return the file's path.

    Raises:
        InputError: the file cannot be written.
    """
    tensors = {"domain.lower": proof.domain.lower, "domain.upper": proof.domain.upper}
    for v, low in proof.bounds.lower.items():
        tensors |= {f"{v}.lower": low, f"{v}.upper": proof.bounds.upper[v]}
    for v, batches in proof.forms.items():
        for k, forms in enumerate(batches):
            tensors |= {f"{v}.{k}.neuron": forms.neuron, f"{v}.{k}.upper": forms.upper.byte()}
            tensors |= {f"{v}.{k}.slopes.{w}": t for w, t in forms.slopes.items()}
    header = {
        "digest": proof.digest,
        "relus": list(proof.bounds.lower),
        "forms": {str(v): [list(forms.slopes) for forms in batches] for v, batches in proof.forms.items()},
    }
    file = Path(path)
    write_tensors(file, tensors, header, kind=_KIND, version=_VERSION)
    return file


def load(path: str | Path) -> Proof:
    """The proof that ``save`` wrote. What it says is not believed: that is for ``check``.

    Raises:
        ModelError: the file is missing, damaged, or no such proof.
    """
    tensors, header = read_tensors(Path(path), kind=_KIND, version=_VERSION)
    try:
        relus = [int(v) for v in header["relus"]]
        bounds = [{v: tensors[f"{v}.{end}"] for v in relus} for end in ("lower", "upper")]
        forms = {
            int(v): tuple(_forms(tensors, f"{v}.{k}", slopes) for k, slopes in enumerate(batches))
            for v, batches in header["forms"].items()
        }
        domain = Box(tensors["domain.lower"], tensors["domain.upper"])
        return Proof(str(header["digest"]), domain, PreActivation(*bounds), forms)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise ModelError(f"the {_KIND} {path} is damaged: it lacks or misstates {error}") from error


def _forms(tensors: dict[str, Tensor], name: str, slopes: list[int]) -> Forms:
    seen = {int(w): tensors[f"{name}.slopes.{w}"] for w in slopes}
    return Forms(tensors[f"{name}.neuron"], tensors[f"{name}.upper"].bool(), seen)
