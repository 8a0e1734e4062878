"""Read an experiment from a YAML file or a preset, with errors that fit on one line.

A file may say ``base: NAME`` or ``base: [NAME, ...]``: it then holds only what differs from these presets or parts of
presets (``presets.parts``). Sections are put together setting by setting: what stands in a later base replaces what
stands in an earlier one, and the file itself comes last. Ladders and penalties add up, and those of the same name are
put together; an empty list takes them all away. Other settings are taken whole: a ``loss`` with its options, a list.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from certiprune.core.errors import ConfigError, hint
from certiprune.experiment import presets
from certiprune.experiment.config import Experiment
from certiprune.experiment.registry import fill_in


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which silently keeps the last of two equal keys; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"{key.value} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error.__class__.__name__})") from error
    return parse(text, name=f"{source}.yaml" if presets.holds(path) else str(path))


def parse(text: str, *, name: str = "experiment") -> Experiment:
    """The experiment that ``text`` (YAML) describes; ``name`` is what errors call it.

    Raises:
        ConfigError: as ``load`` does.
    """
    try:
        tree = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{name}{f', line {mark.line + 1}' if mark else ''}: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: is nested too deeply") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: must hold settings such as 'seed: 0', and holds none")
    content = _on_base(content, name)
    try:
        return fill_in(Experiment.model_validate(content), name)
    except ValidationError as error:
        raise ConfigError(_one_line(error, name, tree)) from error


def _on_base(content: dict[str, Any], name: str) -> dict[str, Any]:
    """``content`` put on top of what its ``base`` names; as it is where it has none."""
    bases = content.get("base", [])
    whole: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else [None]:
        valid = [*presets.names(), *presets.parts()]
        if base not in valid:
            advice = (
                hint(base, valid) if isinstance(base, str) else "name presets, such as demo or mnist-0.3/ibp"
            )
            raise ConfigError(f"{name}: base: there is no preset {base!r}; {advice}")
        below = yaml.load(presets.base(base).read_text(encoding="utf-8"), Loader=_Loader)
        whole = _merged(whole, _on_base(below, base))
    return _merged(whole, {key: value for key, value in content.items() if key != "base"})


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return {**below, **{key: _put_on(key, below.get(key), value) for key, value in above.items()}}


def _put_on(key: str, below: Any, above: Any) -> Any:
    """One setting, list or section over another; the train section's lists are reached through the section."""
    if isinstance(below, dict) and isinstance(above, dict) and key not in _WHOLE:
        return _merged(below, above)
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


def _one_line(error: ValidationError, name: str, tree: yaml.Node | None) -> str:
    # Unknown keys come first: where a key is misspelt, the complaint that it is missing only distracts.
    problems = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    first = problems[0]
    place = tuple(part for part in first["loc"] if not (isinstance(part, str) and "[" in part))
    line = _line(tree, place)
    where = f"{name}{f', line {line}' if line else ''}: {_dotted(place)}"
    if first["type"] == "extra_forbidden":
        what = f"no such setting{_suggest(place)}"
    else:
        what = first["msg"].removeprefix("Value error, ")
        what = what[:1].lower() + what[1:]
        if isinstance(first["input"], str | int | float | bool | None) and repr(first["input"]) not in what:
            what += f", not {first['input']!r}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {what}{more}" if place else f"{name}: {what}{more}"


def _dotted(place: Sequence[int | str]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _line(node: yaml.Node | None, place: Sequence[int | str]) -> int | None:
    """The line of the file, from 1, on which the setting at ``place`` (or its nearest parent) stands."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _suggest(place: Sequence[int | str]) -> str:
    """What the unknown last part of ``place`` was probably meant to be."""
    section: type[BaseModel] = Experiment
    for part in place[:-1]:
        if isinstance(part, str):
            section = _section_in(section.model_fields[part].annotation) or section
    names = [info.alias or field for field, info in section.model_fields.items()]
    return _near(place[-1], names) or f"; there are {', '.join(names)}"


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, list, Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := _section_in(part))), None)
    return None


def _known(word: str) -> str:
    """The preset that was probably meant, or where they are listed."""
    close = difflib.get_close_matches(word, presets.names(), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "`certiprune presets` lists the presets"


def _near(word: object, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
