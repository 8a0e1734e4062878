import pytest
import torch

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune import Scores, floored, select
from certiprune.prune.select import shares


def mask_of(**layers: list[bool]) -> Mask:
    return Mask({name: torch.tensor(keep) for name, keep in layers.items()})


def scores_of(**layers: list[float]) -> Scores:
    return Scores({name: torch.tensor(values) for name, values in layers.items()})


def as_lists(mask: Mask) -> dict[str, list[bool]]:
    return {name: keep.tolist() for name, keep in mask.items()}


def test_the_highest_scores_of_all_layers_stay():
    result = select(scores_of(a=[0.1, 0.9, 0.8], b=[0.7, 0.2]), mask_of(a=[True] * 3, b=[True] * 2), keep=3)
    assert as_lists(result) == {"a": [False, True, True], "b": [True, False]}


def test_equal_scores_go_by_position():
    result = select(
        scores_of(a=[0.0, -0.0, 0.0, 0.0], b=[0.0, 0.0]), mask_of(a=[True] * 4, b=[True] * 2), keep=3
    )
    assert as_lists(result) == {"a": [True, True, False, False], "b": [True, False]}


def test_the_floor_holds_a_layer_whose_scores_are_all_lowest():
    scores, mask = scores_of(a=[5.0, 6.0, 7.0], b=[0.1, 0.2]), mask_of(a=[True] * 3, b=[True] * 2)
    assert as_lists(select(scores, mask, keep=2)) == {"a": [False, False, True], "b": [False, True]}
    assert as_lists(select(scores, mask, keep=1)) == {"a": [False, False, True], "b": [False, False]}


def test_the_floor_says_what_it_holds():
    scores, mask = scores_of(a=[5.0, 6.0, 7.0], b=[0.1, 0.2]), mask_of(a=[True] * 3, b=[True] * 2)
    assert floored(scores, mask, keep=4) == ()
    assert floored(scores, mask, keep=2) == ("b",)
    assert floored(scores, mask, keep=1) == ()  # too few for a floor: b is empty
    wide, narrow = scores_of(a=[1.0] * 9, b=[9.0]), mask_of(a=[True] * 9, b=[True])
    assert floored(wide, narrow, keep=3, scope="layer") == ("b",)
    assert floored(wide, narrow, keep=3) == ()
    assert floored(wide, narrow, keep=6, scope="layer") == ()
    gone = mask_of(a=[True] * 9, b=[False])
    assert floored(wide, gone, keep=1, scope="layer") == floored(wide, gone, keep=1) == ()
    with pytest.raises(InputError, match="cannot keep 9: 5 are left"):
        floored(scores, mask, keep=9)


def test_an_empty_layer_stays_empty_and_takes_no_share():
    scores, mask = scores_of(a=[5.0, 6.0], b=[9.0, 9.0]), mask_of(a=[True] * 2, b=[False] * 2)
    for scope in ("global", "layer"):
        assert as_lists(select(scores, mask, keep=1, scope=scope)) == {
            "a": [False, True],
            "b": [False, False],
        }


def test_layer_scope_shares_the_count_in_proportion():
    scores = scores_of(a=[1.0, 2.0, 3.0, 4.0], b=[30.0, 20.0])
    result = select(scores, mask_of(a=[True] * 4, b=[True] * 2), keep=3, scope="layer")
    assert as_lists(result) == {"a": [False, False, True, True], "b": [True, False]}


@pytest.mark.parametrize(
    ("sizes", "keep", "expected"),
    [
        ([10, 10], 10, [5, 5]),
        ([3, 3, 3], 4, [2, 1, 1]),  # equal remainders: the earlier first
        ([1000, 10], 808, [800, 8]),
        ([1000, 1, 1], 3, [1, 1, 1]),  # the floor
        ([1000, 1, 1], 2, [2, 0, 0]),  # too few for a floor
        ([5, 0, 7], 12, [5, 0, 7]),
    ],
)
def test_shares(sizes, keep, expected):
    assert shares(sizes, keep) == expected


def test_the_given_mask_is_not_changed():
    mask = mask_of(a=[True, True])
    select(scores_of(a=[1.0, 2.0]), mask, keep=1)
    assert mask.kept == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"keep": 0}, "cannot keep 0: 3 are left"),
        ({"keep": 4}, "choose a number from 1 to 3"),
        ({"scope": "channel"}, "scope 'channel' is unknown; choose global or layer"),
        ({"scores": scores_of(b=[1.0])}, "no scores for a"),
        ({"scores": scores_of(a=[1.0])}, r"\(1,\) and \(4,\)"),
    ],
)
def test_what_cannot_be_selected(change, text):
    good = {"scores": scores_of(a=[1.0] * 4), "keep": 2, "scope": "global"} | change
    with pytest.raises(InputError, match=text):
        select(good["scores"], mask_of(a=[True, True, True, False]), keep=good["keep"], scope=good["scope"])
