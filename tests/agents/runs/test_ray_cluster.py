"""Driving on a Ray cluster: the same numbers as here, and nothing is lost when a machine dies."""

from __future__ import annotations

import importlib.util
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.runs.ray_cluster import _pack, _unpack, run_jobs_on_ray
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.robustness.jobs import DriveJob, JobResult, PolicyRun, drive_jobs, fingerprint
from policies.checkpoint import save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra cluster is not installed")


@dataclass(frozen=True)
class Bad:
    """A job that fails."""

    directories: tuple[Path, ...] = ()

    def moved(self, places: object) -> Bad:
        return self


def fail(jobs: Iterable[Any], report: Callable[[Any], None]) -> None:
    raise ValueError("the road is closed.")


@pytest.fixture(scope="module")
def cluster() -> Any:
    """A cluster of two nodes on this machine, and the second node."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra cluster is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        usual: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        nodes = Cluster(initialize_head=True, head_node_args=usual)
        usual.pop("include_dashboard")
        second = nodes.add_node(**usual)
        yield nodes, second
        nodes.shutdown()


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_a_node_dies_midway_and_nothing_is_lost(cluster: Any, tmp_path: Path):
    nodes, second = cluster
    seen = Preprocessing(source_height=24, source_width=48, height=24, width=48)
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=seen)
    save_policy(DrivingPolicy.create(config, seed=1), tmp_path / "policy")
    policy_run = PolicyRun("mine", 0, "gru", 0, tmp_path / "policy", fingerprint(tmp_path / "policy"))
    world = LaneKeepingConfig(vehicle="bicycle", variety=0.2, episode_s=2.0)
    names = ("", "fog:2", "gaussian:3", "friction:4", "jpeg:5", "rain:1", "night:3", "lower_rate:2")
    jobs = [DriveJob(policy_run, name, world, (5, 6)) for name in names]
    here: dict[str, JobResult] = {}
    drive_jobs(iter(jobs), lambda news: here.update({news.key: news}) if isinstance(news, JobResult) else None)

    there: list[JobResult] = []

    def note(news: int | JobResult) -> None:
        if isinstance(news, JobResult):
            there.append(news)
            if len(there) == 2:
                nodes.remove_node(second, allow_graceful=False)

    run_jobs_on_ray(drive_jobs, jobs, nodes.address, note)
    assert sorted(result.key for result in there) == sorted(job.key for job in jobs)
    assert {result.key: result.rows for result in there} == {key: result.rows for key, result in here.items()}


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_what_a_job_raised_is_raised_here(cluster: Any):
    with pytest.raises(ValueError, match="the road is closed"):
        run_jobs_on_ray(fail, [Bad()], cluster[0].address, lambda news: None)


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_no_cluster_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    with pytest.raises(OSError, match="no Ray cluster at 'nonsense'.*ray start --head"):
        run_jobs_on_ray(fail, [Bad()], "nonsense", lambda news: None)


@needs_ray
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_machine_that_does_not_answer_is_told_at_once(scheme: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        begun_s = time.monotonic()
        with pytest.raises(OSError, match=f"no Ray cluster at '{address}'.*ray start --head"):
            run_jobs_on_ray(fail, [Bad()], address, lambda news: None)
    assert time.monotonic() - begun_s < 4.0


def test_directories_travel_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "node"))
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    (policy / "model.safetensors").write_bytes(bytes(range(256)))
    place = _unpack(_pack(policy))
    assert {path.name: path.read_bytes() for path in place.iterdir()} == _pack(policy)
    assert _unpack(_pack(policy)) == place, "unpacked twice"
    (policy / "config.json").write_text("{ }")
    assert _unpack(_pack(policy)) != place
