"""What a run leaves on disk: its folder, atomic files, and the records that are the truth about results."""

from certiprune.store.commit import atomic, remove, write_bytes, write_text
from certiprune.store.layout import DENSE, RoundLayout, RunLayout, SweepLayout
from certiprune.store.lock import Busy, alone, occupy
from certiprune.store.records import Records
from certiprune.store.rows import EpochRow, ExampleRow, LayerRow, OutcomeRow, RoundRow, Row, StageRow

__all__ = [
    "DENSE",
    "Busy",
    "EpochRow",
    "ExampleRow",
    "LayerRow",
    "OutcomeRow",
    "Records",
    "RoundLayout",
    "RoundRow",
    "Row",
    "RunLayout",
    "StageRow",
    "SweepLayout",
    "alone",
    "atomic",
    "occupy",
    "remove",
    "write_bytes",
    "write_text",
]
