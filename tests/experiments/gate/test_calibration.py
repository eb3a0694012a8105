"""How often the gate errs: who drives under which draws with which fault, and how gates of known answer are counted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.gate import calibration
from experiments.gate.calibration import OTHER, SELF, Calibration
from experiments.gate.faults import DelayedSteering, ScaledSteering
from experiments.gate.judge import Outcome
from experiments.gate.response import ResponseJob, ResponseRow
from experiments.robustness.jobs import DriveJob, JobResult
from policies.checkpoint import save_policy
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.experiments.robustness.made_up_drives import drive_row

BUDGET, POOL = 5, 8
WEAK, LATE = "gain 0.7", "latency 100 ms"
WORSE = {WEAK: 0.2, LATE: 0.0}
RESPONSES = {SELF: (1.0, 0.0), WEAK: (0.7, 0.0), LATE: (1.0, 0.05)}


@pytest.fixture(scope="module")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Any], list[pd.DataFrame], dict[str, Any]]:
    """The jobs of a calibration whose drives are made up, the drives that its gates looked at, and its figures."""
    place = tmp_path_factory.mktemp("calibration")
    head = HeadConfig(channels=(2,), kernels=(3,), strides=(4,))
    config = PolicyConfig("feedforward", head=head, preprocessing=Preprocessing(8, 16, height=8, width=16))
    policy = save_policy(DrivingPolicy.create(config), place / "mine")
    made: list[Any] = []
    looked: list[pd.DataFrame] = []

    def pretend(jobs: list[Any], store: object, workers: int) -> dict[str, Any]:
        made.extend(jobs)
        return {job.key: tuple(rows_of(job)) for job in jobs}

    def rows_of(job: DriveJob | ResponseJob) -> list[dict[str, Any]]:
        side = job.policy_run.driver
        if isinstance(job, ResponseJob):
            return [asdict(ResponseRow(road, *RESPONSES[side], 80)) for road in job.roads]
        draws = np.random.default_rng(len(side))
        return [
            drive_row(
                side,
                0,
                job.perturbation,
                road,
                lane_error=0.2 + WORSE.get(side, 0.0) + 1e-4 * draws.normal(),
                crashed=0,
            )
            for road in job.roads
        ]

    judge = calibration.judge

    def listen(drives: pd.DataFrame, *more: Any) -> Any:
        looked.append(drives)
        return judge(drives, *more)

    options = Calibration(
        policy, gates=6, faulty=4, perturbations=("gaussian",), budget=BUDGET, pool=POOL, out=place / "out"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "_drive", pretend)
        patch.setattr(calibration, "judge", listen)
        calibration.run(options)
    return made, looked, json.loads((place / "out" / "calibration.json").read_text())["figures"]


def test_each_side_has_its_draws_and_its_fault(calibrated: Any):
    jobs, _, _ = calibrated
    drives = {(job.policy_run.driver, job.perturbation): job for job in jobs if isinstance(job, DriveJob)}
    assert set(drives) == {(side, text) for side in (SELF, OTHER, WEAK, LATE) for text in ("", "gaussian:2")}
    for (side, _), job in drives.items():
        assert job.effect_seeds == ((1,) if side == OTHER else (0,)), "what differs is chance"
        assert job.roads == tuple(range(5_000_000, 5_000_000 + POOL))
    shadows = {job.policy_run.driver: job for job in jobs if isinstance(job, ResponseJob)}
    assert set(shadows) == {SELF, WEAK, LATE} and {job.against.driver for job in shadows.values()} == {"mine"}
    for job in (drives[WEAK, ""], shadows[WEAK]):
        fault = job.wrap(None)
        assert isinstance(fault, ScaledSteering) and fault.gain == np.float32(0.7)
    for job in (drives[LATE, ""], shadows[LATE]):
        fault = job.wrap(None)
        assert isinstance(fault, DelayedSteering) and fault.frames == 2, "0.1 s at 0.05 s a frame"


def test_gates_of_known_answer_are_counted(calibrated: Any):
    _, looked, figures = calibrated
    itself, weak, late = figures["against itself, other draws"], figures[WEAK], figures[LATE]
    assert itself == {"gates": 6, "passed": 6, "failed": 0, "undecided": 0, "mean_roads": 4.0}
    assert weak == {"gates": 4, "passed": 0, "failed": 4, "undecided": 0, "mean_roads": 4.0}
    assert late == {"gates": 4, "passed": 4, "failed": 0, "undecided": 0, "mean_roads": 4.0}
    drawn = [tuple(sorted(drives.road_seed.unique())) for drives in looked]
    assert all(len(roads) == 4 for roads in drawn) and len(set(drawn)) > 5, "each gate draws roads of its own"
    assert [set(drives.driver) for drives in looked] == [{SELF, OTHER}] * 6 + [{WEAK, SELF}] * 4 + [{LATE, SELF}] * 4


def test_a_gate_that_cannot_decide_uses_its_budget(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "judge", lambda *_: [])
    monkeypatch.setattr(calibration, "outcome", lambda checks: Outcome.UNDECIDED)
    table = pd.DataFrame({"driver": [SELF, OTHER] * 2, "road_seed": [1, 1, 2, 2]})
    table = pd.concat([table.assign(road_seed=table.road_seed + 2 * k) for k in range(4)])
    shown = pd.DataFrame({"road_seed": range(1, 9)})
    options = Calibration(Path("p"), budget=BUDGET)
    found = calibration._run_gates(table, shown, [], options, SELF, OTHER, 3, np.random.default_rng(0))
    assert found == {"gates": 3, "passed": 0, "failed": 0, "undecided": 3, "mean_roads": BUDGET}


def test_jobs_that_are_done_are_not_done_again(monkeypatch: pytest.MonkeyPatch):
    class Job:
        code, weight = "code", 5

        def __init__(self, key: str):
            self.key = key

    class Kept:
        saved: list[str] = []

        def finished(self, codes: dict[str, str]) -> tuple[dict[str, JobResult], list[str]]:
            return {"a": JobResult("a", ({"row": 1},), 1.0)}, []

        def save(self, result: JobResult) -> None:
            self.saved.append(result.key)

    def do(work: object, jobs: list[Job], workers: int, note: Any) -> None:
        for job in jobs:
            note(job.weight)
            note(JobResult(job.key, ({"row": 2},), 1.0))

    monkeypatch.setattr(calibration, "run_jobs", do)
    kept: Any = Kept()
    jobs: Any = [Job("a"), Job("b")]
    assert calibration._drive(jobs, kept, 1) == {"a": ({"row": 1},), "b": ({"row": 2},)} and kept.saved == ["b"]
