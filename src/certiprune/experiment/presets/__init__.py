"""Experiments that come with the package, one YAML file each.

A preset is called by its file's place: ``demo``, ``mnist-0.3/ibp``. The files in ``parts`` are no experiments: they
hold what experiments are put together from, a setting, a training scheme or a way of pruning, for their key ``base``
(see ``load``). Those in ``sweeps`` are whole sweeps.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_PARTS = "parts"
_SWEEPS = "sweeps"


def names() -> list[str]:
    """The presets' names: those that stand alone, then SETTING/SCHEME, in alphabetical order each."""
    files = [file for file in _HERE.rglob("*.yaml") if file.parent.name not in (_PARTS, _SWEEPS)]
    found = [file.relative_to(_HERE).with_suffix("").as_posix() for file in files]
    return sorted(found, key=lambda name: ("/" in name, name))


def parts() -> list[str]:
    """What else a file's ``base`` can name besides ``names()``."""
    return sorted(file.name.removesuffix(".yaml") for file in (_HERE / _PARTS).glob("*.yaml"))


def sweeps() -> list[str]:
    """The names of the sweeps that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in (_HERE / _SWEEPS).glob("*.yaml"))


def sweep(name: str) -> Path:
    """The file of the sweep ``name``, which is one of ``sweeps()``."""
    return _HERE / _SWEEPS / f"{name}.yaml"


def comment(file: Path) -> str:
    """What the first line of a preset's, part's or sweep's ``file`` says of it; empty where it says nothing."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def path(name: str) -> Path:
    """The file of the preset ``name``, which is one of ``names()``."""
    return _HERE / f"{name}.yaml"


def base(name: str) -> Path:
    """The file of ``name``, which is one of ``parts()`` or of ``names()``."""
    part = _HERE / _PARTS / f"{name}.yaml"
    return part if part.is_file() else path(name)


def holds(file: Path) -> bool:
    """Whether ``file`` is a preset's."""
    return file.is_relative_to(_HERE)
