"""Questions at the edges of what can be asked, and wrong uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.ops import Dense
from certiprune.verify import (
    Budget,
    Cascade,
    Outcome,
    Problem,
    Progress,
    Reason,
    Stage,
    Verdict,
    decide,
    relu_names,
    unstable_counts,
    verify,
)
from certiprune.verify.bab import Settings
from helpers.networks import F64, Source, random_network, single

BARE = Cascade(attack_steps=0, attack_restarts=0, tighten_steps=0, alpha_steps=0)


def affine() -> Network:
    """(x, y) -> (x, y)."""
    b = Builder((2,))
    return b.finish(b.emit(Dense(torch.eye(2, dtype=F64), None), 0))


def hat() -> Network:
    """x -> |x - 1/2| in the first output, 0 in the second: two ReLUs whose relaxation is loose."""
    b = Builder((1,))
    h = b.relu(
        b.emit(Dense(torch.tensor([[1.0], [-1.0]], dtype=F64), torch.tensor([-0.5, 0.5], dtype=F64)), 0)
    )
    return b.finish(b.emit(Dense(torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=F64), None), h))


def unit(dims: int) -> Box:
    return Box(torch.zeros(1, dims, dtype=F64), torch.ones(1, dims, dtype=F64))


def one(network: Network, box: Box, row: list[float], offset: float, how: Cascade | None = None) -> Outcome:
    (outcome,) = decide(network, single(network, box, row, offset), how=how, budget=Budget(seconds=20))
    return outcome


@pytest.mark.parametrize("how", [None, BARE])
def test_a_network_without_any_relu(how: Cascade | None) -> None:
    assert one(affine(), unit(2), [1.0, 1.0], 0.1, how).verdict is Verdict.CERTIFIED
    found = one(affine(), unit(2), [1.0, -1.0], 0.9, how)
    assert found.verdict is Verdict.FALSIFIED
    assert found.counterexample is not None
    assert float(found.counterexample[0] - found.counterexample[1]) <= -0.9


def test_a_minimum_of_exactly_zero_is_a_violation() -> None:
    assert one(affine(), unit(2), [1.0, 1.0], 0.0).verdict is Verdict.FALSIFIED


def test_a_minimum_within_rounding_of_zero_is_not_certified() -> None:
    outcome = one(affine(), unit(2), [1.0, 1.0], 1e-17)
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.reason is Reason.NUMERIC
    assert outcome.lower <= 1e-17


@pytest.mark.parametrize(("offset", "verdict"), [(0.01, Verdict.CERTIFIED), (-0.01, Verdict.FALSIFIED)])
@pytest.mark.parametrize("how", [None, BARE, Cascade(search=Settings(batch=1, goal=1e30))])
def test_a_kink_needs_a_split(offset: float, verdict: Verdict, how: Cascade | None) -> None:
    box = Box(torch.full((1, 1), 0.3, dtype=F64), torch.ones(1, 1, dtype=F64))
    assert one(hat(), box, [1.0, 0.0], offset, how).verdict is verdict


def test_neurons_that_are_all_stable_need_no_search() -> None:
    box = Box(torch.full((1, 1), 0.75, dtype=F64), torch.ones(1, 1, dtype=F64))
    outcome = one(hat(), box, [1.0, 0.0], -0.2)
    assert (outcome.verdict, outcome.nodes) == (Verdict.CERTIFIED, 0)
    assert outcome.lower == pytest.approx(0.05)
    assert one(hat(), box, [1.0, 0.0], -0.3, BARE).verdict is Verdict.FALSIFIED


def test_a_box_of_one_point_is_decided() -> None:
    network = random_network(12, 12)
    x = Source.of(0).uniform(3, *network.input_shape).float()
    labels = network(x.double()).argmax(1)
    for outcome in verify(network, x, labels, eps=0.0):
        assert outcome.verdict is Verdict.CERTIFIED
        margin = Margin.classified_as(labels, network.outputs).to(F64)
        exact = float(margin.worst(network(x.double()))[outcome.index])
        assert outcome.lower == pytest.approx(exact, rel=1e-4)
        assert outcome.lower <= exact


def test_the_whole_domain_as_a_box() -> None:
    network = random_network(11, 10)
    x = torch.cat([torch.zeros(1, *network.input_shape), torch.ones(1, *network.input_shape)])
    for outcome in verify(network, x, network(x.double()).argmax(1), eps=1.0):
        assert outcome.verdict in (Verdict.CERTIFIED, Verdict.FALSIFIED)
        if outcome.counterexample is not None:
            assert float(outcome.counterexample.min()) >= 0 and float(outcome.counterexample.max()) <= 1


def test_images_on_the_border_of_the_domain_stay_inside() -> None:
    x = torch.tensor([[0.0, 1.0]])
    outcome = next(verify(affine(), x, torch.tensor([1]), eps=0.6))
    assert outcome.verdict is Verdict.FALSIFIED
    point = outcome.counterexample
    assert point is not None
    assert float(point.min()) >= 0 and float(point.max()) <= 1
    assert float((point - x[0]).abs().max()) <= 0.6


def test_counterexamples_are_inside_boxes_whose_ends_float32_cannot_hold() -> None:
    """x <= 0.5 + eps falls just short of a violation; the nearest float32 number beyond it would be one."""
    eps = 0.1
    x = torch.tensor([[0.5, 0.0]])
    top = Box.ball(x.double(), eps).upper[0, 0]
    beyond = torch.nextafter(top.float(), torch.tensor(1.0)).double()
    assert beyond > top
    for level, verdict in ((float(top) + 1e-12, Verdict.CERTIFIED), (float(top) - 1e-6, Verdict.FALSIFIED)):
        margin = Margin(
            torch.tensor([[[-1.0, 0.0]]], dtype=F64), torch.tensor([[level]], dtype=F64), torch.tensor([0])
        )
        problem = Problem(Box.ball(x.double(), eps), margin, x.double())
        (outcome,) = decide(affine(), problem)
        assert outcome.verdict is verdict
        if outcome.counterexample is not None:
            assert bool(problem.box.contains(outcome.counterexample.double().unsqueeze(0)))


def test_no_questions_have_no_answers() -> None:
    assert list(verify(affine(), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), eps=0.1)) == []


def test_a_wrong_label_is_a_misclassification_at_the_image_itself() -> None:
    (outcome,) = verify(affine(), torch.tensor([[0.2, 0.8]]), torch.tensor([0]), eps=0.1)
    assert (outcome.verdict, outcome.stage, outcome.predicted, outcome.label) == (
        Verdict.MISCLASSIFIED,
        Stage.CLEAN,
        1,
        0,
    )
    assert outcome.counterexample is not None
    assert outcome.counterexample.tolist() == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize(
    ("images", "eps"),
    [
        (torch.tensor([[float("nan"), 0.5]]), 0.1),
        (torch.tensor([[0.5, 255.0]]), 0.1),
        (torch.tensor([[0.5, 0.5]]), -0.1),
        (torch.tensor([[0.5, 0.5]]), float("nan")),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([0.1, 0.1])),
    ],
)
def test_inputs_that_make_no_sense_are_refused(images: Tensor, eps: float) -> None:
    with pytest.raises(InputError):
        list(verify(affine(), images, torch.tensor([0]), eps=eps))


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(InputError, match="labels"):
        list(verify(affine(), torch.rand(1, 2), torch.tensor([2]), eps=0.1))


def test_numbers_that_are_no_numbers_certify_nothing() -> None:
    network = affine()
    matrix = torch.tensor([[[float("nan"), 0.0]]], dtype=F64)
    margin = Margin(matrix, torch.ones(1, 1, dtype=F64), torch.tensor([0]))
    (outcome,) = decide(network, Problem(unit(2), margin, unit(2).centre), budget=Budget(seconds=2))
    assert outcome.verdict is Verdict.UNKNOWN


def test_a_replayed_model_that_disagrees_is_believed_about_counterexamples() -> None:
    """The network has counterexamples; the original model has none, so none is reported, and nothing is certified."""
    x = torch.tensor([[0.6, 0.5]])
    (outcome,) = verify(
        affine(),
        x,
        torch.tensor([0]),
        eps=0.2,
        original=lambda p: torch.tensor([[1.0, 0.0]]).expand(len(p), 2),
    )
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.reason is Reason.NUMERIC


def test_an_original_model_decides_what_is_misclassified() -> None:
    x = torch.tensor([[0.9, 0.1]])
    (outcome,) = verify(affine(), x, torch.tensor([0]), eps=0.01, original=lambda p: p.flip(1))
    assert (outcome.verdict, outcome.predicted) == (Verdict.MISCLASSIFIED, 1)


def test_indices_name_the_outcomes_and_progress_counts_them() -> None:
    seen: list[Progress] = []
    x = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.4]])
    outcomes = list(
        verify(affine(), x, torch.tensor([0, 1, 0]), eps=0.1, indices=[30, 10, 20], progress=seen.append)
    )
    assert sorted(o.index for o in outcomes) == [10, 20, 30]
    assert {o.index: o.label for o in outcomes} == {30: 0, 10: 1, 20: 0}
    assert [(p.done, p.total) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [p.last for p in seen] == outcomes


def test_clauses_are_disjunctions_and_their_conjunction_is_asked() -> None:
    """x > 0.6 or x < 0.7 always holds; with the third clause y > 0.1 it fails at y = 0."""
    matrix = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]], dtype=F64)
    offset = torch.tensor([[-0.6, 0.7, -0.1]], dtype=F64)
    for rows, verdict in (
        ([0, 1], Verdict.CERTIFIED),
        ([0, 1, 2], Verdict.FALSIFIED),
        ([0], Verdict.FALSIFIED),
    ):
        margin = Margin(matrix[:, rows], offset[:, rows], torch.tensor([0, 0, 1])[rows])
        problem = Problem(unit(2), margin, torch.tensor([[0.65, 0.9]], dtype=F64))
        (outcome,) = decide(affine(), problem, how=BARE, budget=Budget(seconds=20))
        assert outcome.verdict is verdict


def test_relus_have_names_and_counts() -> None:
    network = hat()
    assert list(relu_names(network).values()) == ["relu1"]
    counts = unstable_counts(network, torch.tensor([[0.5], [0.9], [0.1]]), torch.tensor([0.1, 0.1, 0.5]))
    assert {name: t.tolist() for name, t in counts.items()} == {"relu1": [2, 0, 2]}
