"""Certificates for a set of images, of a model of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from certiprune.api.questions import AnyModel, Images, questions
from certiprune.core.epsilon import exact_epsilon
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.verify.certificates import Certified


def certify(
    model: AnyModel,
    images: Images,
    labels: Images,
    *,
    eps: float | str | Images,
    out: str | Path,
    timeout: float = 300.0,
    nodes: int | None = None,
    memory: int | str | None = None,
    domain: tuple[float, float] = (0.0, 1.0),
    indices: Sequence[int] | None = None,
) -> Iterator[Certified]:
    """Write a certificate, OUT/INDEX.npz, for each image whose robustness is proved; each as soon as it is.

    A certificate lets the independent program ``certiprune.checker`` prove the claim again, of the model's ONNX file
    and without search. Each was accepted by that program before it has its name. Those that are there are kept.

    Args:
        model: as for ``verify``. What is no ONNX file is written to OUT/model.onnx without its dead neurons, and
            certificates are about that file, in real arithmetic on its float32 weights.
        images, labels, eps, timeout, nodes, memory, domain: as for ``verify``. A radius counts as it is written: 0.1
            is one tenth, and 2/255 is no decimal number.
        out: a folder, made where it is missing.
        indices: the images' numbers; 0 to n - 1 when None.

    Returns:
        For each image its certificate, or why there is none (``misclassified``, ``falsified``, or what ran out).

    Raises:
        InputError: as ``verify`` does, or the folder cannot be written to, or holds another model or other claims.
        ModelError: the model is not supported, or not by the checker.
    """
    from certiprune.verify.certificates import certificates, exported

    if indices is not None and len(set(indices)) < len(indices):
        raise InputError("two images have the same number: their certificates would be one file")
    asked = questions(
        model,
        images,
        labels,
        eps=eps,
        timeout=timeout,
        nodes=nodes,
        memory=memory,
        domain=domain,
        indices=indices,
    )
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    if isinstance(model, str | Path) and Path(model).suffix == ".onnx":
        file = Path(model)
    else:
        file = exported(asked.network, folder / "model.onnx")
    # A text says more than the number that was made of it.
    radius = eps if isinstance(eps, str) else asked.eps
    each = radius.tolist() if isinstance(radius, torch.Tensor) else [radius] * len(asked.images)
    first, last = (Fraction(repr(float(end))) for end in domain)
    return certificates(
        file,
        asked.images,
        asked.labels,
        eps=[exact_epsilon(r) for r in each],
        domain=(first, last),
        folder=folder,
        budget=asked.budget,
        indices=asked.indices,
    )
