"""Certificates against exact minima: one is found for every true claim, and none holds for a false one."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from certiprune import checker
from certiprune.checker import Forms, Graph, Refused, Tree
from certiprune.verify import Cascade
from certiprune.verify.bab import Settings
from certiprune.verify.certify import NoCertificate, certify
from helpers.claims import hard_claim

NEAR = 1e-6
SWEEP = int(os.environ.get("CERTIPRUNE_SWEEP", "2100")) // 4
# The second has no optimised slopes to begin with; the third leaves every answer to exact programs.
HOW = {
    "default": Cascade(),
    "bare": Cascade(tighten_steps=0, alpha_steps=0, search=Settings(batch=2, steps=1)),
    "leaves": Cascade(tighten_steps=2, alpha_steps=2, search=Settings(batch=8, steps=2, goal=1e30)),
}
# Max pooling has no place in a certificate.
KINDS = ("mlp", "residual_mlp", "conv_net", "residual_conv", "pruned")


def _compare(seed: int, folder: Path, how: Cascade) -> str:
    """Hold a claim to the exact answer; says what it was."""
    # A search that is hobbled takes long where many ReLUs are open.
    relus = 12 + seed % 6 if how == HOW["default"] else 6 + seed % 4
    claimed = hard_claim(seed, folder, relus, KINDS[seed % len(KINDS)])
    exact = claimed.exact()
    if abs(exact) < NEAR:
        return "near"
    try:
        found = certify(claimed.network, claimed.graph, claimed.claim, how=how)
    except NoCertificate as error:
        assert exact < 0, f"seed {seed}: no certificate ({error}) for a claim with the margin {exact}"
        assert str(error) == "falsified"
        return "false"
    assert exact > 0, f"seed {seed}: a certificate for a claim with the margin {exact}"
    file = folder / "certificate.npz"
    checker.save(found, file)
    report = checker.check(checker.load(file), claimed.graph)
    assert 0 < report.margin <= exact + 1e-9
    return "searched" if found.trees else "plain"


@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
def test_every_true_claim_has_a_certificate(how: Cascade, tmp_path: Path) -> None:
    found = [_compare(seed, tmp_path, how) for seed in range(15)]
    assert {"false", "searched"} <= set(found)


@pytest.mark.slow
def test_every_true_claim_has_a_certificate_sweep(tmp_path: Path) -> None:
    ways = list(HOW.values())
    found = [_compare(1000 + seed, tmp_path, ways[seed % len(ways)]) for seed in range(SWEEP)]
    assert {"false", "searched", "plain"} <= set(found)


@pytest.mark.parametrize("seed", range(1, 40, 2))
def test_no_hints_prove_what_is_nearly_true(seed: int, tmp_path: Path) -> None:
    claimed = hard_claim(seed, tmp_path, relus=12, kind=KINDS[seed % len(KINDS)])
    claimed = replace(claimed, claim=replace(claimed.claim, eps=claimed.claim.eps + Fraction(1, 100)))
    if claimed.exact() > 0:
        # The network gives one answer everywhere.
        label = (claimed.claim.label + 1) % claimed.network.outputs
        claimed = replace(claimed, claim=replace(claimed.claim, label=label))
    assert claimed.exact() < -NEAR
    rng = np.random.default_rng(seed)
    for _ in range(5):
        hints = {"passes": (_forms(rng, claimed.graph),), "trees": _trees(rng, claimed.graph)}
        with pytest.raises(Refused, match="not proved"):
            checker.check(replace(claimed.claim, **hints), claimed.graph)


def _forms(rng: np.random.Generator, graph: Graph) -> dict[int, Forms]:
    """Forms for every end of every neuron, with slopes from anywhere."""
    found = {}
    for k in range(1, len(graph.relus)):
        size = graph.sizes[graph.relus[k]]
        neuron, upper = np.tile(np.arange(size), 2), np.repeat([False, True], size)
        slopes = {}
        for j in range(k):
            seen = np.arange(graph.sizes[graph.relus[j]])
            slopes[j] = seen, rng.choice([-1.0, 0.0, 0.5, 1.0, 3.0, np.nan], (2 * size, len(seen)))
        found[k] = Forms(neuron, upper, slopes)
    return found


def _trees(rng: np.random.Generator, graph: Graph) -> dict[int, Tree]:
    """Whole trees of depth 3, with slopes and multipliers from anywhere."""
    relu = np.concatenate([np.full(graph.sizes[v], k) for k, v in enumerate(graph.relus)])
    neuron = np.concatenate([np.arange(graph.sizes[v]) for v in graph.relus])
    found = {}
    for other in range(graph.sizes[graph.output]):
        a, b, c = rng.permutation(len(relu))[:3].tolist()
        split = np.array([a, b, c, -1, -1, -1, b, -1, c, -1, -1])
        theta = rng.choice([-2.0, 0.0, 0.3, 1.0, 5.0, np.inf, np.nan], (6, len(relu)))
        found[other] = Tree(relu, neuron, split, theta)
    return found
