"""Files of certificates: one for each image whose robustness is proved, each checked by the independent program."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from certiprune import checker
from certiprune.checker import Certificate, Graph, Refused
from certiprune.core.errors import InputError, ModelError
from certiprune.net import Network, onnx_in, onnx_out, onnx_run
from certiprune.verify.certify import NoCertificate, certify
from certiprune.verify.outcome import Reason, Verdict
from certiprune.verify.problem import Budget


@dataclass(frozen=True)
class Certified:
    """What came of one image.

    Attributes:
        index: the image's number.
        file: its certificate, which the checker accepted when it was written; None where there is none.
        reason: why there is none: ``misclassified``, ``falsified`` (a point was replayed), or what ran out.
        seconds: what it took, checking included; 0 where the file was there before.
    """

    index: int
    file: Path | None
    reason: str
    seconds: float


def certificates(
    model: Path,
    images: Tensor,
    labels: Tensor,
    *,
    eps: Sequence[Fraction],
    domain: tuple[Fraction, Fraction],
    folder: Path,
    budget: Budget | None = None,
    indices: Sequence[int] | None = None,
) -> Iterator[Certified]:
    """Search for a certificate for each image; those that are found lie in ``folder`` as INDEX.npz.

    A file that is there is kept; one that claims something else is refused. A new one is written, read again and
    checked under another name first: what has the name of a certificate has been accepted by the checker.

    Args:
        model: an ONNX file.
        images: [n, *shape] float32, in input units.
        labels: [n].
        eps: [n] radii.
        domain: the smallest and largest input.
        folder: there.
        budget: what each image may cost.
        indices: the images' numbers; 0 to n - 1 when None.

    Raises:
        ModelError: the model cannot be read, or not by the checker.
        InputError: a claim does not fit the model, or the folder cannot be written to, or it has certificates of
            other claims under these names.
    """
    try:
        graph = checker.read_model(model)
    except checker.Unsupported as error:
        raise ModelError(f"{model}: certificates cannot be about this model: {error}") from error
    numbers = range(len(images)) if indices is None else indices
    claims = [
        Certificate(index, int(label), radius, domain, graph.digest, image.flatten().double().numpy(), (), {})
        for index, label, radius, image in zip(numbers, labels, eps, images, strict=True)
    ]
    there = [_there(folder / f"{claim.index}.npz", claim) for claim in claims]
    network, original = onnx_in.read(model), onnx_run.runner(model)
    for claim, image, kept in zip(claims, images, there, strict=True):
        file = folder / f"{claim.index}.npz"
        if kept:
            yield Certified(claim.index, file, "", 0.0)
            continue
        start = time.perf_counter()
        reason = ""
        if int(original(image.unsqueeze(0)).argmax(1)) != claim.label:
            reason = str(Verdict.MISCLASSIFIED)
        else:
            try:
                reason = _write(certify(network, graph, claim, budget=budget, replay=original), graph, file)
            except NoCertificate as error:
                reason = str(error)
            except Refused as error:
                raise InputError(f"image {claim.index}: {error}") from error
        yield Certified(claim.index, None if reason else file, reason, time.perf_counter() - start)


def exported(network: Network, file: Path) -> Path:
    """The network as an ONNX file, which stays as it is where it is this one.

    Raises:
        InputError: there is another one, which certificates beside it may be about.
    """
    if not file.is_file():
        onnx_out.write(network, file)
    elif file.read_bytes() != onnx_out.content(network):
        raise InputError(f"{file} is another model; choose another folder")
    return file


def _there(file: Path, claim: Certificate) -> bool:
    """Whether the file is a certificate that claims the same; one that is torn counts as none.

    Raises:
        InputError: it is whole and something else, which is not to be lost.
    """
    if not file.is_file():
        return False
    try:
        found = checker.load(file)
    except Refused as error:
        if zipfile.is_zipfile(file):
            raise InputError(f"{error}; choose another folder, or move it away") from error
        return False
    for what in ("label", "eps", "domain", "model"):
        if getattr(found, what) != getattr(claim, what):
            raise InputError(f"{file} is a certificate of another {what}; choose another folder")
    if not np.array_equal(found.image, claim.image):
        raise InputError(f"{file} is a certificate of another image; choose another folder")
    return True


def _write(found: Certificate, graph: Graph, file: Path) -> str:
    """Write a certificate that holds; returns why it does not, if so."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        checker.save(found, temporary)
        checker.check(checker.load(temporary), graph)
        temporary.replace(file)
    except Refused:
        return str(Reason.NUMERIC)
    except OSError as error:
        raise InputError(f"cannot write the certificate {file}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return ""
