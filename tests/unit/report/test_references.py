"""Every method has its paper, and no paper is without a method."""

from __future__ import annotations

import re

import pytest

from certiprune.prune import scores
from certiprune.report import references
from certiprune.train import losses, penalties

WITHOUT = {"natural", "random"}
"""What has no source: training as usual, and a coin."""
METHODS = {*losses.names(), *penalties.names(), *scores.names()} - WITHOUT


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_has_an_entry(name: str) -> None:
    assert any(name in references.names(entry) for entry in references.entries().values())


def test_entries_have_what_a_citation_needs() -> None:
    found = references.entries()
    assert "study" in found
    for key, entry in found.items():
        fields = set(re.findall(r"^  (\w+) = \{.+\},$", entry, re.MULTILINE))
        assert {"author", "title", "year"} <= fields and fields & {"journal", "booktitle"}, key
        assert entry.count("{") == entry.count("}")
        assert references.names(entry) & {*METHODS, "study", "imp", "loss_fusion"}, key


def test_a_bibliography_has_each_paper_once_and_the_study_first() -> None:
    text = references.bibliography(["mtl_ibp", "cc_ibp", "crown_ibp", "natural"])
    keys = re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)
    assert keys == ["study", "crown_ibp", "loss_fusion", "mtl_ibp"]
    assert re.findall(r"^@\w+\{(\w+),", references.bibliography([]), re.MULTILINE) == ["study"]


def test_the_methods_of_an_experiment_are_read_from_its_configuration() -> None:
    config = {
        "train": {"loss": {"name": "sabr"}, "penalties": [{"name": "fast_ibp", "weight": 0.5}]},
        "ladders": [{"name": "a", "method": "snip"}, {"name": "b", "method": "hydra"}],
    }
    assert references.methods(config) == {"sabr", "fast_ibp", "snip", "hydra"}
    assert references.methods(None) == set()
