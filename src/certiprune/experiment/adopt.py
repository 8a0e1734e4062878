"""Take over the dense network of another run in the place of training it again."""

from __future__ import annotations

from pathlib import Path

from certiprune.core.errors import ConfigError, InputError
from certiprune.experiment.session import Session, difference
from certiprune.store import DENSE, Records, RunLayout, atomic

STAGES = tuple(f"{DENSE}/0/{step}" for step in ("initial", "train", "evaluate", "verify"))


def threads(source: Path, wanted: int | None) -> int:
    """How many CPU threads the run in ``source`` was begun with, and so how many whoever goes on from it needs.

    Raises:
        InputError: there is no run, or ``wanted`` is another number.
    """
    with Records.open(RunLayout(source).records, read_only=True) as records:
        begun = int(records.meta().get("environment", {}).get("threads", 0))
    if not begun:
        raise InputError(f"the run in {source} has not begun; let it finish first")
    if wanted is not None and wanted != begun:
        raise InputError(f"{source} was begun with {begun} threads, and {wanted} would give other numbers")
    return begun


def dense(session: Session, source: Path) -> None:
    """Copy the dense network of the run in ``source``, its rows and its checkpoints, into the open run.

    Files are copied first, each atomically; then all rows go in with one transaction. A kill at any moment leaves a
    run whose dense network is not finished, and the next call does all of it again, in the place of what is there.
    Nothing happens where the open run has its dense network. The state of the finished training stays behind.

    Raises:
        ConfigError: ``source`` is of another experiment (apart from ladders), or of other images.
        InputError: its dense network is not finished, or its files are missing.
    """
    if all(session.records.stage_done(name) for name in STAGES):
        return
    layout = RunLayout(source)
    with Records.open(layout.records, read_only=True) as found:
        _fits(session, found, source)
        stages = [row for row in found.stages() if row.name in STAGES]
        if len(stages) < len(STAGES):
            raise InputError(f"the dense network in {source} is not finished; let it finish first")
        _copy(session, layout)
        session.records.add(
            *found.epochs(DENSE),
            *found.rounds(DENSE),
            *found.layers(DENSE),
            *found.outcomes(DENSE),
            *found.examples(DENSE),
            *stages,
        )


def _fits(session: Session, found: Records, source: Path) -> None:
    meta, ours = found.meta(), session.records.meta()
    theirs = {**meta.get("config", {}), "ladders": []}
    if change := difference(theirs, {**session.experiment.resolved(), "ladders": []}):
        raise ConfigError(f"{source} holds another dense network ({change})")
    if meta["data_fingerprint"] != ours["data_fingerprint"]:
        raise ConfigError(f"{source} was begun with other images of {meta['dataset']} than are there now")


def _copy(session: Session, layout: RunLayout) -> None:
    there, here = layout.round(DENSE, 0), session.layout.round(DENSE, 0)
    files = [(there.initial, here.initial), (there.model, here.model)]
    files += [(there.early(epoch), here.early(epoch)) for epoch in sorted(session.early)]
    for old, new in files:
        if not old.is_file():
            raise InputError(f"{old} is missing; remove {layout.root} and run it again")
        with atomic(new) as temporary:
            temporary.write_bytes(old.read_bytes())
