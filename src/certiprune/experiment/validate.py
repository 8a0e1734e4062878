"""Complete verification of validation images, for whoever chooses between networks: test images are for the end."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from certiprune.core.errors import InputError
from certiprune.experiment import pipeline
from certiprune.experiment.events import Event, Watcher, unwatched
from certiprune.experiment.session import Session, reopened
from certiprune.experiment.steps import Work, verify
from certiprune.verify import Budget


def validate(
    folder: Path,
    networks: Iterable[tuple[str, int]],
    *,
    images: int,
    seconds: float,
    progress: Watcher = unwatched,
    data_folder: Path | None = None,
    memory: int | None = None,
) -> None:
    """Verify the first ``images`` validation images for networks of the run in ``folder``, at its radius.

    What is found is kept in the run's records, as the stage ``LADDER/ROUND/validate`` of each network: its payload
    has ``images``, the limits ``seconds`` and ``nodes`` of each image (nodes as the experiment has them), the number of
    each verdict, and ``spent``, the seconds of all images together. A network that has it for as many
    images and seconds is left as it is; for other ones it is verified again and the old result replaced.

    Args:
        networks: ladder (``dense`` for the dense network) and round of each; they must be trained.
        images: at least 1; where the validation split has fewer, all of it.
        seconds: the time limit of one image.
        progress: is told how each network comes along.
        data_folder: where the dataset's files are; None for its usual place.
        memory: bytes that verification may hold; None for a share of what is free.

    Raises:
        InputError: there is no run, a network is not trained, the split is empty, or a number is out of range.
    """
    if images < 1:
        raise InputError(f"{images} validation images are too few; take at least 1")
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"a time limit of {seconds:g} s an image must be a number above 0")
    with reopened(folder, watch=progress, data_folder=data_folder, memory=memory) as opened:
        places = {
            (stage.work.ladder_name, stage.work.number): stage.work
            for stage in pipeline.stages(opened.experiment)
        }
        for place in networks:
            if place not in places or not opened.records.stage_done(f"{places[place].name}/train"):
                raise InputError(f"{folder}: {place[0]}/{place[1]} is not trained; run it first")
            _validate(opened, places[place], images, seconds)


def _validate(session: Session, work: Work, images: int, seconds: float) -> None:
    split = session.dataset.validation.head(images)
    if not len(split):
        raise InputError(f"{session.dataset.name} has no validation images to verify")
    name = f"{work.name}/validate"
    nodes = session.experiment.verify.nodes
    asked = {"images": len(split), "seconds": seconds, "nodes": nodes}
    before = session.records.stage(name)
    if before is not None and {key: before.payload.get(key) for key in asked} == asked:
        session.watch(Event(name, 1, 1, skipped=True))
        return
    session.watch(Event(name, 0, len(split)))
    begin = time.perf_counter()
    budget = Budget(seconds=seconds, nodes=nodes, memory=session.memory)
    found = []
    for outcome in verify.answers(session, work, split, range(len(split)), budget):
        found.append(outcome)
        text = f"{outcome.verdict} image {outcome.index}"
        session.watch(Event(name, min(len(found), len(split) - 1), len(split), text))
    if len(found) != len(split):
        raise InputError(f"{name}: {len(found)} verdicts for {len(split)} images")
    counts = Counter(str(outcome.verdict) for outcome in found)
    spent = math.fsum(outcome.seconds for outcome in found)
    payload = {**asked, "verdicts": dict(counts), "spent": spent}
    session.records.commit_stage(name, time.perf_counter() - begin, payload)
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    session.watch(Event(name, len(split), len(split), text))
