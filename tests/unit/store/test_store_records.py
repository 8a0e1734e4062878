import math
import sqlite3
from dataclasses import astuple, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.core.errors import InputError
from certiprune.store import EpochRow, ExampleRow, LayerRow, OutcomeRow, Records, RoundRow
from certiprune.store.records import VERSION
from certiprune.store.rows import TABLES
from certiprune.verify.outcome import Outcome, Reason, Stage, Verdict

# The architecture page's table, which the report and users' own queries rely on.
COLUMNS = {
    "meta": "key value",
    "stages": "name seconds payload",
    "epochs": "ladder round epoch seconds metrics",
    "rounds": "ladder round method kept total kept_all total_all standard_accuracy pgd_accuracy test_images "
    "unstable relus ibp_accuracy crown_accuracy unit parameters multiply_adds file_bytes compact_parameters "
    "compact_multiply_adds compact_file_bytes compact_relus",
    "layers": "ladder round kind position name kept total product rs nrs width width_before",
    "outcomes": "ladder round idx label predicted verdict reason stage lower nodes seconds",
    "examples": "ladder round idx image adversarial",
}
KEYS = {
    "meta": "key",
    "stages": "name",
    "epochs": "ladder round epoch",
    "rounds": "ladder round",
    "layers": "ladder round kind position",
    "outcomes": "ladder round idx",
    "examples": "ladder round idx",
}
ROUND = RoundRow("dense", 0, "dense", 90, 100, 190, 200, 0.9, math.nan, 50, 3.5, 64)
OUTCOME = OutcomeRow("dense", 0, 7, 3, 3, Verdict.CERTIFIED, Reason.NONE, Stage.CROWN, 0.25, 0, 0.01)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.sqlite"


def same(one, other) -> bool:
    """Equality of rows in which NaN equals NaN."""
    return repr(one) == repr(other)


def test_the_tables_are_those_of_the_architecture_page(path):
    Records.open(path).close()
    connection = sqlite3.connect(path)
    for table, columns in COLUMNS.items():
        info = connection.execute(f"PRAGMA table_info({table})").fetchall()
        assert [name for _, name, *_ in info] == columns.split()
        keys = sorted((rank, name) for _, name, _, _, _, rank in info if rank)
        assert [name for _, name in keys] == KEYS[table].split()
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


def test_every_field_of_an_outcome_but_the_counterexample_is_stored():
    stored = {field.name for field in fields(OutcomeRow)} - {"ladder", "round", "idx"}
    assert stored == {field.name for field in fields(Outcome)} - {"index", "counterexample"}
    outcome = Outcome(5, 1, 2, Verdict.UNKNOWN, Reason.TIME, Stage.BRANCHING, -math.inf, 900, 300.5)
    row = OutcomeRow.of("magnitude", 3, outcome)
    expected = ("magnitude", 3, 5, 1, 2, "unknown", "time", "branching", -math.inf, 900, 300.5)
    assert astuple(row) == expected


def test_rows_of_every_table_come_back_equal(path):
    epoch = EpochRow("dense", 0, 1, 2.5, {"loss": 0.1, "eps": math.inf, "accuracy": math.nan})
    layer = LayerRow("dense", 0, "relu", 2, "relu3", 12.5, 64, 0.25, -0.5, math.nan, 1.5)
    with Records.open(path) as records:
        records.add(epoch, ROUND, layer, OUTCOME)
        records.commit_stage("dense/0/train", 4.0, {"epochs": 3})
        records.put_meta({"digest": "ab", "class_names": ["a", "b"], "schema": 1})
    with Records.open(path, read_only=True) as records:
        assert same(records.epochs(), [epoch])
        assert same(records.rounds(), [ROUND])
        assert records.layers() == [layer]
        assert records.outcomes() == [OUTCOME]
        assert isinstance(records.outcomes()[0].verdict, Verdict)
        (stage,) = records.stages()
        assert (stage.name, stage.seconds, stage.payload) == ("dense/0/train", 4.0, {"epochs": 3})
        assert records.meta() == {"digest": "ab", "class_names": ["a", "b"], "schema": 1}


@settings(derandomize=True, deadline=None, max_examples=40)
@given(lower=st.floats(), seconds=st.floats(min_value=0))
def test_any_float_survives_the_round_trip(tmp_path_factory, lower, seconds):
    row = replace(OUTCOME, lower=lower, seconds=seconds)
    with Records.open(tmp_path_factory.getbasetemp() / "floats.sqlite") as records:
        records.add(row)
        (found,) = records.outcomes()
    assert found.lower == lower or (math.isnan(found.lower) and math.isnan(lower))
    assert found.seconds == seconds


def test_images_come_back_bit_for_bit_and_hold_no_pickle(path):
    image = torch.rand(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with Records.open(path) as records:
        records.add(ExampleRow.of("dense", 0, 1, image, -image), ExampleRow.of("dense", 0, 2, image))
        one, two = records.examples("dense", 0)
    assert (one.image.dtype, one.image.shape) == (np.float32, (3, 4, 5))
    assert one.image.tobytes() == image.float().numpy().tobytes()
    assert np.array_equal(one.adversarial, -one.image)
    assert two.adversarial is None
    with Records.open(path) as records, pytest.raises(ValueError, match="Object arrays"):
        records.add(ExampleRow("dense", 0, 3, np.array([{}]), None))


def test_writing_again_replaces(path):
    with Records.open(path) as records:
        for nodes in (1, 2, 2):
            records.add(replace(OUTCOME, nodes=nodes))
        assert [row.nodes for row in records.outcomes()] == [2]
        for epochs in (1, 2):
            records.commit_stage("s", 1.0, {"epochs": epochs})
        assert records.stage("s").payload == {"epochs": 2}


def test_readers_select_and_sort_with_the_dense_network_first(path):
    rows = [replace(OUTCOME, ladder=name, round=r, idx=i) for name in "ba" for r in (10, 2) for i in (3, 1)]
    layers = [LayerRow("a", 1, kind, 0, "n", 1.0, 2) for kind in ("weights", "relu")]
    with Records.open(path) as records:
        records.add(*rows, *layers, OUTCOME, replace(ROUND, ladder="a", round=1), ROUND)
        assert [(row.round, row.idx) for row in records.outcomes("b")] == [(2, 1), (2, 3), (10, 1), (10, 3)]
        assert [row.idx for row in records.outcomes("a", 10)] == [1, 3]
        assert records.outcomes("a", 0) == []
        assert [row.ladder for row in records.rounds()] == ["dense", "a"]
        assert [row.ladder for row in records.outcomes()] == ["dense", *"aaaabbbb"]
        assert [row.kind for row in records.layers("a", 1)] == ["relu", "weights"]
        assert [row.kind for row in records.layers(kind="relu")] == ["relu"]


def test_a_stage_and_its_rows_are_committed_together_or_not_at_all(path):
    broken = replace(OUTCOME, idx=2, verdict="proved")
    with Records.open(path) as records:
        with pytest.raises(ValueError, match="proved"):
            records.commit_stage("dense/0/verify", 1.0, rows=[OUTCOME, broken])
        assert not records.stage_done("dense/0/verify")
        assert records.outcomes() == []
        records.commit_stage("dense/0/verify", 1.0, rows=[OUTCOME])
        assert records.stage_done("dense/0/verify")
        assert records.outcomes() == [OUTCOME]


@pytest.mark.parametrize("change", [{"nodes": 1.5}, {"lower": "low"}, {"seconds": None}, {"idx": None}])
def test_values_of_another_type_are_refused(path, change):
    with Records.open(path) as records:
        with pytest.raises((TypeError, ValueError)):
            records.add(replace(OUTCOME, **change))
        assert records.outcomes() == []


def test_a_reader_cannot_write(path):
    Records.open(path).close()
    with Records.open(path, read_only=True) as records:
        with pytest.raises(InputError, match="cannot be written"):
            records.add(OUTCOME)
        assert records.outcomes() == []


def test_a_reader_sees_what_a_living_writer_has_committed(path):
    with Records.open(path) as writer, Records.open(path, read_only=True) as reader:
        writer.add(OUTCOME)
        assert reader.outcomes() == [OUTCOME]


def test_a_path_with_odd_characters_is_a_path(tmp_path):
    path = tmp_path / "a?b#c %20.sqlite"
    Records.open(path).close()
    assert path.is_file()


def test_files_that_are_no_results_are_explained(tmp_path, path):
    with pytest.raises(InputError, match=r"there are no results at .*; name the folder of a run"):
        Records.open(path, read_only=True)
    path.write_bytes(b"not a database at all" * 100)
    for read_only in (True, False):
        with pytest.raises(InputError, match="no readable results file: file is not a database"):
            Records.open(path, read_only=read_only)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    for read_only in (True, False):
        with pytest.raises(InputError, match="holds no results of certiprune"):
            Records.open(path, read_only=read_only)
    with pytest.raises(InputError, match="cannot open the results"):
        Records.open(tmp_path / "missing" / "results.sqlite")
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(InputError, match="holds no results"):
        Records.open(tmp_path / "empty.sqlite", read_only=True)


@pytest.mark.parametrize("version", [1, 99])
def test_another_schema_version_is_explained(path, version):
    Records.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    for read_only in (True, False):
        with pytest.raises(
            InputError, match=f"schema version {version}, and this certiprune reads {VERSION}"
        ):
            Records.open(path, read_only=read_only)


def test_damage_is_noticed(path):
    with Records.open(path) as records:
        records.add(*(replace(OUTCOME, idx=i) for i in range(2000)))
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 20 * 4096] = bytes(12 * 4096)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|malformed"):
        Records.open(path, read_only=True)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged|malformed"):
        Records.open(path, read_only=True)


def test_values_that_no_writer_of_ours_stores_are_explained(path):
    with Records.open(path) as records:
        records.add(OUTCOME)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE outcomes SET verdict = 'maybe'")
    connection.commit()
    connection.close()
    with (
        Records.open(path, read_only=True) as records,
        pytest.raises(InputError, match="cannot be read: 'maybe'"),
    ):
        records.outcomes()


def test_every_row_type_has_a_table_and_a_key_among_its_fields():
    for row in TABLES:
        assert set(row.key) <= {field.name for field in fields(row)}
        assert COLUMNS[row.table].split() == [field.name for field in fields(row)]
