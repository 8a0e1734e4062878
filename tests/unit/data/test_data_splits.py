import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.core.errors import DataError, InputError
from certiprune.data import load
from certiprune.data.source import Part, Raw
from certiprune.data.splits import split_in_three
from helpers.data_files import labels, pixels, write_idx

SETTINGS = settings(derandomize=True, deadline=None, max_examples=40)


def numbered(n: int) -> Part:
    """A part whose labels are the images' positions, so that a split shows which images it took."""
    return Part(torch.zeros(n, 1, 2, 2), torch.arange(n))


def taken(parts):
    return [set(part.labels.tolist()) for part in parts]


@SETTINGS
@given(n=st.integers(10, 200), validation=st.floats(0.0, 0.8), seed=st.integers(0, 5))
def test_one_set_is_divided_into_three_without_loss_or_overlap(n, validation, seed):
    parts = split_in_three(Raw(numbered(n), None, ("a", "b")), name="x", seed=seed, validation=validation)
    train, held, test = taken(parts)
    assert train | held | test == set(range(n))
    assert sum(len(part) for part in parts) == n
    assert len(train) > 0
    assert len(test) == round(0.2 * n)
    assert (len(held) == 0) == (validation == 0.0)


@SETTINGS
@given(n=st.integers(10, 200), validation=st.floats(0.01, 0.9))
def test_a_given_test_part_is_left_as_it_is(n, validation):
    raw = Raw(numbered(n), numbered(7), ("a", "b"))
    parts = split_in_three(raw, name="x", seed=0, validation=validation)
    assert parts.test.labels.tolist() == list(range(7))
    train, held, _ = taken(parts)
    assert train | held == set(range(n))
    assert not train & held


def split(**changes):
    arguments = {"name": "x", "seed": 0, "validation": 0.1} | changes
    return split_in_three(Raw(numbered(100), None, ("a", "b")), **arguments)


def test_the_same_name_seed_and_share_give_the_same_splits():
    for one, other in zip(split(), split(), strict=True):
        assert torch.equal(one.labels, other.labels)
    # Results of one release must be comparable with those of the next: these numbers may not change.
    assert [part.labels[:3].tolist() for part in split()] == [[62, 90, 78], [30, 55, 49], [67, 22, 39]]


@pytest.mark.parametrize("change", [{"seed": 1}, {"name": "y"}])
def test_seed_and_name_change_every_split(change):
    for one, other in zip(split(), split(**change), strict=True):
        assert not torch.equal(one.labels, other.labels)


def test_the_test_split_does_not_depend_on_the_validation_share():
    assert torch.equal(split().test.labels, split(validation=0.5).test.labels)


def test_the_global_generator_neither_matters_nor_moves():
    torch.manual_seed(1)
    before = split()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(split().train.labels, before.train.labels)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_images_are_an_error():
    with pytest.raises(DataError, match="too few"):
        split_in_three(Raw(numbered(1), None, ("a", "b")), name="x", seed=0, validation=0.1)


def test_limits_take_heads_of_the_same_splits():
    whole, part = load("digits"), load("digits", train_limit=50, test_limit=20)
    assert torch.equal(part.train.images, whole.train.images[:50])
    assert torch.equal(part.test.images, whole.test.images[:20])
    assert torch.equal(part.validation.images, whole.validation.images)
    assert part.mean == whole.mean and part.std == whole.std


def test_a_test_limit_takes_the_first_images_of_the_file(tmp_path):
    write_idx(tmp_path, packed=False)
    data = load("mnist", folder=tmp_path, test_limit=3, seed=5)
    assert torch.equal(data.test.images, torch.from_numpy(pixels(1, 10, 28, 28)[:3, None]).float() / 255)
    assert data.test.labels.tolist() == labels(3).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 1.0}, r"validation=1.0 must be a share in \[0, 1\)"),
        ({"validation": float("nan")}, "validation=nan must be a share"),
        ({"train_limit": 0}, "train_limit=0 must be at least 1"),
        ({"test_limit": -5}, "test_limit=-5 must be at least 1"),
        ({"name": "digit"}, "did you mean digits"),
        ({"name": "imagenet"}, "known are digits, fashion_mnist"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        load(**({"name": "digits"} | arguments))
