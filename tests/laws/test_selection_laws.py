"""Laws 6 and 7: selection is exact, nested and sees only the scores' order; rewinding is bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.prune import Scores, floored, rewind_, select, snapshot
from certiprune.prune.select import shares
from certiprune.store import tensors

LAW = settings(derandomize=True, deadline=None, max_examples=60)
SCOPES = st.sampled_from(["global", "layer"])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Scores, Mask]:
    """A few small layers with many ties among their scores, and a mask that keeps at least one weight."""
    shapes = draw(st.lists(st.sampled_from([(1,), (5,), (2, 3), (3, 1, 2, 2)]), min_size=1, max_size=4))
    random = generator(draw(st.integers(0, 2**20)), "law")
    distinct = draw(st.sampled_from([1, 3, 1000]))
    density = draw(st.sampled_from([0.2, 0.7, 1.0]))
    scores, keep = {}, {}
    for i, shape in enumerate(shapes):
        scores[f"layer{i}"] = torch.randint(-distinct, distinct, shape, generator=random).float()
        keep[f"layer{i}"] = torch.rand(shape, generator=random) < density
    if not any(bool(part.any()) for part in keep.values()):
        keep["layer0"].view(-1)[0] = True
    return Scores(scores), Mask(keep)


def keep_of(data: st.DataObject, mask: Mask) -> int:
    return data.draw(st.integers(1, mask.kept))


@LAW
@given(problems(), SCOPES, st.data())
def test_the_count_is_exact_and_the_masks_are_nested(problem, scope, data):
    scores, mask = problem
    keep = keep_of(data, mask)
    result = select(scores, mask, keep=keep, scope=scope)
    assert result.kept == keep
    assert result.nested_in(mask)


@LAW
@given(problems(), SCOPES, st.data())
def test_pruned_weights_do_not_come_back_however_high_their_score(problem, scope, data):
    scores, mask = problem
    keep = keep_of(data, mask)
    raised = Scores({name: torch.where(mask[name], scores[name], 1e30) for name in scores})
    assert same(select(raised, mask, keep=keep, scope=scope), select(scores, mask, keep=keep, scope=scope))


@LAW
@given(
    problems(),
    SCOPES,
    st.sampled_from(
        [lambda x: 4 * x, lambda x: x**3, lambda x: x.double() - 7, lambda x: torch.exp(x / 100)]
    ),
    st.data(),
)
def test_a_strictly_monotone_map_of_the_scores_changes_nothing(problem, scope, increasing, data):
    scores, mask = problem
    keep = keep_of(data, mask)
    mapped = Scores({name: increasing(scores[name]) for name in scores})
    assert same(select(mapped, mask, keep=keep, scope=scope), select(scores, mask, keep=keep, scope=scope))


@LAW
@given(problems(), SCOPES, st.data())
def test_no_layer_loses_its_last_weight_while_there_is_one_for_each(problem, scope, data):
    scores, mask = problem
    alive = [name for name in mask if bool(mask[name].any())]
    keep = data.draw(st.integers(len(alive), mask.kept))
    result = select(scores, mask, keep=keep, scope=scope)
    assert all(bool(result[name].any()) for name in alive)


@LAW
@given(problems(), st.data())
def test_a_smaller_count_gives_a_nested_mask(problem, data):
    scores, mask = problem
    large = keep_of(data, mask)
    small = data.draw(st.integers(1, large))
    assert select(scores, mask, keep=small).nested_in(select(scores, mask, keep=large))


@LAW
@given(problems(), st.data())
def test_beyond_the_floor_no_pruned_weight_outranks_a_kept_one(problem, data):
    scores, mask = problem
    result = select(scores, mask, keep=keep_of(data, mask))
    lost = [scores[n][mask[n] & ~result[n]] for n in mask]
    # A layer's only weight may be there because of the floor and not because of its score.
    ranked = [scores[n][result[n]] for n in mask if int(result[n].sum()) > 1]
    for best_lost in (part.max() for part in lost if len(part)):
        assert all(bool((part >= best_lost).sum() >= len(part) - 1) for part in ranked)


def by_sorting(scores: Scores, mask: Mask, keep: int, scope: str, *, floor: bool) -> dict[str, list[bool]]:
    """What stays, from sorted lists of Python's numbers; with ``floor`` the best of each layer go first."""
    entries = [
        (layer, -float(score), place)
        for layer, name in enumerate(mask)
        for place, (score, kept) in enumerate(zip(scores[name].flatten(), mask[name].flatten(), strict=True))
        if kept
    ]
    layers = [sorted(entry for entry in entries if entry[0] == layer) for layer in range(len(mask))]
    if scope == "global":
        first = {found[0] for found in layers if found} if floor else set()
        ranked = sorted(entries, key=lambda entry: (entry not in first, entry[1], entry[0], entry[2]))
        winners = ranked[:keep]
    else:
        parts = shares([len(found) for found in layers], keep, floor=floor)
        winners = [entry for found, part in zip(layers, parts, strict=True) for entry in found[:part]]
    chosen = {(layer, place) for layer, _, place in winners}
    return {
        name: [(layer, place) in chosen for place in range(mask[name].numel())]
        for layer, name in enumerate(mask)
    }


@settings(LAW, max_examples=300)
@given(problems(), SCOPES, st.sampled_from(["float16", "float32", "float64", "mixed"]), st.data())
def test_the_choice_is_that_of_sorting_ties_included(problem, scope, kind, data):
    scores, mask = problem
    kinds = {
        name: kind if kind != "mixed" else ("float32", "float64")[k % 2] for k, name in enumerate(scores)
    }
    some = {name: torch.arange(scores[name].numel()).reshape(scores[name].shape) % 2 == 0 for name in scores}
    # 0.0 and -0.0 are equal, wherever they stand.
    signed = {name: torch.where(some[name] & (t == 0), -t, t) for name, t in scores.items()}
    scores = Scores({name: t.to(getattr(torch, kinds[name])) for name, t in signed.items()})
    keep = keep_of(data, mask)
    found = {
        name: kept.flatten().tolist() for name, kept in select(scores, mask, keep=keep, scope=scope).items()
    }
    held, free = (by_sorting(scores, mask, keep, scope, floor=floor) for floor in (True, False))
    assert found == held
    names = tuple(name for name in mask if any(held[name]) and not any(free[name]))
    assert floored(scores, mask, keep=keep, scope=scope) == names


@settings(LAW, max_examples=15)
@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.3, 1.0]))
def test_rewound_weights_equal_the_stored_ones_bit_for_bit(seed, density):
    random = generator(seed, "rewind")
    model = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random)
    model(torch.randn(4, 1, 4, 4, generator=random))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "early.safetensors"
        tensors.save(path, snapshot(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(2):
            model(torch.randn(4, 1, 4, 4, generator=random)).sum().backward()
            optimizer.step()
        stored, _ = tensors.load(path)
    mask = Mask({"0.weight": torch.rand(3, 1, 3, 3, generator=random) < density})
    rewind_(model, stored, mask)
    for name, tensor in model.state_dict().items():
        kept = mask[name] if name in mask else torch.ones_like(tensor, dtype=torch.bool)
        assert bits(tensor[kept]) == bits(stored[name][kept]), name
        assert not bool(tensor[~kept].any()), name


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


def same(one: Mask, other: Mask) -> bool:
    return one.nested_in(other) and other.nested_in(one)
