"""Certificates of a run: for every test image that its records call certified, checked by the independent program."""

from __future__ import annotations

import math
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import torch

from certiprune.core.epsilon import exact_epsilon
from certiprune.core.errors import InputError
from certiprune.experiment import pipeline
from certiprune.experiment.events import Event, Watcher, unwatched
from certiprune.experiment.session import Session, reopened
from certiprune.experiment.steps import Work
from certiprune.experiment.steps.work import trained
from certiprune.net import compact, lower
from certiprune.verify import Budget
from certiprune.verify.certificates import certificates, exported
from certiprune.verify.outcome import Verdict


def certify(
    folder: Path,
    *,
    seconds: float,
    progress: Watcher = unwatched,
    data_folder: Path | None = None,
    memory: int | None = None,
) -> dict[str, Counter[str]]:
    """Look for certificates for the images that every completely verified network of a run is certified for.

    Certificates lie in ``certificates/LADDER/ROUND/`` of the run's folder, beside ``model.onnx``, the compacted network
    that they are about. What came of it is kept in the run's records, as the stage ``LADDER/ROUND/certify`` of each
    network: ``certified`` images, ``certificates``, ``reasons`` (why others have none, and how many) and the limit
    ``seconds`` of each image. What is there is kept, and checked no second time.

    Args:
        seconds: the time limit of one image.
        progress: is told how each network comes along.
        data_folder: where the dataset's files are; None for its usual place.
        memory: bytes that the search may hold; None for a share of what is free.

    Returns:
        For each network by name, such as ``magnitude/2``, how many images have a certificate (the key is empty), and
        how many have none for which reason.

    Raises:
        InputError: there is no run, or none of its networks is verified, or a number is out of range.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"a time limit of {seconds:g} s an image must be a number above 0")
    found: dict[str, Counter[str]] = {}
    with reopened(folder, watch=progress, data_folder=data_folder, memory=memory) as opened:
        for stage in pipeline.stages(opened.experiment):
            if stage.step == "verify" and opened.records.stage_done(f"{stage.work.name}/verify"):
                found[stage.work.name] = _certify(opened, stage.work, seconds)
    if not found:
        raise InputError(f"{folder}: no network is completely verified yet; finish the run first")
    return found


def _certify(session: Session, work: Work, seconds: float) -> Counter[str]:
    rows = session.records.outcomes(work.ladder_name, work.number)
    wanted = [row.idx for row in rows if row.verdict == Verdict.CERTIFIED]
    name, folder = f"{work.name}/certify", session.layout.certified(work.ladder_name, work.number)
    session.watch(Event(name, 0, max(1, len(wanted))))
    begin = time.perf_counter()
    reasons: Counter[str] = Counter()
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        model, mask = trained(session, work)
        network, _ = compact(lower(model, shape=session.dataset.shape, mask=mask))
        images = session.dataset.test[torch.tensor(wanted, dtype=torch.int64)]
        tried = certificates(
            exported(network, folder / "model.onnx"),
            images.images,
            images.labels,
            eps=[exact_epsilon(session.experiment.verify.eps)] * len(wanted),
            domain=(Fraction(0), Fraction(1)),
            folder=folder,
            budget=Budget(seconds=seconds, memory=session.memory),
            indices=wanted,
        )
        for one in tried:
            reasons[one.reason] += 1
            done = min(reasons.total(), len(wanted) - 1)
            session.watch(Event(name, done, len(wanted), f"{reasons['']} certificates"))
    without = {reason: count for reason, count in reasons.items() if reason}
    payload = {
        "certified": len(wanted),
        "certificates": reasons[""],
        "reasons": without,
        "seconds": seconds,
    }
    session.records.commit_stage(name, time.perf_counter() - begin, payload)
    text = f"{reasons['']} of {len(wanted)} certified images have a certificate"
    session.watch(Event(name, max(1, len(wanted)), max(1, len(wanted)), text))
    return reasons
