"""Read an experiment from a YAML file or a preset, with errors that fit on one line.

A file may say ``base: NAME`` or ``base: [NAME, ...]``: it then holds only what differs from these presets or parts of
presets (``presets.parts``). Sections are put together setting by setting: what stands in a later base replaces what
stands in an earlier one, and the file itself comes last. Ladders and penalties add up, and those of the same name are
put together; an empty list takes them all away. Other settings are taken whole: a ``loss`` with its options, a list.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from certiprune.core.errors import ConfigError, hint
from certiprune.experiment import presets, reading
from certiprune.experiment.config import Experiment
from certiprune.experiment.registry import fill_in


def load(source: str | Path) -> Experiment:
    """The experiment in the YAML file ``source``, or in the preset of that name where no such file exists.

    Raises:
        ConfigError: no such file or preset, not YAML, or a setting that is unknown or out of range.
    """
    path = Path(source)
    if not path.is_file():
        if str(source) not in presets.names():
            raise ConfigError(f"{source}: no such experiment file or preset; {_known(str(source))}")
        path = presets.path(str(source))
    return parse(reading.text_of(path), name=f"{source}.yaml" if presets.holds(path) else str(path))


def parse(text: str, *, name: str = "experiment") -> Experiment:
    """The experiment that ``text`` (YAML) describes; ``name`` is what errors call it.

    Raises:
        ConfigError: as ``load`` does.
    """
    content, tree = reading.settings(text, name)
    return checked(on_base(content, name), name, tree)


def checked(content: Mapping[str, Any], name: str, tree: yaml.Node | None = None) -> Experiment:
    """The experiment of complete settings; ``name`` and ``tree`` are for errors.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    try:
        return fill_in(Experiment.model_validate(content), name)
    except ValidationError as error:
        raise ConfigError(reading.mistake(error, name, tree, Experiment)) from error


def on_base(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``content`` put on top of what its ``base`` names; as it is where it has none.

    Raises:
        ConfigError: a base is not there; ``name`` is what the error calls the file.
    """
    bases = content.get("base", [])
    whole: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else [None]:
        valid = [*presets.names(), *presets.parts()]
        if base not in valid:
            advice = (
                hint(base, valid) if isinstance(base, str) else "name presets, such as demo or mnist-0.3/ibp"
            )
            raise ConfigError(f"{name}: base: there is no preset {base!r}; {advice}")
        below, _ = reading.settings(presets.base(base).read_text(encoding="utf-8"), base)
        whole = merged(whole, on_base(below, base))
    return merged(whole, {key: value for key, value in content.items() if key != "base"})


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The settings ``above`` over those ``below``, put together as a file over its base."""
    return {**below, **{key: _put_on(key, below.get(key), value) for key, value in above.items()}}


def _put_on(key: str, below: Any, above: Any) -> Any:
    """One setting, list or section over another; the train section's lists are reached through the section."""
    if isinstance(below, dict) and isinstance(above, dict) and key not in _WHOLE:
        return merged(below, above)
    if key in _BY_NAME and isinstance(below, list) and isinstance(above, list) and above:
        return _joined(below, above)
    return above


def _joined(below: list[Any], above: list[Any]) -> list[Any]:
    """Two lists of named things, in order: those of the same name are put together setting by setting."""
    found = list(below)
    places = {item["name"]: place for place, item in enumerate(below) if _named(item)}
    for item in above:
        # Each once: what the upper list names twice is left for the validation to refuse.
        place = places.pop(item["name"], None) if _named(item) else None
        if place is None:
            found.append(item)
            continue
        # A ladder's rounds are said in one of two ways, and the later one counts.
        other = {"keep"} if "rate" in item else {"rate", "rounds"} if "keep" in item else set()
        found[place] = {key: value for key, value in found[place].items() if key not in other} | item
    return found


def _named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)


_WHOLE = ("loss", "options")
_BY_NAME = ("ladders", "penalties")


def dump(experiment: Experiment) -> str:
    """``experiment`` as YAML, every default written out; ``parse`` gives an equal experiment back."""
    return yaml.safe_dump(experiment.resolved(), sort_keys=False, allow_unicode=True)


def _known(word: str) -> str:
    """The preset that was probably meant, or where they are listed."""
    close = difflib.get_close_matches(word, presets.names(), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "`certiprune presets` lists the presets"
