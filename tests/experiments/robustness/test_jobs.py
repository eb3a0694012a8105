"""Jobs: what one gives depends on nothing but the job, and its figures mean what they say."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.driving.metrics import Drive
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.robustness.jobs import (
    CLEAN,
    LOST_LANES,
    DriveJob,
    DriveRow,
    JobResult,
    PolicyRun,
    describe,
    drive_jobs,
    fingerprint,
)
from policies.checkpoint import save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

SEEN = Preprocessing(source_height=24, source_width=48, height=24, width=48)
WORLD = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.2, episode_s=2.0, height=24, width=48)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a driver with random weights."""
    path = tmp_path_factory.mktemp("policy") / "policy"
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=SEEN)
    save_policy(DrivingPolicy.create(config, seed=1), path)
    return path


@pytest.fixture(scope="module")
def policy_run(policy: Path) -> PolicyRun:
    return PolicyRun("mine", 2, "gru", 7, policy, fingerprint(policy))


def rows_of(job: DriveJob) -> list[dict[str, object]]:
    return job.run(lambda steps: None)


def test_a_cell_is_the_same_after_another_and_in_another_company(policy_run: PolicyRun):
    fog, rain = (DriveJob(policy_run, name, WORLD, (5, 6)) for name in ("fog:3", "rain:3"))
    alone = rows_of(fog)
    rows_of(rain)
    assert rows_of(fog) == alone
    assert rows_of(pickle.loads(pickle.dumps(fog))) == alone
    # A road is driven the same beside other roads, to the rounding of a batch of another size.
    (single,) = rows_of(replace(fog, roads=(6,)))
    close = {
        key: pytest.approx(value, rel=1e-2) if isinstance(value, float) else value for key, value in single.items()
    }
    assert alone[1] == close


def test_rows_say_who_drove_what_where(policy_run: PolicyRun):
    rows = rows_of(DriveJob(policy_run, "gaussian:2+latency:4", WORLD, (5, 6), (0, 3)))
    assert [(row["effect_seed"], row["road_seed"]) for row in rows] == [(0, 5), (0, 6), (3, 5), (3, 6)]
    for row in rows:
        assert list(row) == list(DriveRow.__dataclass_fields__)
        assert (row["driver"], row["run"], row["core"], row["training_seed"]) == ("mine", 2, "gru", 7)
        assert (row["family"], row["name"], row["severity"]) == ("composition", "gaussian+latency", 4)
    (first, second) = rows[0], rows[2]
    assert first["lane_error"] != second["lane_error"] or first["saliency_ssim"] != second["saliency_ssim"]


def test_a_clean_cell_is_driven_once_and_looks_like_itself(policy_run: PolicyRun):
    rows = rows_of(DriveJob(policy_run, CLEAN, WORLD, (5, 6), (0, 3)))
    assert len(rows) == 2 and {row["effect_seed"] for row in rows} == {0}
    assert {row["saliency_ssim"] for row in rows} == {1.0} and {row["severity"] for row in rows} == {0}


def test_the_time_after_leaving_the_road_counts_as_a_lane(policy_run: PolicyRun):
    expert = PolicyRun("expert", core="expert")
    long = replace(WORLD, episode_s=12.0)
    (wild,) = rows_of(DriveJob(policy_run, CLEAN, long, (5,)))
    assert wild["crashed"], "random weights should leave the road"
    lost = 12.0 - wild["duration_s"]
    expected = (wild["mean_offset_lane"] * wild["duration_s"] + LOST_LANES * lost) / 12.0
    assert wild["lane_error"] == pytest.approx(expected) and wild["lane_error"] > 0.3
    (kept,) = rows_of(DriveJob(expert, CLEAN, replace(WORLD, episode_s=4.0), (5,)))
    assert (
        not kept["crashed"] and kept["lane_error"] == pytest.approx(kept["mean_offset_lane"]) and kept["autonomy"] == 1
    )
    assert kept["state_step"] is None and kept["saliency_ssim"] is None


def test_a_drive_that_ends_early_on_the_road_has_lost_nothing(policy_run: PolicyRun):
    offsets = np.full(40, 0.1)
    drive = Drive(5, "random", 3.0, 2.0, False, 0.5, offsets, np.zeros(40), 0.05)
    job = DriveJob(policy_run, CLEAN, replace(WORLD, episode_s=8.0), (5,))
    kept, lost = (job._row(replace(drive, crashed=crashed), 0, np.nan, np.nan) for crashed in (False, True))
    assert kept.lane_error == pytest.approx(0.2) and lost.lane_error == pytest.approx((0.2 * 2.0 + 6.0) / 8.0)


def test_news_add_up_to_the_weight_and_end_with_the_result(policy_run: PolicyRun):
    jobs = [DriveJob(policy_run, name, WORLD, (5, 6), (0, 1)) for name in (CLEAN, "friction:2", "lower_rate:3")]
    news: list[int | JobResult] = []
    drive_jobs(iter(jobs), news.append)
    results = [one for one in news if isinstance(one, JobResult)]
    assert (
        [one.key for one in results]
        == [job.key for job in jobs]
        == ["mine-2/clean", "mine-2/friction-2", "mine-2/lower_rate-3"]
    )
    assert sum(one for one in news if isinstance(one, int)) == sum(job.weight for job in jobs) == 40 * 2 * 5
    assert isinstance(news[-1], JobResult)


def test_an_attack_is_nothing_to_the_expert():
    job = DriveJob(PolicyRun("expert", core="expert"), "fgsm:5", WORLD, (5,))
    clean = DriveJob(PolicyRun("expert", core="expert"), CLEAN, WORLD, (5,))
    assert rows_of(job)[0]["lane_error"] == rows_of(clean)[0]["lane_error"]


def test_a_fingerprint_changes_with_the_weights(policy: Path, tmp_path: Path):
    other = tmp_path / "other"
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=SEEN)
    save_policy(DrivingPolicy.create(config, seed=2), other)
    assert fingerprint(other) != fingerprint(policy) == fingerprint(policy)


def test_perturbations_are_described():
    assert describe(CLEAN) == ("clean", "clean", 0)
    assert describe("rain:4") == ("weather", "rain", 4)
    assert np.unique([describe(f"night:{severity}")[2] for severity in range(1, 6)]).tolist() == [1, 2, 3, 4, 5]
