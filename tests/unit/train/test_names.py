"""Losses and penalties by name: what there is, and what is said of a wrong name, option or value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from types import ModuleType
from typing import Any

import pytest

from certiprune.core.errors import InputError
from certiprune.train import losses, penalties

ROOMS = {"loss": losses, "penalty": penalties}
KNOWN = [(kind, name) for kind, room in ROOMS.items() for name in room.names()]


def test_what_there_is() -> None:
    assert losses.names() == [
        "natural", "fgsm", "gradalign", "n_fgsm", "pgd", "ibp", "crown_ibp", "sabr", "mtl_ibp", "cc_ibp", "exp_ibp",
    ]  # fmt: skip
    assert penalties.names() == ["rs", "nrs", "slimming", "l1", "fast_ibp"]
    certified = {name for name in losses.names() if losses.build(name).certified}
    assert certified == {"ibp", "crown_ibp", "sabr", "mtl_ibp", "cc_ibp", "exp_ibp"}


@pytest.mark.parametrize(("kind", "name"), KNOWN)
def test_options_are_the_fields_with_their_defaults(kind: str, name: str) -> None:
    room: ModuleType = ROOMS[kind]
    built, options = room.build(name), room.options(name)
    assert built.name == name
    assert options == {field.name: getattr(built, field.name) for field in fields(built)}
    assert room.build(name, **options) == built
    for option in options:
        with pytest.raises(FrozenInstanceError):
            setattr(built, option, 1)


@pytest.mark.parametrize(("kind", "name"), KNOWN)
def test_a_near_name_and_a_near_option_are_hinted_at(kind: str, name: str) -> None:
    room = ROOMS[kind]
    wrong = name[:-1] + "x" if len(name) > 2 else name + "x"
    with pytest.raises(InputError, match=f"there is no {kind} called '{wrong}'; did you mean"):
        room.build(wrong)
    with pytest.raises(InputError, match=f"there is no {kind} called '{wrong}'"):
        room.options(wrong)
    for option in room.options(name):
        with pytest.raises(
            InputError, match=f"no option of the {kind} {name} called '{option}_'; did you mean"
        ):
            room.build(name, **{option + "_": 1})
    if not room.options(name):
        with pytest.raises(InputError, match=f"{kind} {name} called 'weight'; choose one of none"):
            room.build(name, weight=1.0)


def test_a_far_name_is_answered_with_all() -> None:
    with pytest.raises(InputError, match="choose one of natural, fgsm, gradalign"):
        losses.build("zzz")
    with pytest.raises(InputError, match="choose one of rs, nrs, slimming, l1, fast_ibp"):
        penalties.build("zzz")


RANGES: list[tuple[str, str, str, tuple[Any, ...], tuple[Any, ...]]] = [
    *[
        ("loss", n, "step", (0.0, -1.0), (1e-9, 2.0))
        for n in ("fgsm", "gradalign", "n_fgsm", "pgd", "sabr", "mtl_ibp")
    ],
    *[("loss", n, "steps", (0, -1, 2.5), (1, 50)) for n in ("pgd", "sabr", "mtl_ibp", "cc_ibp", "exp_ibp")],
    *[("loss", n, "alpha", (-0.1, 1.1), (0.0, 1.0)) for n in ("mtl_ibp", "cc_ibp", "exp_ibp")],
    ("loss", "gradalign", "weight", (-0.1,), (0.0, 5.0)),
    ("loss", "n_fgsm", "noise", (-0.1,), (0.0, 5.0)),
    ("loss", "ibp", "natural", (-0.1, 1.0), (0.0, 0.5)),
    ("loss", "sabr", "ratio", (-0.1, 1.1), (0.0, 1.0)),
    ("loss", "crown_ibp", "start", (-0.1, 1.1), (0.0, 1.0)),
    ("loss", "crown_ibp", "end", (-0.1, 1.1), (0.0, 1.0)),
    ("penalty", "fast_ibp", "tolerance", (0.0, 1.1), (0.1, 1.0)),
]


@pytest.mark.parametrize(("kind", "name", "option", "wrong", "right"), RANGES)
def test_a_value_out_of_range_is_named(
    kind: str, name: str, option: str, wrong: tuple[Any, ...], right: tuple[Any, ...]
) -> None:
    room = ROOMS[kind]
    for value in (*wrong, float("nan"), float("inf"), "many", None, True):
        with pytest.raises(
            InputError, match=f"the option {option} of the {kind} {name} must be .*, not '?{value}"
        ):
            room.build(name, **{option: value})
    for value in right:
        assert getattr(room.build(name, **{option: value}), option) == value


def test_every_option_has_a_range_that_is_tested() -> None:
    tested = {(kind, name, option) for kind, name, option, *_ in RANGES}
    shared = {("loss", n, "step") for n in ("cc_ibp", "exp_ibp")}
    assert tested | shared == {(kind, name, o) for kind, name in KNOWN for o in ROOMS[kind].options(name)}
