"""The experiments of a sweep, the dense networks that they share, and the tasks that both amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from certiprune.core.errors import ConfigError, InputError
from certiprune.experiment import load
from certiprune.experiment.config import Experiment
from certiprune.experiment.sweep import config
from certiprune.experiment.sweep.config import Sweep
from certiprune.store import DENSE, SweepLayout


class Cell(NamedTuple):
    """Where one experiment of a sweep lies, and which it is by the sweep's file now.

    ``pruning`` is ``dense`` where nothing is pruned. A run whose own digest is another was begun when a preset that the
    file names said something else.
    """

    training: str
    pruning: str
    seed: int
    folder: Path
    digest: str


@dataclass(frozen=True)
class Planned:
    """One experiment of a sweep."""

    training: str
    pruning: str
    seed: int
    experiment: Experiment

    @property
    def dense(self) -> Experiment:
        """The experiment of its dense network alone; those with an equal one share the network."""
        return self.experiment.model_copy(update={"ladders": ()})

    def folder(self, layout: SweepLayout) -> Path:
        if not self.experiment.ladders:
            return layout.dense_run(self.experiment.digest())
        return layout.cell(self.training, self.pruning, self.seed)


@dataclass(frozen=True)
class Task:
    """What one worker does at a time: a run, from its dense network or from one that another task has trained.

    Attributes:
        name: its folder within the sweep's, such as ``cells/n_fgsm/imp/seed-0``.
        text: what it is, for people.
        sweep: the file of the sweep that it belongs to.
        start: the run folder whose dense network it goes on from; None where it trains its own.
        needs: the name of the task that fills ``start``.
        early: epochs after which a dense network's weights are kept for the cells that rewind to them.
    """

    name: str
    text: str
    sweep: Path
    experiment: Experiment
    folder: Path
    start: Path | None = None
    needs: str | None = None
    early: tuple[int, ...] = ()


def grid(sweep: Sweep, *, name: str = "sweep") -> list[Planned]:
    """Every experiment of ``sweep``: by training, then pruning, then seed, each in the file's order.

    Raises:
        ConfigError: one of them is not valid, or what prunes brings no ladder; ``name`` is what the file is called.
    """
    return [
        Planned(training, pruning or DENSE, seed, first.model_copy(update={"seed": seed}))
        for training in sweep.training
        for pruning in sweep.pruning or (None,)
        for first in [_experiment(sweep, training, pruning, name)]
        for seed in sweep.seeds
    ]


def _experiment(sweep: Sweep, training: str, pruning: str | None, name: str) -> Experiment:
    parts = [training] if pruning is None else [training, pruning]
    where = f"{name} ({', '.join(parts)})"
    content = load.merged(load.on_base({"base": [*sweep.base, *parts]}, where), sweep.set_)
    ladders = [] if pruning is None else content.get("ladders", [])
    if pruning is not None and not ladders:
        raise ConfigError(f"{where}: {pruning} brings no ladders; name parts that prune, such as imp")
    if sweep.keep is not None:
        ladders = [_kept(ladder, sweep.keep) for ladder in ladders]
    return load.checked({**content, "ladders": ladders}, where)


def _kept(ladder: dict[str, Any], keep: Sequence[float]) -> dict[str, Any]:
    return {key: value for key, value in ladder.items() if key not in ("rate", "rounds")} | {"keep": keep}


def tasks(planned: Sequence[Planned], layout: SweepLayout) -> list[Task]:
    """What is to be done: a task for each different dense network, then one for each cell that prunes."""
    sharing: dict[str, list[Planned]] = {}
    for cell in planned:
        sharing.setdefault(cell.dense.digest(), []).append(cell)
    starts = dict[str, Task]()
    for digest, cells in sharing.items():
        early = {rewind for cell in cells for rewind in cell.experiment.rewinds}
        text = f"{cells[0].training}, seed {cells[0].seed}: {', '.join(cell.pruning for cell in cells)}"
        place = _place(layout.dense_run(digest), layout)
        starts[digest] = Task(text=text, experiment=cells[0].dense, early=tuple(sorted(early)), **place)
    found = [*starts.values()]
    for cell in planned:
        if cell.experiment.ladders:
            dense = starts[cell.dense.digest()]
            text = f"{cell.training}, {cell.pruning}, seed {cell.seed}"
            place = _place(cell.folder(layout), layout)
            found.append(
                Task(text=text, experiment=cell.experiment, start=dense.folder, needs=dense.name, **place)
            )
    return found


def _place(folder: Path, layout: SweepLayout) -> dict[str, Any]:
    name = folder.relative_to(layout.root).as_posix()
    return {"name": name, "sweep": layout.sweep, "folder": folder}


def cells(folder: str | Path) -> list[Cell]:
    """The cells of the sweep in ``folder``: by training, then pruning, then seed, each in the file's order.

    Each has an ordinary run folder, which is not there before the cell has been begun. Cells that only differ in name
    have folders of their own; dense networks alone (``pruning: []``) lie in the sweep's folder of dense networks.

    Raises:
        InputError: there is no sweep in the folder. ConfigError: its file cannot be read.
    """
    layout = SweepLayout(Path(folder))
    if not layout.sweep.is_file():
        raise InputError(f"there is no sweep in {folder}; name the folder of one")
    planned = grid(config.load(layout.sweep), name=str(layout.sweep))
    return [
        Cell(cell.training, cell.pruning, cell.seed, cell.folder(layout), cell.experiment.digest())
        for cell in planned
    ]
