"""Driving on a Ray cluster: the same numbers as here, and nothing is lost when a machine dies.

Starting a cluster and waiting until it misses a node takes minutes, so those tests are thorough ones. The others hold
what is ours of it to a stand-in for Ray: it pickles what it is given, does tasks in another order, and repeats a task
whose node died as often as it was asked to.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.runs import ray_cluster
from agents.runs.ray_cluster import RETRIES, _pack, _unpack, run_jobs_on_ray
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


def tell(jobs: Iterable[Any], report: Callable[[Any], None]) -> None:
    report("done")


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


def make_jobs(policy: Path, names: Iterable[str], episode_s: float) -> tuple[list[DriveJob], dict[str, JobResult]]:
    """Jobs of one small driver under perturbations, and what they give when they are done here."""
    seen = Preprocessing(source_height=24, source_width=48, height=24, width=48)
    config = PolicyConfig(core="gru", core_options={"hidden_size": 8}, preprocessing=seen)
    save_policy(DrivingPolicy.create(config, seed=1), policy)
    policy_run = PolicyRun("mine", 0, "gru", 0, policy, fingerprint(policy))
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.2, episode_s=episode_s)
    jobs = [DriveJob(policy_run, name, world, (5, 6)) for name in names]
    here: dict[str, JobResult] = {}
    drive_jobs(iter(jobs), lambda news: here.update({news.key: news}) if isinstance(news, JobResult) else None)
    return jobs, here


class RayError(Exception):
    """What Ray raises of its own."""


class RayTaskError(RayError):
    """What Ray raises for a task that raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(eq=False)
class Reference:
    """What stands in for an object of the store (`content`), or for a task."""

    content: bytes = b""
    task: Callable[[], Any] = lambda: None


@dataclass
class StandIn:
    """The part of Ray that is used, in this process."""

    dying: int = 0
    """How many nodes die, each under the task that it does first."""
    stored: list[Reference] = field(default_factory=list)
    cancelled: list[Reference] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError))

    def init(self, address: str, **_: Any) -> None:
        self.joined.append(address)

    def shutdown(self) -> None:
        self.joined.pop()

    def put(self, value: Any) -> Reference:
        self.stored.append(Reference(pickle.dumps(value)))
        return self.stored[-1]

    def remote(self, function: Callable[..., Any]) -> Any:
        def options(num_cpus: int, max_retries: int) -> Any:
            return SimpleNamespace(remote=lambda *given: Reference(task=lambda: self._do(function, given, max_retries)))

        return SimpleNamespace(options=options)

    def _do(self, function: Callable[..., Any], given: tuple[Any, ...], retries: int) -> Any:
        arguments = [pickle.loads(x.content if isinstance(x, Reference) else pickle.dumps(x)) for x in given]
        try:
            done = function(*arguments)
        except Exception as error:
            raise RayTaskError(error) from error
        if self.dying:
            self.dying -= 1
            if not retries:
                raise RayError("the node died\nits last words")
            return self._do(function, given, retries - 1)
        return pickle.loads(pickle.dumps(done))

    def wait(self, waiting: list[Reference], num_returns: int) -> tuple[list[Reference], list[Reference]]:
        return waiting[-num_returns:], waiting[:-num_returns]

    def get(self, reference: Reference) -> Any:
        return reference.task()

    def cancel(self, reference: Reference, force: bool) -> None:
        self.cancelled.append(reference)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A stand-in for the package, and an empty place for the policies that travel."""
    made = StandIn()
    monkeypatch.setitem(sys.modules, "ray", made)  # type: ignore[arg-type]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "node"))
    return made


def test_nothing_is_lost_with_a_node(ray: StandIn, tmp_path: Path):
    jobs, here = make_jobs(tmp_path / "policy", ("", "lower_rate:2"), 0.3)
    there: list[JobResult] = []
    ray.dying = 1
    run_jobs_on_ray(drive_jobs, jobs, "auto", lambda news: there.append(news) if isinstance(news, JobResult) else None)
    assert [result.key for result in there] == [job.key for job in jobs[::-1]]
    assert {result.key: result.rows for result in there} == {key: result.rows for key, result in here.items()}
    assert len(ray.stored) == 1, "a directory travels once, however many jobs read it"
    assert [path.name for path in tmp_path.glob("node/**/model.safetensors")], "what was driven came from the store"
    assert not ray.dying and not ray.joined and not ray.cancelled


def test_a_job_is_given_up_with_one_node_too_many(ray: StandIn):
    ray.dying = RETRIES
    run_jobs_on_ray(tell, [Bad()], "auto", print)
    ray.dying = RETRIES + 1
    with pytest.raises(OSError, match="^the Ray cluster gave a job up: the node died. What was complete is kept"):
        run_jobs_on_ray(tell, [Bad(), Bad()], "auto", print)
    assert len(ray.cancelled) == 1 and not ray.joined


def test_an_error_of_a_job_ends_the_others(ray: StandIn):
    with pytest.raises(ValueError, match="the road is closed"):
        run_jobs_on_ray(fail, [Bad(), Bad(), Bad()], "auto", print)
    assert len(ray.cancelled) == 2 and not ray.joined


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=f"needs Ray.*{re.escape(ray_cluster.EXTRA)}"):
        run_jobs_on_ray(fail, [Bad()], "auto", print)


@needs_ray
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_a_node_dies_midway_and_nothing_is_lost(cluster: Any, tmp_path: Path):
    nodes, second = cluster
    names = ("", "fog:2", "gaussian:3", "friction:4", "jpeg:5", "rain:1", "night:3", "lower_rate:2")
    jobs, here = make_jobs(tmp_path / "policy", names, 2.0)
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
@pytest.mark.thorough
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
