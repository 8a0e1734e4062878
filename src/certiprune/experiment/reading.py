"""YAML files of settings: read without surprises, and what is wrong with them said in one line."""

from __future__ import annotations

import difflib
import types
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from certiprune.core.errors import ConfigError


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


_LISTS = {"tuple_type": "must be a list, such as [a, b]", "too_short": "must not be empty"}
"""What pydantic says of lists by the names that types have in Python."""


def text_of(path: Path) -> str:
    """The content of the file ``path``.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error.__class__.__name__})") from error


def settings(text: str, name: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """The settings that ``text`` (YAML) holds, and the tree that says on which line each stands.

    Raises:
        ConfigError: it is not YAML, or holds no settings; ``name`` is what the file is called.
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
    return content, tree


def mistake(error: ValidationError, name: str, tree: yaml.Node | None, root: type[BaseModel]) -> str:
    """What is wrong with the file ``name``, which was to hold a ``root``, in one line."""
    # Unknown keys come first: where a key is misspelt, the complaint that it is missing only distracts.
    problems = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    first = problems[0]
    place = tuple(part for part in first["loc"] if not (isinstance(part, str) and "[" in part))
    line = _line(tree, place)
    where = f"{name}{f', line {line}' if line else ''}: {_dotted(place)}"
    if first["type"] == "extra_forbidden":
        what = f"no such setting{_suggest(place, root)}"
    elif first["type"] in _LISTS:
        what = _LISTS[first["type"]]
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
            pair = child(node, str(part))
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def child(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of ``key`` and of its value in a mapping; None where there is no such key."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((one, value) for one, value in pairs if one.value == key), None)


def _suggest(place: Sequence[int | str], root: type[BaseModel]) -> str:
    """What the unknown last part of ``place`` was probably meant to be."""
    section = root
    for part in place[:-1]:
        if isinstance(part, str):
            section = _section_in(section.model_fields[part].annotation) or section
    names = [info.alias or field for field, info in section.model_fields.items()]
    close = difflib.get_close_matches(str(place[-1]), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, list, Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := _section_in(part))), None)
    return None
