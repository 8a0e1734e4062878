"""Compare the two forms of a relaxation: walks through the whole network, and through one box's unstable neurons.

For each image and batch size it prints the unstable neurons of each ReLU layer, the multiply-adds of one walk in both
forms, and the time of one ascent iteration for each subproblem; then a table over the networks. Both forms bound the
same subproblems (the root's hardest row under random splits); repetitions take turns, so that a busy machine slows both
alike.

"Break-even" is the ratio of multiply-adds (reduced / network) below which the reduced form is quicker, if the time of
each form is proportional to its multiply-adds: the cascade's rule is good where it holds one number for all networks.

    python benchmarks/forms.py runs/magnitude/*/model.safetensors --images images.npz --eps 0.1
    python benchmarks/forms.py shared/benchmarks/*/model.onnx

Without ``--images`` the file ``images.npz`` beside each model is taken; it holds ``x``, ``y`` and perhaps ``eps``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median

import torch

import certiprune
from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.reduced import reduce, walk_cost
from certiprune.cli import images as image_file
from certiprune.core.box import Box
from certiprune.core.rng import generator
from certiprune.verify import Cascade, Problem
from certiprune.verify.bab import Settings
from certiprune.verify.branching.choose import split
from certiprune.verify.cascade import _reducible
from certiprune.verify.relaxation import LayeredRelaxation, ReducedRelaxation, Relaxation
from certiprune.verify.subproblem import Subproblems

HOW, SEARCH = Cascade(), Settings()


@dataclass(frozen=True)
class Case:
    """One box of one network, with bounds as the search gets them, and the row that is hardest to prove."""

    name: str
    index: int
    engine: Engine
    pre: PreActivation
    tasks: LayeredRelaxation


@dataclass(frozen=True)
class Timing:
    """Seconds for each subproblem, of one ascent iteration and of one proof, in both forms.

    Attributes:
        difference: between the two forms' values, relative where they are above 1.
    """

    layered: float
    reduced: float
    layered_proof: float
    reduced_proof: float
    difference: float


def name_of(path: Path) -> str:
    return path.parent.name if path.stem == "model" else f"{path.parent.name}/{path.stem}"


def cases(path: Path, options: argparse.Namespace) -> Iterator[Case]:
    """The first images of one model that are neither misclassified nor proved at the root."""
    network, _ = certiprune.compact(certiprune.read(path)[0])
    engine = Engine.of(network)
    images = image_file.read(options.images or path.parent / "images.npz")
    eps = torch.as_tensor(options.eps if options.eps is not None else images.eps).expand(len(images.x))
    found = 0
    for k in range(len(images.x)):
        x, y = torch.from_numpy(images.x[k : k + 1]), torch.from_numpy(images.y[k : k + 1])
        if found == options.count or int(engine.quick(x).argmax()) != int(y):
            continue
        problem = Problem.robust(x, y, eps[k : k + 1].double(), classes=network.outputs)
        pre = preactivations(engine, problem.box)
        if HOW.tighten_steps and not options.crown:
            pre = preactivations(engine, problem.box, steps=HOW.tighten_steps, rates=HOW.rates, known=pre)
        tasks = hardest(engine, problem, pre)
        if tasks is not None:
            found += 1
            yield Case(name_of(path), k, engine, pre, tasks)


def hardest(engine: Engine, problem: Problem, pre: PreActivation) -> LayeredRelaxation | None:
    """The row with the lowest bound at the root, or None where every row is proved there."""
    coeff, const = problem.margin.matrix[0], problem.margin.offset[0]
    rows = len(coeff)
    box = Box(problem.box.lower.repeat(rows, 1, 1, 1), problem.box.upper.repeat(rows, 1, 1, 1))
    many = LayeredRelaxation.of(engine, box, coeff, const, pre[torch.zeros(rows, dtype=torch.int64)])
    value = many.ascend(many.root(), steps=HOW.alpha_steps, rates=HOW.rates, goal=0.0).value
    k = int(value.argmin())
    if value[k] > 0:
        return None
    return LayeredRelaxation.of(engine, problem.box, coeff[k : k + 1], const[k : k + 1], pre)


def subproblems(relaxation: Relaxation, batch: int, depth: int) -> Subproblems:
    """``batch`` subproblems of the root, each with ``depth`` random neurons split in random directions."""
    random = generator(0, "forms")
    sub = relaxation.root()[torch.zeros(batch, dtype=torch.int64)]
    for _ in range(min(depth, relaxation.width)):
        column = torch.randint(relaxation.width, (batch,), generator=random)
        sign = 2.0 * torch.randint(2, (batch, 1), generator=random) - 1
        sub = split(sub, column, sign)
    return sub


def measure(
    layered: Relaxation, reduced: Relaxation, sub: Subproblems, options: argparse.Namespace
) -> Timing:
    """The median of repetitions, the two forms in turn."""

    def ascent(form: Relaxation) -> Callable[[], object]:
        return lambda: form.ascend(sub, steps=SEARCH.steps, rates=SEARCH.rates, goal=torch.inf)

    def proof(form: Relaxation) -> Callable[[], object]:
        # A bound that is proved needs no second look in float64; random subproblems' would.
        return lambda: form.prove(sub, sign_only=False)

    jobs = [ascent(layered), ascent(reduced), proof(layered), proof(reduced)]
    taken: list[list[float]] = [[] for _ in jobs]
    begin = time.perf_counter()
    for turn in range(options.repeat + 1):
        for job, seconds in zip(jobs, taken, strict=True):
            start = time.perf_counter()
            job()
            if turn:  # the first turn warms up
                seconds.append(time.perf_counter() - start)
        if turn and time.perf_counter() - begin > options.seconds:
            break
    one, other = (form.quick_value(sub).value for form in (layered, reduced))
    difference = float(((one - other).abs() / one.abs().clamp(min=1)).max())
    times = [median(seconds) / len(sub) for seconds in taken]
    return Timing(times[0] / SEARCH.steps, times[1] / SEARCH.steps, *times[2:], difference)


HEAD = (
    "| network | image | unstable neurons | multiply-adds, network | reduced | ratio | rule | made in s | batch "
    "| ms an iteration, network | reduced | subproblems/s, network | reduced | quicker | proof quicker | break-even "
    "| values differ by |"
)


def tell(case: Case, options: argparse.Namespace, even: dict[int, list[float]]) -> str:
    """Print one image's rows and add to ``even``, by batch size; returns its part of the summary."""
    counts = [int(case.pre.unstable(v).sum()) for v in case.pre.lower]
    network, walk = case.engine.exact.cost(), int(walk_cost(case.pre, case.tasks.box.lower.numel()))
    rule = "reduced" if _reducible(case.engine, case.pre) else "network"
    start = f"| {case.name} | {case.index} | {'+'.join(map(str, counts))} = {sum(counts)} | {network:,} | {walk:,} "
    start += f"| {walk / network:.2f} | {rule} "
    if walk > options.most:
        print(f"{start}| too large" + " |" * 10, flush=True)
        return rule
    begin = time.perf_counter()
    form, t = reduce(case.engine, case.tasks.box, case.pre), case.tasks
    reduced = ReducedRelaxation.of(t.engine, t.box, t.coeff, t.const, t.pre, form)
    start += f"| {time.perf_counter() - begin:.2f} "
    for batch in options.batch:
        m = measure(t, reduced, subproblems(t, batch, options.depth), options)
        even[batch].append(m.layered / m.reduced * walk / network)
        rate, other = (1 / (SEARCH.steps * seconds) for seconds in (m.layered, m.reduced))
        print(
            f"{start}| {batch} | {1e3 * m.layered:.3f} | {1e3 * m.reduced:.3f} | {rate:,.0f} | {other:,.0f} "
            f"| {m.layered / m.reduced:.2f} | {m.layered_proof / m.reduced_proof:.2f} | {even[batch][-1]:.2f} "
            f"| {m.difference:.0e} |",
            flush=True,
        )
    return rule


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help="checkpoints or ONNX files")
    parser.add_argument("--images", type=Path, help="an npz file for all models")
    parser.add_argument("--eps", type=float, help="instead of the file's own")
    parser.add_argument("--count", type=int, default=3, help="images a model")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 128], help="subproblems at once")
    parser.add_argument("--depth", type=int, default=8, help="splits of each subproblem")
    parser.add_argument("--repeat", type=int, default=9, help="repetitions of each measurement")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="stop repeating a measurement after these"
    )
    parser.add_argument("--crown", action="store_true", help="leave out the optimised neuron bounds")
    parser.add_argument("--most", type=float, default=1e8, help="largest reduced form, in matrix entries")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|")
    summary = ["| network | images | rule |" + "".join(f" break-even, {b} |" for b in options.batch)]
    summary.append("|---" * (3 + len(options.batch)) + "|")
    for path in options.models:
        even: dict[int, list[float]] = {batch: [] for batch in options.batch}
        with torch.no_grad():
            rules = [tell(case, options, even) for case in cases(path, options)]
        means = (f" {geometric_mean(r):.2f} |" if r else " |" for r in even.values())
        summary.append(
            f"| {name_of(path)} | {len(rules)} | {', '.join(sorted(set(rules)))} |" + "".join(means)
        )
    print("", *summary, sep="\n")


if __name__ == "__main__":
    main()
