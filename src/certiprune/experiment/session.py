"""A run's folder, opened: for this process alone, and only for the experiment that it belongs to."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from certiprune import data
from certiprune.core.device import find_device
from certiprune.core.errors import ConfigError, InputError
from certiprune.data import Dataset
from certiprune.experiment import foresee, load
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Watcher
from certiprune.experiment.known import Images
from certiprune.store import Records, RunLayout, SweepLayout, occupy, remove, write_text
from certiprune.train.tensorboard import require as require_tensorboard

ADVICE = "choose another folder (--out), or start over (--fresh)"


@dataclass(frozen=True)
class Session:
    """What every stage works with.

    Attributes:
        tensorboard: whether the metrics of training are also written for TensorBoard.
        early: the epochs after which the dense network's weights are kept.
        memory: bytes that verification may hold; None for a share of what is free.
    """

    experiment: Experiment
    dataset: Dataset
    layout: RunLayout
    records: Records
    watch: Watcher
    tensorboard: bool = False
    early: frozenset[int] = frozenset()
    memory: int | None = None


@contextmanager
def session(
    experiment: Experiment,
    out: Path,
    *,
    watch: Watcher,
    fresh: bool,
    data_folder: Path | None,
    threads: int | None,
    tensorboard: bool = False,
    early: Collection[int] = (),
    memory: int | None = None,
) -> Iterator[Session]:
    """Open ``out`` for ``experiment``; ``fresh`` removes an earlier run's files first.

    Within the block torch uses ``threads`` CPU threads, or as many as the run was begun with: another number adds
    in another order and trains other weights.

    Raises:
        InputError: ``threads`` is below 1 or not what the run was begun with, the device is not there, or TensorBoard
        is asked for and not installed, or a ladder is bound to fail.
        ConfigError: the folder belongs to another experiment, to other data, or holds files that are not a
        run's. DataError: the dataset is not there.
    """
    find_device(experiment.device)
    if tensorboard:
        require_tensorboard()
    dataset = data.load(
        experiment.data.name,
        folder=data_folder,
        seed=experiment.seed,
        validation=experiment.data.validation,
        train_limit=experiment.data.train_limit,
        test_limit=experiment.data.test_limit,
    )
    _foresee(experiment, dataset)
    if SweepLayout(out).sweep.is_file():
        raise ConfigError(
            f"{out} holds a sweep, whose page and tables a run there would replace; choose another folder"
        )
    with occupy(out) as layout:
        if fresh and layout.records.exists():
            _clear(layout)
        if layout.experiment.exists() and not layout.records.exists():
            raise ConfigError(f"{layout.experiment} exists and belongs to no run here; choose another folder")
        with Records.open(layout.records) as records, _threads(records, threads, out):
            _claim(records, experiment, dataset, out)
            write_text(layout.experiment, load.dump(experiment))
            kept = experiment.rewinds.union(early)
            yield Session(experiment, dataset, layout, records, watch, tensorboard, kept, memory)


@contextmanager
def reopened(
    folder: Path, *, watch: Watcher, data_folder: Path | None = None, memory: int | None = None
) -> Iterator[Session]:
    """Open the run that is in ``folder``, for what is done with its networks afterwards.

    Raises:
        InputError: there is none.
    """
    layout = RunLayout(Path(folder))
    if not layout.records.is_file():
        raise InputError(f"{folder}: no run has been begun there")
    with session(
        load.load(layout.experiment),
        layout.root,
        watch=watch,
        fresh=False,
        data_folder=data_folder,
        threads=None,
        memory=memory,
    ) as opened:
        yield opened


@contextmanager
def _threads(records: Records, wanted: int | None, out: Path) -> Iterator[None]:
    """Torch with the run's number of threads; afterwards it has the number that it had."""
    if wanted is not None and wanted < 1:
        raise InputError(f"{wanted} threads are too few; use at least 1")
    begun = records.meta().get("environment", {}).get("threads")
    if begun is not None and wanted is not None and wanted != begun:
        raise InputError(
            f"{out} was begun with {begun} threads, and {wanted} would give other numbers; {ADVICE}"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(begun or wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _foresee(experiment: Experiment, dataset: Dataset) -> None:
    """See that no ladder is bound to fail on this data; what an experiment file alone tells was seen with it.

    Raises:
        InputError: one is.
    """
    images = Images(dataset.shape, dataset.classes, len(dataset.train))
    for ladder in experiment.ladders:
        try:
            foresee.check(experiment, ladder, images, exact=True)
        except InputError as error:
            raise InputError(f"ladder {ladder.name}: {error}") from error


def fingerprint(dataset: Dataset) -> str:
    """A digest of every image and label of the three splits, in order."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        digest.update(str(tuple(split.images.shape)).encode())
        for tensor in (split.images, split.labels):
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _claim(records: Records, experiment: Experiment, dataset: Dataset, out: Path) -> None:
    """Write down whose folder this is, or see that it is ours."""
    found = records.meta()
    content = fingerprint(dataset)
    if "digest" not in found:
        records.put_meta(
            {
                "digest": experiment.digest(),
                "schema": experiment.schema_,
                "config": experiment.resolved(),
                "environment": environment(),
                "dataset": dataset.name,
                "data_fingerprint": content,
                "classes": dataset.classes,
                "class_names": list(dataset.class_names),
                "input_shape": list(dataset.shape),
            }
        )
        return
    if found["digest"] != experiment.digest():
        change = difference(found.get("config", {}), experiment.resolved())
        raise ConfigError(f"{out} holds another experiment{f' ({change})' if change else ''}; {ADVICE}")
    if found.get("data_fingerprint") != content:
        raise ConfigError(f"{out} was begun with other images of {dataset.name} than are there now; {ADVICE}")


def environment() -> dict[str, Any]:
    """What can change the last bits of a result without being part of the experiment."""
    return {
        "certiprune": version("certiprune"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def difference(before: Any, now: Any, place: str = "") -> str:
    """The first setting that differs, such as ``train.epochs was 20 and is 10``; empty if none does."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            if found := difference(before.get(key), now.get(key), f"{place}.{key}".lstrip(".")):
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        parts = enumerate(zip(before, now, strict=True))
        return next((found for i, (a, b) in parts if (found := difference(a, b, f"{place}[{i}]"))), "")
    return "" if before == now else f"{place} was {_short(before)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _clear(layout: RunLayout) -> None:
    """Remove what a run leaves in its folder, and nothing else."""
    remove(layout.checkpoints, layout.tables, layout.tensorboard, layout.certificates)
    # The records go last: while they are there, the other files are known to be a run's.
    journal = layout.records.with_name(f"{layout.records.name}-journal")
    for file in (layout.report, layout.experiment, layout.records, journal):
        file.unlink(missing_ok=True)
