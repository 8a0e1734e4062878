"""SynFlow against products of matrices, and against networks of absolute values written out by hand."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net import zoo
from certiprune.prune import Calibration, Group, Groups, Scores, scores, select
from helpers.networks import Source
from helpers.scoring import calibration, images, scored, weights
from helpers.training import convolutional, dense, own, pooled, shaken

F64 = torch.float64


def matrices(model: nn.Sequential) -> dict[str, Tensor]:
    """The absolute matrices of a ``dense`` model, with those of BatchNorm's running statistics in between."""
    found = {}
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            found[f"{name}.weight"] = layer.weight.detach().abs()
        elif isinstance(layer, nn.BatchNorm1d):
            found[name] = torch.diag(layer.weight.detach().abs() / (layer.running_var + layer.eps).sqrt())
    return found


def by_matrices(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each matrix times (1^T of all behind it) outer (all before it 1)."""
    names, found = list(maps), {}
    for k, name in enumerate(names):
        before = torch.ones(maps[names[0]].shape[1], dtype=F64)
        for other in names[:k]:
            before = maps[other] @ before
        behind = torch.ones(maps[names[-1]].shape[0], dtype=F64)
        for other in reversed(names[k + 1 :]):
            behind = behind @ maps[other]
        found[name] = maps[name] * torch.outer(behind, before)
    return found


def once(model: nn.Module, mask: Mask, data: Calibration | None = None) -> Scores:
    """The scores of one iteration in which all are kept: the plain flow."""
    return scored("synflow", model, mask, data, keep=mask.kept, iterations=1)


@pytest.mark.parametrize("norm", [True, False])
def test_the_flow_is_a_product_of_matrices(norm: bool) -> None:
    model = dense(3, norm=norm)
    found, wanted = once(model, weights(model)), by_matrices(matrices(model))
    for name in found:
        torch.testing.assert_close(found[name], wanted[name])


@pytest.mark.parametrize("picks", [False, True])
def test_two_linear_layers_in_a_row_are_two(picks: bool) -> None:
    layers = [nn.Flatten(), nn.Linear(16, 6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)]
    model = shaken(nn.Sequential(*layers), 3)
    mask = weights(model)
    if picks:  # one weight in each row, so that a network folds the two layers into one
        mask = Mask({**mask, "2.weight": torch.arange(6).expand(5, 6) == torch.arange(5)[:, None]})
    mask.apply_(model)
    found, wanted = once(model, mask), by_matrices(matrices(model))
    for name in found:
        torch.testing.assert_close(found[name], wanted[name])


@pytest.mark.parametrize("keep", [3, 10, 60])
@pytest.mark.parametrize("iterations", [1, 7, 100])
def test_iterations_go_down_exponentially(keep: int, iterations: int) -> None:
    model = dense(4)
    mask, maps = weights(model), matrices(model)
    found = scored("synflow", model, mask, None, keep=keep, iterations=iterations)
    total, rank = mask.kept, {}
    for k in range(1, iterations + 1):
        flow = by_matrices(maps)
        best = {max(float(flow[n].max()), 0.0) for n in mask}
        places = [(n, i) for n in mask for i in range(maps[n].numel()) if rank.get((n, i)) is None]
        value = {(n, i): float(flow[n].view(-1)[i]) for n, i in places}
        order = sorted(places, key=lambda at: (value[at] not in best, -value[at]))
        for n, i in order[round(total * (keep / total) ** (k / iterations)) :]:
            rank[n, i] = k
            maps[n].view(-1)[i] = 0.0
    left = {(n, i) for n in mask for i in range(maps[n].numel())} - set(rank)
    chosen = select(found, mask, keep=keep)
    assert {(n, i) for n in mask for i in torch.nonzero(chosen[n].flatten()).flatten().tolist()} == left
    # Those that went earlier are ranked lower.
    removed = sorted(rank, key=lambda at: float(found[at[0]].view(-1)[at[1]]))
    assert [rank[at] for at in removed] == sorted(rank.values())
    assert all(float(found[n].view(-1)[i]) < 0 for n, i in rank)
    assert all(float(found[n].view(-1)[i]) >= 0 for n, i in left)


CHAINS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (1, 4, 4)),
    "convolutional": (convolutional, (1, 4, 4)),
    "cnn_small": (lambda s: spec_model("cnn_small"), (1, 8, 8)),
    "cnn7": (lambda s: spec_model("cnn7"), (1, 8, 8)),
    "pooled": (pooled, (1, 6, 6)),
}


def spec_model(name: str) -> nn.Module:
    return zoo.build(zoo.ModelSpec(name, (1, 8, 8), 3, (0.4,), (0.3,), width=0.1))


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_in_a_chain_the_flow_through_each_layer_is_the_same(name: str, share: float) -> None:
    build, shape = CHAINS[name]
    model, source = build(2), Source.of(1)
    mask = Mask({n: source.uniform(*keep.shape) <= share for n, keep in weights(model).items()})
    found = once(model, mask, Calibration(images(2, shape)))
    sums = torch.stack([found[n].sum() for n in found])
    assert sums[0] > 0
    torch.testing.assert_close(sums, sums[:1].expand_as(sums))


def test_in_a_unit_as_much_comes_in_as_goes_out() -> None:
    model = dense(7)
    found = once(model, weights(model))
    torch.testing.assert_close(found["1.weight"].sum(1), found["4.weight"].sum(0))
    torch.testing.assert_close(found["4.weight"].sum(1), found["7.weight"].sum(0))


def own_flow(model: nn.Module) -> Tensor:
    """R of the helper's residual network: absolute weights, no offsets, BatchNorm by its running statistics."""

    def norm(layer: nn.Module) -> Tensor:
        scale = layer.weight.abs() / (layer.running_var + layer.eps).sqrt()  # type: ignore[operator, union-attr]
        return scale

    x = 2 * torch.ones(1, 1, 4, 4, dtype=F64)
    x = conv2d(x, model.first.weight.abs(), padding=1) * norm(model.norm1)[:, None, None]  # type: ignore
    x = x + conv2d(x, model.second.weight.abs(), padding=1) * norm(model.norm2)[:, None, None]  # type: ignore
    x = avg_pool2d(x, 2).flatten(1)
    x = (x @ model.hidden.weight.abs().T) * norm(model.norm3)  # type: ignore
    return (x @ model.last.weight.abs().T).sum()  # type: ignore


def test_a_sum_around_a_block_stays_a_sum() -> None:
    model = own(3)
    mask = weights(model)
    found = once(model, mask, calibration(4))
    wanted = torch.autograd.grad(own_flow(model), [model.get_parameter(name) for name in mask])
    for (name, score), slope in zip(found.items(), wanted, strict=True):
        torch.testing.assert_close(score, (model.get_parameter(name) * slope).detach().abs())
        assert score.max() > 0


@pytest.mark.parametrize("keep", [2, 5, 40, 120])
def test_select_picks_what_the_iterations_left(keep: int) -> None:
    model = own(5)
    source = Source.of(2)
    mask = Mask({n: source.uniform(*kept.shape) < 0.8 for n, kept in weights(model).items()})
    data = calibration(4)
    chosen = select(scored("synflow", model, mask, data, keep=keep, iterations=6), mask, keep=keep)
    left = mask
    for k in range(1, 7):
        count = round(mask.kept * (keep / mask.kept) ** (k / 6))
        left = select(once(model, left, data), left, keep=count)
    assert all(torch.equal(chosen[name], left[name]) for name in mask)


def test_no_layer_is_emptied_where_one_shot_magnitude_empties_it() -> None:
    model = dense(6, norm=False)
    nn.init.uniform_(model[3].weight, 1e-6, 2e-6)  # a layer of tiny weights
    mask = weights(model)
    keep = 12
    chosen = select(scored("synflow", model, mask, None, keep=keep), mask, keep=keep)
    blind = select(scored("magnitude", model, mask, None), mask, keep=keep)
    assert blind["3.weight"].sum() == 1  # what the selection does not let go of
    assert chosen["3.weight"].sum() > 1
    pruned = copy.deepcopy(model)
    chosen.apply_(pruned)
    assert by_matrices(matrices(pruned))["1.weight"].sum() > 0, "something still flows"


def test_units_are_removed_by_their_flow() -> None:
    model = dense(8)
    groups = Groups({"1": Group(6, ("1.weight",), ("1.bias",)), "4": Group(5, ("4.weight",), ("4.bias",))})
    mask = groups.ones()
    mask["1"][2] = False
    scorer = scores.build("synflow", iterations=5)
    found = scorer.score_units(model, groups, mask, None, keep=4, generator=generator(0))
    maps, left = matrices(model), {"1": [0, 1, 3, 4, 5], "4": [0, 1, 2, 3, 4]}
    maps["1.weight"][2] = 0
    for k in range(1, 6):
        flow = by_matrices(maps)
        value = {(g, u): float(flow[f"{g}.weight"][u].sum()) for g in left for u in left[g]}
        best = {max(v for (g, _), v in value.items() if g == name) for name in left}
        order = sorted(value, key=lambda at: (value[at] not in best, -value[at]))
        for g, u in order[round(10 * (4 / 10) ** (k / 5)) :]:
            left[g].remove(u)
            maps[f"{g}.weight"][u] = 0
    chosen = select(found, mask, keep=4)
    assert {g: torch.nonzero(chosen[g]).flatten().tolist() for g in left} == left


def test_without_images_the_shape_is_known_where_the_first_layer_is_linear() -> None:
    model = zoo.build(zoo.ModelSpec("mlp", (2, 4, 4), 3, (0.4, 0.5), (0.3, 0.2), width=0.05))
    mask = weights(model)
    with_images = once(model, mask, Calibration(images(3, (2, 4, 4))))
    without = once(model, mask)
    for name in mask:
        torch.testing.assert_close(without[name], with_images[name])
    plain = dense(3)
    with_images, without = once(plain, weights(plain), calibration(4)), once(plain, weights(plain))
    assert all(torch.equal(with_images[name], without[name]) for name in without)


def test_the_images_numbers_do_not_matter() -> None:
    model = convolutional(3)
    first, other = (once(model, weights(model), Calibration(images(n, seed=n), batch_size=1)) for n in (1, 5))
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_what_it_cannot_do_is_said() -> None:
    model = convolutional(1)
    with pytest.raises(InputError, match=r"synflow needs the shape of the images, .* give some as data"):
        scored("synflow", model, weights(model), None)
    with pytest.raises(InputError, match="cannot keep 0"):
        scored("synflow", model, weights(model), calibration(4), keep=0)
    with pytest.raises(InputError, match="cannot keep 9999"):
        scored("synflow", model, weights(model), calibration(4), keep=9999)
    with pytest.raises(ModelError, match="does not fit"):
        scored("synflow", model, weights(model), Calibration(images(2, (1, 7, 7))))
    for value in (0, 1.5, "many"):
        with pytest.raises(
            InputError, match="option iterations of the pruning method synflow must be a whole"
        ):
            scores.build("synflow", iterations=value)


def test_every_iteration_is_told() -> None:
    model, told = dense(1), list[tuple[int, int]]()
    data = dataclasses.replace(calibration(4), progress=lambda done, total: told.append((done, total)))
    scored("synflow", model, weights(model), data, keep=20, iterations=3)
    assert told == [(1, 3), (2, 3), (3, 3)]
