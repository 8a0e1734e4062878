"""How many images a second each training scheme takes, on one network after the other.

    python benchmarks/train.py --threads 2 --csv train.csv

A round takes a few steps of every scheme on the same random images, each step whole: loss, backward pass, clipping and
optimizer. Rounds take turns between the schemes, so that a busy machine slows all alike, and each scheme's ratio to
the natural loss is taken within a round; figures are medians over the rounds. "passes" is what the scheme costs in
convolutions, in units of a natural step (a pass forward, one back to the values, one back to the weights).
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from certiprune.core.memory import keep_freed
from certiprune.core.rng import generator
from certiprune.data import Batch
from certiprune.net import zoo
from certiprune.net.live import Live
from certiprune.train import losses, optim, penalties
from certiprune.train.loop import memory_format
from certiprune.train.plan import Plan
from certiprune.train.scene import Scene

NETWORKS = (("cnn_small", 1.0), ("cnn7", 0.25), ("cnn7", 0.5), ("cnn7", 1.0))

# Passes: natural 3, an attack's step 2, a gradient that is differentiated again 6, one that is not 2, a clean batch for
# its statistics 1. Certified: clean batch 3 (its statistics have gradients), centre 3, radius 3, a walk back 3.
SCHEMES: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("natural", "natural", (), 3),
    ("fgsm", "fgsm", (), 2 + 3),
    ("n_fgsm", "n_fgsm", (), 2 + 3),
    ("gradalign", "gradalign", (), 1 + 2 + 6 + 3),
    ("pgd", "pgd", (), 8 * 2 + 3),
    ("ibp", "ibp", (), 3 + 6),
    ("fast_ibp", "ibp", ("fast_ibp",), 3 + 6),
    ("crown_ibp", "crown_ibp", (), 3 + 6 + 3),
    ("sabr", "sabr", (), 8 * 2 + 3 + 6),
    ("mtl_ibp", "mtl_ibp", (), 8 * 2 + 3 + 6 + 3),
    ("natural+rs", "natural", ("rs",), 3 + 3 + 6),
    ("ibp+nrs", "ibp", ("nrs",), 3 + 6),
)


@dataclass
class Case:
    """One scheme on a network of its own, which all schemes start with alike."""

    name: str
    loss: losses.AbstractLoss
    live: Live
    optimizer: torch.optim.Optimizer
    passes: float

    @staticmethod
    def of(scheme: tuple[str, str, tuple[str, ...], float], spec: zoo.ModelSpec, device: str) -> Case:
        name, loss, extra, passes = scheme
        model = zoo.build(spec, generator=generator(0, "benchmark"))
        model = model.to(device, memory_format=memory_format(model, torch.device(device))).train()
        built = losses.build(loss)
        if extra:
            built = losses.Penalised(built, tuple((penalties.build(p), 0.01) for p in extra))
        optimizer = optim.build(Plan(1, optimizer="adam", learning_rate=1e-4), model)
        return Case(name, built, Live(model, spec.shape), optimizer, passes)

    def steps(self, batch: Batch, count: int, eps: float) -> float:
        """Seconds of ``count`` steps."""
        noise = generator(0, "noise")
        begin = time.perf_counter()
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            # Half way up the rise of eps, where every part of every loss is in use.
            scene = Scene(self.live, batch, eps / 2, eps, noise, tracked=self.loss.certified)
            self.loss(scene).total.backward()
            torch.nn.utils.clip_grad_norm_(self.live.module.parameters(), 8.0)
            self.optimizer.step()
        if batch.images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, help="write network,scheme,images_per_second,ratio_to_natural")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3, help="steps a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", help="networks such as cnn7*0.5")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed()
    rows = []
    for network, width in NETWORKS:
        label = f"{network}*{width:g}"
        if options.only and label not in options.only:
            continue
        spec = zoo.ModelSpec(network, (1, 28, 28), 10, (0.286,), (0.353,), width)
        cases = [Case.of(scheme, spec, options.device) for scheme in SCHEMES]
        source = generator(0, "images")
        layout = memory_format(cases[0].live.module, torch.device(options.device))
        images = torch.rand(options.batch, *spec.shape, generator=source)
        images = images.to(options.device, memory_format=layout)
        labels = torch.randint(0, 10, (options.batch,), generator=source).to(options.device)
        batch = Batch(images, labels)
        seconds: dict[str, list[float]] = {case.name: [] for case in cases}
        for case in cases:
            case.steps(batch, 2, options.eps)
        for _ in range(options.rounds):
            for case in cases:
                seconds[case.name].append(case.steps(batch, options.steps, options.eps))
        natural = seconds["natural"]
        print(f"\n| {label} | images a second | ratio to natural | passes |\n|---|---|---|---|")
        for case in cases:
            ratio = median(mine / base for mine, base in zip(seconds[case.name], natural, strict=True))
            speed = options.batch * options.steps / median(seconds[case.name])
            print(f"| {case.name} | {speed:.0f} | {ratio:.2f} | {case.passes / 3:.1f} |", flush=True)
            rows.append((label, case.name, f"{speed:.1f}", f"{ratio:.3f}"))
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("network", "scheme", "images_per_second", "ratio_to_natural"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
