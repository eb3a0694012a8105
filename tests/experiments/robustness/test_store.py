"""The directory of a robustness test: plans, jobs, the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from experiments.robustness.jobs import DriveRow, JobResult
from experiments.robustness.recorded_jobs import BlockRow
from experiments.robustness.store import Store, make_table, open_plan, read_table, write_table
from tests.experiments.robustness.made_up_drives import block_rows, drive_rows

PLAN = {
    "format": "x",
    "roads": 4,
    "policies": [{"driver": "ltc", "run": 0, "fingerprint": "aa"}],
    "perturbations": ["fog:1"],
    "world": {"variety": 0.35, "speed_mps": [1.2, 2.0]},
}


def test_cells_come_back_and_broken_ones_count_as_not_done(tmp_path: Path):
    store = Store(tmp_path / "test", PLAN)
    rows = tuple(drive_rows({"ltc": 0.1}, runs=1, conditions=("fog:1",), roads=2))
    kept = [JobResult(f"ltc-0/{name}", rows, 1.5, "aa") for name in ("clean", "fog-1", "rain-2")]
    for result in kept:
        store.save(result)
    (tmp_path / "test/cells/ltc-0/fog-1.json").write_text('{"key": "ltc-0/fog-1", "rows": [')
    (tmp_path / "test/cells/ltc-0/rain-2.json").write_text('{"key": "other", "rows": [], "seconds": 1}')
    found = Store(tmp_path / "test", PLAN).finished({result.key: "aa" for result in kept} | {"ltc-0/never": "aa"})
    assert found == ({"ltc-0/clean": kept[0]}, [])


def test_results_of_other_code_are_stale_and_so_are_those_that_do_not_say(tmp_path: Path):
    store = Store(tmp_path / "test", {**PLAN, "code": {"env": "a"}})
    for key, code in (("ltc-0/clean", "aa"), ("ltc-0/fog-1", "bb"), ("ltc-0/rain-2", "")):
        store.save(JobResult(key, (), 1.0, code))
    again = Store(tmp_path / "test", {**PLAN, "code": {"env": "b"}})  # not refused
    found, stale = again.finished({"ltc-0/clean": "aa", "ltc-0/fog-1": "cc", "ltc-0/rain-2": "cc"})
    assert list(found) == ["ltc-0/clean"] and stale == ["ltc-0/fog-1", "ltc-0/rain-2"]
    assert json.loads((tmp_path / "test/plan.json").read_text())["code"] == {"env": "b"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"roads": 5}, "was begun with roads 4, this command asks for 5"),
        ({"world": {"variety": 0.5, "speed_mps": [1.2, 2.0]}}, "world.variety 0.35, this command asks for 0.5"),
        ({"world": {"variety": 0.35, "speed_mps": [1.2, 2.5]}}, "world.speed_mps 2.0"),
        ({"policies": [{"driver": "ltc", "run": 0, "fingerprint": "bb"}]}, "another policy as run 0 of ltc"),
    ],
)
def test_another_plan_is_refused_and_what_differs_is_named(tmp_path: Path, change: dict[str, object], says: str):
    Store(tmp_path, PLAN)
    with pytest.raises(ValueError, match=says):
        Store(tmp_path, {**PLAN, **change})
    Store(tmp_path, PLAN)


def test_policies_and_perturbations_may_come_and_go(tmp_path: Path):
    Store(tmp_path, PLAN)
    other = {"driver": "lstm", "run": 0, "fingerprint": "cc"}
    Store(tmp_path, {**PLAN, "policies": [other], "perturbations": ["rain:2"]})
    Store(tmp_path, PLAN)
    with pytest.raises(ValueError, match="run 0 of lstm"):
        Store(tmp_path, {**PLAN, "policies": [{**other, "fingerprint": "dd"}]})


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        Store(tmp_path, PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "thesis.txt").rename(tmp_path / "plan.json")
    with pytest.raises(ValueError, match="plan.json should hold JSON and is damaged"):
        open_plan(tmp_path, PLAN)


def test_the_table_keeps_types_and_missing_values(tmp_path: Path):
    pytest.importorskip("pyarrow", reason="the extra robustness is not installed")
    import pyarrow.parquet

    rows = drive_rows({"ltc": 0.1, "feedforward": 0.2}, conditions=("fog:1", "friction:2"))
    rows[0]["training_seed"] = None
    table = make_table(rows, DriveRow)
    write_table(tmp_path / "drives.parquet", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "drives.parquet"), table)
    assert table.training_seed.isna().sum() == 1 and table.training_seed.dtype == "Int64"
    assert table.state_step.isna().sum() == sum(row["state_step"] is None for row in rows) > 0
    schema = pyarrow.parquet.read_schema(tmp_path / "drives.parquet")
    assert schema.names == list(DriveRow.__dataclass_fields__)
    assert str(schema.field("crashed").type) == "bool" and str(schema.field("lane_error").type) == "double"
    blocks = make_table(block_rows({"ltc": 0.1}), BlockRow)
    write_table(tmp_path / "blocks.parquet", blocks)
    pd.testing.assert_frame_equal(read_table(tmp_path / "blocks.parquet"), blocks)
    assert list(make_table([], BlockRow).columns) == list(BlockRow.__dataclass_fields__)


@pytest.mark.parametrize("policies", [[{"run": 0}], [{"driver": "a", "run": [1]}], 3, {"a": 1}])
def test_a_damaged_plan_is_named(tmp_path: Path, policies: object):
    Store(tmp_path, PLAN)
    (tmp_path / "plan.json").write_text(json.dumps({**PLAN, "policies": policies}))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        Store(tmp_path, PLAN)
