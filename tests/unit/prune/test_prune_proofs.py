"""Proofs that say too much, and proofs on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from certiprune.bounds import PreActivation
from certiprune.core.box import Box
from certiprune.core.errors import ModelError, ProofError
from certiprune.net import Network
from certiprune.net.digest import digest
from certiprune.net.network import Node
from certiprune.net.ops import Dense
from certiprune.net.tensor_file import write_tensors
from certiprune.prune import certified
from certiprune.prune.certified import Forms, Proof
from helpers.networks import F64, random_network
from helpers.stable import FREE, crossing, planted, tensor


def case(seed: int = 4) -> tuple[Network, Proof]:
    """A network with bounds by intervals, by CROWN's slopes and by optimised ones."""
    network = crossing(0.3, 0.5) if seed < 0 else random_network(seed, 20, "mlp")
    return network, certified.prove(network, steps=10)


def ends(proof: Proof) -> list[dict[int, Tensor]]:
    return [dict(proof.bounds.lower), dict(proof.bounds.upper)]


def with_bounds(proof: Proof, relu: int, end: str, change: Callable[[Tensor], Tensor]) -> Proof:
    low, high = ends(proof)
    chosen = {"lower": low, "upper": high}[end]
    chosen[relu] = change(chosen[relu].clone())
    return replace(proof, bounds=PreActivation(low, high))


def test_no_bound_can_be_a_little_tighter_than_what_follows() -> None:
    for seed in (-1, 0, 6, 12):
        network, proof = case(seed)
        certified.check(proof, network)
        for relu in network.relus:
            # Recorded bounds have room of 2^-30 of the neuron's range, for other orders of additions.
            low, high = proof.bounds.lower[relu], proof.bounds.upper[relu]
            for k in range(low.numel()):
                nudge = torch.zeros(low.numel(), dtype=F64)
                nudge[k] = 2.0**-28 * float(torch.maximum(low.abs(), high.abs()).flatten()[k]) + 1e-12
                for end, sign in (("lower", 1), ("upper", -1)):
                    wrong = with_bounds(proof, relu, end, lambda t, d=sign * nudge: t + d.reshape(t.shape))
                    with pytest.raises(ProofError, match=rf"ReLU {relu} .*, neuron {k}: the proof says"):
                        certified.check(wrong, network)


def test_a_neuron_that_is_neither_cannot_be_claimed() -> None:
    network = planted(2)
    proof = certified.prove(network)
    (relu,) = network.relus
    for k in FREE:
        for end, value in (("upper", -1.0), ("upper", 0.0), ("lower", 0.0), ("lower", float("inf"))):
            wrong = with_bounds(proof, relu, end, lambda t, k=k, v=value: t.index_fill(1, torch.tensor(k), v))
            assert (wrong.off(relu) | wrong.on(relu))[k]
            with pytest.raises(ProofError, match=f"neuron {k}: the proof says"):
                certified.remove(network, wrong)
    for end in ("upper", "lower"):
        wrong = with_bounds(proof, relu, end, lambda t: t * float("nan"))
        with pytest.raises(ProofError, match="neuron 0"):
            certified.check(wrong, network)


def forms_of(proof: Proof) -> tuple[int, Forms]:
    relu, batches = next(iter(proof.forms.items()))
    return relu, batches[0]


CHANGES: dict[str, tuple[Callable[[Network, Proof], Proof], str]] = {
    "another network": (lambda n, p: replace(p, digest=digest(planted(2))), "another network"),
    "a wider domain": (
        lambda n, p: replace(p, domain=Box(p.domain.lower, p.domain.upper + 0.5)),
        "the proof says",
    ),
    "a domain of two boxes": (
        lambda n, p: replace(p, domain=Box(p.domain.lower.repeat(2, 1), p.domain.upper.repeat(2, 1))),
        "one box of finite",
    ),
    "a domain in float32": (lambda n, p: replace(p, domain=p.domain.to(torch.float32)), "one box of finite"),
    "no forms": (lambda n, p: replace(p, forms={}), "the proof says"),
    "a ReLU left out": (
        lambda n, p: replace(p, bounds=PreActivation(*[dict([*t.items()][:1]) for t in ends(p)])),
        "bounds the ReLUs",
    ),
    "a wrong shape": (lambda n, p: with_bounds(p, n.relus[0], "lower", lambda t: t[:, :1]), "have the shape"),
    "forms of no ReLU": (lambda n, p: replace(p, forms={**p.forms, 1: (forms_of(p)[1],)}), "no ReLUs"),
    "a neuron that there is not": (
        lambda n, p: changed(p, neuron=torch.tensor([7])),
        "neurons that there are not",
    ),
    "a neuron below 0": (lambda n, p: changed(p, neuron=torch.tensor([-1])), "neurons that there are not"),
    "neurons that are no whole numbers": (lambda n, p: changed(p, neuron=torch.tensor([0.0])), "one number"),
    "an end too many": (lambda n, p: changed(p, upper=torch.tensor([True, True])), "one end"),
    "ends that are numbers": (lambda n, p: changed(p, upper=torch.tensor([1])), "one end"),
    "nothing in a form": (
        lambda n, p: changed(p, neuron=torch.tensor([]).long(), upper=torch.tensor([]).bool(), slopes={}),
        "one number",
    ),
    "the other end": (lambda n, p: changed(p, upper=torch.tensor([False])), "the proof says"),
    "other slopes": (lambda n, p: slopes(n, p, lambda t: torch.ones_like(t)), "the proof says"),
    "slopes above 1": (lambda n, p: slopes(n, p, lambda t: t + 1), r"numbers in \[0, 1\]"),
    "slopes below 0": (lambda n, p: slopes(n, p, lambda t: -t - 0.1), r"numbers in \[0, 1\]"),
    "slopes that are no numbers": (lambda n, p: slopes(n, p, lambda t: t * torch.nan), r"numbers in \[0, 1\]"),
    "slopes of another shape": (lambda n, p: slopes(n, p, lambda t: t[:, :1]), r"numbers in \[0, 1\]"),
    "slopes of what comes later": (
        lambda n, p: changed(p, slopes={n.relus[1]: torch.zeros(1, 1)}),
        "no ReLU in front",
    ),
}  # fmt: skip


def changed(proof: Proof, **fields: object) -> Proof:
    relu, forms = forms_of(proof)
    return replace(proof, forms={relu: (replace(forms, **fields),)})  # type: ignore[arg-type]


def slopes(network: Network, proof: Proof, change: Callable[[Tensor], Tensor]) -> Proof:
    first = network.relus[0]
    return changed(proof, slopes={first: change(forms_of(proof)[1].slopes[first])})


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_proof_fails(name: str) -> None:
    change, message = CHANGES[name]
    network, proof = case(-1)
    assert forms_of(proof)[1].slopes
    with pytest.raises(ProofError, match=message):
        certified.check(change(network, proof), network)


def test_ends_that_are_numbers_prove_nothing() -> None:
    # As places in the batch they would give one neuron's bound to the other.
    network = planted(2)
    (relu,) = network.relus
    off, on = 0, 1
    bounds = [torch.full((1, 6), end, dtype=F64) for end in (-99.0, 99.0)]
    bounds[1][0, on] = 0.0
    forms = Forms(torch.tensor([off, on]), torch.tensor([1, 0]))
    proof = replace(
        certified.prove(network),
        bounds=PreActivation(*({relu: t} for t in bounds)),
        forms={relu: (forms,)},
    )
    with pytest.raises(ProofError, match="one end"):
        certified.check(proof, network)


def test_the_smallest_change_of_the_network_is_another_network() -> None:
    network = planted(2)
    proof = certified.prove(network)
    op = network.nodes[0].op
    assert isinstance(op, Dense)
    for field in ("weight", "bias"):
        t = getattr(op, field).clone()
        t.flatten()[-1] = torch.nextafter(t.flatten()[-1], tensor(9.0)[0])
        other = Network((Node(replace(op, **{field: t}), (0,)), *network.nodes[1:]), (3,))
        with pytest.raises(ProofError, match="another network"):
            certified.check(proof, other)
    renamed = Network(tuple(replace(node, name="other") for node in network.nodes), (3,))
    certified.check(proof, renamed)
    with pytest.raises(ProofError, match="another network"):
        certified.check(proof, network.to(torch.float32))
    wide = Network((Node(replace(op, slack=torch.ones(6, dtype=F64)), (0,)), *network.nodes[1:]), (3,))
    assert digest(wide) != digest(network)


def test_a_proof_survives_its_file(tmp_path: Path) -> None:
    for seed in (-1, 0, 6):
        network, proof = case(seed)
        again = certified.load(certified.save(proof, tmp_path / "proof.safetensors"))
        assert certified.check(again, network) == certified.check(proof, network)
        assert again.digest == proof.digest and torch.equal(again.domain.upper, proof.domain.upper)
        for relu in network.relus:
            assert torch.equal(again.bounds.lower[relu], proof.bounds.lower[relu])
            assert torch.equal(again.bounds.upper[relu], proof.bounds.upper[relu])
        first, second = certified.remove(network, proof)[0], certified.remove(network, again)[0]
        assert digest(first) == digest(second)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = certified.save(case(-1)[1], tmp_path / "proof.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        certified.load(file)
    with pytest.raises(ModelError, match="there is no stability proof"):
        certified.load(tmp_path / "nothere.safetensors")
    header = {"digest": "0", "relus": [1], "forms": {}}
    write_tensors(file, {"domain.lower": torch.zeros(1, 1)}, header, kind="stability proof", version=1)
    with pytest.raises(ModelError, match=r"lacks or misstates '1\.lower'"):
        certified.load(file)
