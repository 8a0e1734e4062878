"""What a sweep file may say, and how one is read."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from certiprune.core.errors import ConfigError, hint
from certiprune.experiment import presets, reading
from certiprune.experiment.settings import Kept, Section, Size, decreasing

SCHEMA: Final = 1
"""Raised whenever the same file would mean other experiments."""

T = TypeVar("T", bound=Hashable)


def _part(name: str) -> str:
    valid = [*presets.parts(), *presets.names()]
    if name not in valid:
        raise ValueError(f"there is no part or preset {name!r}; {hint(name, valid)}")
    return name


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _different(values: tuple[T, ...]) -> tuple[T, ...]:
    if twice := next((str(value) for value in values if values.count(value) > 1), None):
        raise ValueError(f"{twice} is given twice")
    return values


def _general(value: dict[str, Any]) -> dict[str, Any]:
    places = {"base": "base, beside set", "seed": "seeds", "ladders": "parts under pruning"}
    if key := next((key for key in value if key in places), None):
        raise ValueError(f"{key} cannot be set here; it comes from {places[key]}")
    return value


Part = Annotated[str, AfterValidator(_part)]


class Sweep(Section):
    """Many experiments: every training with every pruning and every seed.

    Attributes:
        base: parts and presets that every experiment starts from.
        training: one of these goes on top, such as a scheme of training.
        pruning: one of these on top of that, with its ladders; where there are none, networks stay dense.
        seeds: of each experiment.
        keep: what the rounds of every ladder keep, in the place of the ladder's own.
        set_: settings over all of these (``set`` in the file), sections as in an experiment file.
    """

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    base: Annotated[tuple[Part, ...], BeforeValidator(_listed)] = ()
    training: Annotated[tuple[Part, ...], Field(min_length=1), AfterValidator(_different)]
    pruning: Annotated[tuple[Part, ...], AfterValidator(_different)] = ()
    seeds: Annotated[tuple[Size, ...], Field(min_length=1), AfterValidator(_different)] = (0,)
    keep: Annotated[tuple[Kept, ...], Field(min_length=1), AfterValidator(decreasing)] | None = None
    set_: Annotated[dict[str, Any], AfterValidator(_general)] = Field(default_factory=dict, alias="set")

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, as plain values that YAML can hold."""
        return self.model_dump(mode="json", by_alias=True)


def load(path: Path) -> Sweep:
    """The sweep in the YAML file ``path``, or the preset of that name where there is no such file.

    ``plan.grid`` finds what is wrong with its experiments.

    Raises:
        ConfigError: no such file or preset, not YAML, or a setting that is unknown or out of range.
    """
    if not path.is_file():
        known = presets.sweeps()
        if str(path) not in known:
            raise ConfigError(f"{path}: no such sweep file or preset; {hint(str(path), known)}")
        return parse(presets.sweep(str(path)).read_text(encoding="utf-8"), name=f"{path}.yaml")
    return parse(reading.text_of(path), name=str(path))


def parse(text: str, *, name: str = "sweep") -> Sweep:
    """The sweep that ``text`` (YAML) describes; ``name`` is what errors call it.

    Raises:
        ConfigError: as ``load`` does.
    """
    content, tree = reading.settings(text, name)
    try:
        return Sweep.model_validate(content)
    except ValidationError as error:
        raise ConfigError(reading.mistake(error, name, tree, Sweep)) from error


def dump(sweep: Sweep) -> str:
    """``sweep`` as YAML, every default written out; ``parse`` gives an equal sweep back."""
    return yaml.safe_dump(sweep.resolved(), sort_keys=False, allow_unicode=True)
