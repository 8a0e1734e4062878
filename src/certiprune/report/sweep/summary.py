"""What a sweep found, as values: the runs of every training, method of pruning and seed, side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from certiprune.core.errors import InputError
from certiprune.report.missing import planned
from certiprune.report.summary import Round, Summary, dig, read
from certiprune.store.layout import DENSE, RunLayout

IMP = "imp"
"""The method that the others are compared with besides the dense network."""


class Cell(NamedTuple):
    """A run of a sweep.

    Attributes:
        training, pruning: their names.
        folder: of the run.
        digest: of the experiment that the sweep asks for there now; None where that is not to be looked at.
    """

    training: str
    pruning: str
    seed: int
    folder: Path
    digest: str | None = None


@dataclass(frozen=True, eq=False)
class Branch:
    """One seed's networks by one method.

    Attributes:
        dense: the network that pruning began with, of the same run; None until it is there.
        rounds: the pruned networks in order; of a dense method the dense network alone.
    """

    seed: int
    folder: Path
    summary: Summary
    dense: Round | None
    rounds: tuple[Round, ...]

    def round(self, number: int) -> Round | None:
        return next((r for r in self.rounds if r.number == number), None)


@dataclass(frozen=True, eq=False)
class Method:
    """A row of the table: one way of pruning networks of one training, or none.

    Attributes:
        name: the pruning's name; ``dense``, or such as ``dense with nrs``, for networks that are not pruned.
        branches: one for each seed, in order.
        extra: penalties that the training has only for this method, joined by ``+``; where it differs otherwise, too,
            from that of the methods before it, the pruning that it is for.
    """

    training: str
    name: str
    branches: tuple[Branch, ...]
    extra: str = ""

    @property
    def pruned(self) -> bool:
        return all(r.ladder != DENSE for branch in self.branches for r in branch.rounds)

    @property
    def numbers(self) -> list[int]:
        """The rounds that every seed has."""
        each = [{r.number for r in branch.rounds} for branch in self.branches]
        return sorted(set.intersection(*each)) if each else []

    def at(self, number: int) -> list[Round]:
        """The networks of round ``number``, of the seeds that have it."""
        return [r for branch in self.branches if (r := branch.round(number)) is not None]

    def branch(self, seed: int) -> Branch | None:
        return next((branch for branch in self.branches if branch.seed == seed), None)


@dataclass(frozen=True, eq=False)
class Block:
    """All methods with one training: the dense networks first, without extra penalties before those with some."""

    training: str
    methods: tuple[Method, ...]

    @property
    def dense(self) -> tuple[Method, ...]:
        return tuple(method for method in self.methods if not method.pruned)

    @property
    def pruned(self) -> tuple[Method, ...]:
        return tuple(method for method in self.methods if method.pruned)

    def method(self, name: str) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep as far as it is.

    Attributes:
        missing: what is not there yet, one sentence each.
        apart: the runs that cannot be compared with the others, or are not what the sweep asks for, one sentence each.
    """

    blocks: tuple[Block, ...]
    missing: tuple[str, ...]
    apart: tuple[str, ...] = ()

    @property
    def runs(self) -> list[Branch]:
        """One for each cell: its first branch."""
        found = {
            branch.folder: branch
            for block in self.blocks
            for method in (*block.pruned, *block.dense)
            for branch in method.branches
        }
        return list(found.values())

    @property
    def seeds(self) -> list[int]:
        return sorted({branch.seed for branch in self.runs})


def gather(cells: Iterable[Cell]) -> Sweep:
    """Everything that the cells' records hold; a cell without results is said to be missing.

    Raises:
        InputError: no cell has results.
    """
    found: dict[str, list[tuple[str, int, Path, Summary]]] = {}
    missing: list[str] = []
    foreign: list[str] = []
    for training, pruning, seed, folder, digest in cells:
        runs = found.setdefault(training, [])
        name, path = f"{training}, {pruning}, seed {seed}", RunLayout(folder).records
        if not path.exists():
            missing.append(f"{name}: not begun yet.")
            continue
        try:
            summary = read(path)
        except InputError as error:
            missing.append(f"{name}: {error}.")
        else:
            runs.append((pruning, seed, folder, summary))
            missing += _unfinished(name, pruning, summary)
            if digest is not None and summary.meta.get("digest", digest) != digest:
                foreign.append(f"{name} {_FOREIGN}")
    blocks = tuple(_block(training, runs) for training, runs in found.items() if runs)
    if not blocks:
        raise InputError("no cell of the sweep has results yet: run it first, then report")
    return Sweep(blocks, tuple(missing), (*_apart(found), *foreign))


_FOREIGN = (
    "is another experiment than the sweep's file asks for now: "
    "a preset that it names has changed since, and means over methods or seeds mix the two."
)


def question(summary: Summary) -> tuple[object, ...]:
    """What a run's networks are asked: about which images, and within which radius."""
    return summary.dataset, summary.meta.get("data_fingerprint"), summary.eps


def of_run(folder: Path) -> Sweep:
    """The run in ``folder`` as a sweep of one cell: each of its ladders is a method.

    Raises:
        InputError: it has no results.
    """
    summary = read(RunLayout(folder).records)
    ladders = list(dict.fromkeys(r.ladder for r in summary.rounds if r.ladder != DENSE))
    training = str(dig(summary.meta, "config", "train", "loss", "name") or "training")
    seed = dig(summary.meta, "config", "seed")
    pruning = ladders[0] if len(ladders) == 1 else ""
    return gather([Cell(training, pruning, seed if isinstance(seed, int) else 0, folder)])


def relative(root: Path, path: Path) -> str:
    """``path`` as seen from the sweep's folder, with slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def penalties(summary: Summary) -> tuple[str, ...]:
    """The names of the training's penalties."""
    given = dig(summary.meta, "config", "train", "penalties") or ()
    return tuple(str(dig(penalty, "name")) for penalty in given)


def _block(training: str, runs: Sequence[tuple[str, int, Path, Summary]]) -> Block:
    shared = set.intersection(*(set(penalties(summary)) for *_, summary in runs))
    dense: dict[str, dict[int, Branch]] = {}
    pruned: dict[str, tuple[str, dict[int, Branch]]] = {}
    owners: dict[str, set[str]] = {}
    for pruning, _, _, summary in runs:
        for name in _ladders(pruning, summary):
            owners.setdefault(name, set()).add(pruning)
    first: dict[str, Mapping[str, Any]] = {}
    for pruning, seed, folder, summary in runs:
        extra = "+".join(name for name in penalties(summary) if name not in shared)
        if _training(summary) != first.setdefault(extra, _training(summary)):
            extra += f"{', ' if extra else ''}as for {pruning}"
        if summary.dense is not None:
            branch = Branch(seed, folder, summary, summary.dense, (summary.dense,))
            _keep(dense.setdefault(extra, {}), branch)
        for own, rounds in _ladders(pruning, summary).items():
            name = own if len(owners[own]) == 1 else f"{pruning}: {own}"
            branch = Branch(seed, folder, summary, summary.dense, rounds)
            pruned.setdefault(name, (extra, {}))[1].setdefault(seed, branch)
    found = [
        Method(training, _dense_name(extra), _sorted(branches), extra)
        for extra, branches in sorted(dense.items())
    ]
    found += [Method(training, name, _sorted(seeds), extra) for name, (extra, seeds) in pruned.items()]
    return Block(training, tuple(found))


def _training(summary: Summary) -> dict[str, Any]:
    """All that makes a dense network besides its seed; runs that differ in it have no dense network in common."""
    return {key: v for key, v in (summary.meta.get("config") or {}).items() if key not in ("ladders", "seed")}


def _keep(branches: dict[int, Branch], branch: Branch) -> None:
    """One dense network a seed: the cells share it, and the first that is verified completely counts."""
    old = branches.get(branch.seed)
    done = branch.dense is not None and branch.dense.complete
    if old is None or (done and not (old.dense and old.dense.complete)):
        branches[branch.seed] = branch


def _dense_name(extra: str) -> str:
    if not extra:
        return DENSE
    return f"{DENSE} {extra}" if extra.startswith("as for ") else f"{DENSE} with {extra}"


def _ladders(pruning: str, summary: Summary) -> dict[str, tuple[Round, ...]]:
    """The cell's methods: the ladder that is called like the pruning, whose other ladders are steps on its way.

    Where none is called so, all ladders are methods; a single one has the pruning's name.
    """
    names = dict.fromkeys(r.ladder for r in summary.rounds if r.ladder != DENSE)
    found = {name: tuple(r for r in summary.rounds if r.ladder == name) for name in names}
    if pruning in found:
        return {pruning: found[pruning]}
    return {pruning: next(iter(found.values()))} if len(found) == 1 else found


def _sorted(branches: Mapping[int, Branch]) -> tuple[Branch, ...]:
    return tuple(branches[seed] for seed in sorted(branches))


def _apart(runs: Mapping[str, Sequence[tuple[str, int, Path, Summary]]]) -> Iterator[str]:
    for training, cells in runs.items():
        first: dict[int, tuple[str, Summary]] = {}
        for pruning, seed, _, summary in cells:
            name, other = first.setdefault(seed, (pruning, summary))
            if question(summary) != question(other):
                yield (
                    f"{training}, {pruning}, seed {seed} is about other images, or another radius, than {name}: "
                    "the two are not compared, and means over methods or seeds would mix them."
                )


def _unfinished(name: str, pruning: str, summary: Summary) -> list[str]:
    """What a cell's experiment asks for and its records lack."""
    wanted, found = planned(summary), list[str]()
    known = {(r.ladder, r.number): r for r in summary.rounds}
    ladders = dict.fromkeys(ladder for ladder, _ in wanted)
    for ladder in ladders:
        numbers = [number for other, number in wanted if other == ladder]
        absent = [number for number in numbers if (ladder, number) not in known]
        partial = [n for n in numbers if (r := known.get((ladder, n))) is not None and not r.complete]
        if ladder == DENSE:
            found += [f"{name}: the dense network is not there yet."] if absent else []
            found += [f"{name}: the dense network is not verified yet."] if partial else []
            continue
        of = "" if ladder == pruning or len(ladders) == 2 else f" of {ladder}"
        found += [f"{name}: not there yet: {_rounds(absent)}{of}."] if absent else []
        found += [f"{name}: not verified yet: {_rounds(partial)}{of}."] if partial else []
    return found


def _rounds(numbers: Sequence[int]) -> str:
    return f"round{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
