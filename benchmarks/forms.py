"""Compare the two forms of a relaxation: walks through the whole network, and through one box's unstable neurons.

For each image and batch size it prints the unstable neurons of each ReLU layer, the multiply-adds of one walk in both
forms, and the time of one ascent iteration for each subproblem; then a table over the networks. Both forms bound the
same subproblems (the root's hardest row under random splits); repetitions take turns, so that a busy machine slows both
alike.

"Break-even" is the ratio of multiply-adds (the reduced form's matrices to a pass through the network) below which
the reduced form is quicker, if each form's time goes with its multiply-adds. "With neurons" is the same for what the
reduced walk really multiplies, to the network's multiply-adds and ``--neuron`` for each of its neurons. A rule for
choosing is good where its break-even is the same number for all networks.

    python benchmarks/forms.py runs/magnitude/*/model.safetensors --images images.npz --eps 0.1
    python benchmarks/forms.py shared/benchmarks/*/model.onnx

Without ``--images`` the file ``images.npz`` beside each model is taken; it holds ``x``, ``y`` and perhaps ``eps``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, median

import torch

import certiprune
from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.reduced import reduce, walk_cost
from certiprune.bounds.reduced_walker import Quick
from certiprune.cli import images as image_file
from certiprune.core.box import Box
from certiprune.core.rng import generator
from certiprune.verify import Cascade, Problem
from certiprune.verify.bab import Settings
from certiprune.verify.branching.choose import split
from certiprune.verify.forms import reducible
from certiprune.verify.relaxation import LayeredRelaxation, ReducedRelaxation, Relaxation
from certiprune.verify.subproblem import Subproblems

HOW, SEARCH = Cascade(), Settings()


def cases(path: Path, options: argparse.Namespace) -> Iterator[tuple[int, LayeredRelaxation]]:
    """The first images of one model that are neither misclassified nor proved at the root, with their hardest row."""
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
            yield k, tasks


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
) -> tuple[list[float], float]:
    """Median seconds for each subproblem (an ascent in both forms, a proof in both), and how far the values differ."""
    forms = (layered, reduced)
    # Proofs by ``sign_only`` would look again, in float64, at these random subproblems, which are not proved.
    jobs = [lambda f=f: f.ascend(sub, steps=SEARCH.steps, rates=SEARCH.rates, goal=torch.inf) for f in forms]
    jobs += [lambda f=f: f.prove(sub, sign_only=False) for f in forms]
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
    one, other = (form.quick_value(sub).value for form in forms)
    difference = float(((one - other).abs() / one.abs().clamp(min=1)).max())
    return [median(seconds) / len(sub) for seconds in taken], difference


def walked(quick: Quick) -> int:
    """Multiply-adds of one walk as it is made: with the first layer's convolution instead of its matrix or not."""
    total = sum(step.matrix.numel() for step in quick.steps)
    if quick.prefix is None:
        return total
    return total - quick.steps[0].matrix.numel() + quick.prefix.network.cost(quick.prefix.way)


HEAD = (
    "| network | image | unstable neurons | multiply-adds, network | neurons | matrices | as walked | rule | made in s "
    "| batch | network: ms an iteration | subproblems/s | reduced: ms an iteration | subproblems/s | quicker "
    "| proof quicker | break-even | with neurons | values differ by |"
)


def tell(name: str, t: LayeredRelaxation, options: argparse.Namespace) -> Iterator[tuple[int, float, float]]:
    """Print one image's rows; gives each batch size and both kinds of break-even."""
    counts = [int(t.pre.unstable(v).sum()) for v in t.pre.lower]
    network, neurons = t.engine.exact.cost(), t.engine.exact.neurons
    entries = int(walk_cost(t.pre, t.box.lower.numel()))
    rule = "reduced" if reducible(t.engine, t.pre) else "network"
    start = (
        f"| {name} | {'+'.join(map(str, counts))} = {sum(counts)} | {network:,} | {neurons:,} | {entries:,} "
    )
    if entries > options.most:
        print(f"{start}| | {rule} | too large" + " |" * 11, flush=True)
        return
    begin = time.perf_counter()
    form = reduce(t.engine, t.box, t.pre)
    reduced = ReducedRelaxation.of(t.engine, t.box, t.coeff, t.const, t.pre, form)
    walk = walked(reduced.quick)
    start += f"| {walk:,} | {rule} | {time.perf_counter() - begin:.2f} "
    for batch in options.batch:
        seconds, difference = measure(t, reduced, subproblems(t, batch, options.depth), options)
        quicker, proof = seconds[0] / seconds[1], seconds[2] / seconds[3]
        even = quicker * entries / network, quicker * walk / (network + options.neuron * neurons)
        cells = (f"{1e3 * ascent / SEARCH.steps:.3f} | {1 / ascent:,.0f}" for ascent in seconds[:2])
        cells = f"{batch} | {' | '.join(cells)} | {quicker:.2f} | {proof:.2f} | {even[0]:.2f} | {even[1]:.2f}"
        print(f"{start}| {cells} | {difference:.0e} |", flush=True)
        yield batch, *even


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("models", type=Path, nargs="+", help="checkpoints or ONNX files")
    add("--images", type=Path, help="an npz file for all models")
    add("--eps", type=float, help="instead of the file's own")
    add("--count", type=int, default=3, help="images a model")
    add("--batch", type=int, nargs="+", default=[1, 16, 128], help="subproblems at once")
    add("--depth", type=int, default=8, help="splits of each subproblem")
    add("--repeat", type=int, default=9, help="repetitions of each measurement")
    add("--seconds", type=float, default=10.0, help="stop repeating a measurement after these")
    add("--crown", action="store_true", help="leave out the optimised neuron bounds")
    add("--neuron", type=float, default=100, help="multiply-adds that a neuron is worth")
    add("--most", type=float, default=1e8, help="largest reduced form, in matrix entries")
    add("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|")
    summary = ["| network |" + "".join(f" break-even, batch {b} | with neurons |" for b in options.batch)]
    summary.append("|---" * (1 + 2 * len(options.batch)) + "|")
    for path in options.models:
        name = path.parent.name if path.stem == "model" else f"{path.parent.name}/{path.stem}"
        rows = [row for k, tasks in cases(path, options) for row in tell(f"{name} | {k}", tasks, options)]
        kinds = [[row[kind] for row in rows if row[0] == batch] for batch in options.batch for kind in (1, 2)]
        summary.append(f"| {name} |" + "".join(f" {geometric_mean(kind):.2f} |" for kind in kinds if kind))
    print("", *summary, sep="\n")


if __name__ == "__main__":
    main()
