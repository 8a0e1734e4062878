"""Experiments that come with the package, one YAML file each."""

from __future__ import annotations

from pathlib import Path


def names() -> list[str]:
    """The presets' names, in alphabetical order."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.yaml"))


def path(name: str) -> Path:
    """The file of the preset ``name``, which is one of ``names()``."""
    return Path(__file__).parent / f"{name}.yaml"


def holds(file: Path) -> bool:
    """Whether ``file`` is a preset's."""
    return file.parent == Path(__file__).parent
