"""The papers behind the methods: what to cite for the losses, penalties and scores of an experiment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from certiprune.report.summary import dig

STUDY = "study"
"""The key of the study that certiprune carries out; it is among the references of every report."""


def entries() -> dict[str, str]:
    """Key -> its whole BibTeX entry, in the order of the file ``references.bib``."""
    text = files("certiprune.report").joinpath("references.bib").read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{([\w-]+),\n.*?^\}\n", text, re.DOTALL | re.MULTILINE)
    return {entry.group(1): entry.group(0) for entry in found}


def names(entry: str) -> set[str]:
    """The names that an entry stands for: its key, and those of its field ``ids``."""
    key = re.match(r"@\w+\{([\w-]+),", entry)
    ids = re.search(r"^  ids = \{(.*?)\},$", entry, re.MULTILINE)
    assert key is not None  # ``entries`` finds no others
    return {key.group(1), *(re.split(r",\s*", ids.group(1)) if ids else ())}


def bibliography(used: Iterable[str]) -> str:
    """The BibTeX entries of the methods named ``used``, each paper once, and the study's first.

    Names without a source, such as ``natural`` and ``random``, add nothing.
    """
    wanted = {STUDY, *used}
    return "\n".join(entry for entry in entries().values() if names(entry) & wanted)


def methods(config: Mapping[str, Any] | None) -> set[str]:
    """The names of the loss, the penalties and the scores that a resolved experiment uses."""
    found = {dig(config, "train", "loss", "name")}
    found |= {dig(penalty, "name") for penalty in dig(config, "train", "penalties") or ()}
    found |= {dig(ladder, "method") for ladder in dig(config, "ladders") or ()}
    return {str(name) for name in found if name is not None}
