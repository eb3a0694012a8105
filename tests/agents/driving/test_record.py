"""Recording the expert: what is written, by how many processes, and what a stop leaves."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from agents.driving import record as recorder
from agents.driving.expert import Disturbance, DisturbanceConfig, ExpertConfig
from agents.driving.record import RecorderConfig, RecordingProgress, attempt_seed, record, remove_leftovers
from agents.recordings import load_episodes
from agents.recordings.native import episode_directories
from agents.runs.workers import WorkerLost, run_jobs, start_process, worker_context
from envs.lane_keeping.env import LaneKeepingConfig
from envs.road.random_road import RandomRoadConfig
from tests.experiments.verbs import tree

WORLD = LaneKeepingConfig(
    vehicle="bicycle",
    pixels_per_m=24.0,
    variety=0.0,
    episode_s=1.5,
    roads=RandomRoadConfig(length_m=(25.0, 35.0)),
    height=24,
    width=48,
)
FRAMES = RecorderConfig(frames=70, seed=3)


def test_records_exactly_the_frames_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder, "REPORT_EVERY", 20)
    seen: list[RecordingProgress] = []
    result = record(tmp_path / "data", WORLD, FRAMES, on_progress=seen.append)
    episodes = load_episodes(tmp_path / "data")
    assert [len(episode) for episode in episodes] == [30, 30, 10]
    assert [news.frames for news in seen] == [20, 10, 20, 10, 10] and result.frames == 70
    assert result.episodes == 3
    first = episodes[0]
    assert first.frames().shape == (30, 24, 48, 3)
    poses = {"x_m", "y_m", "yaw_rad", "heading_error_rad"}
    assert set(first.extras) == {"lateral_offset_m", "speed_mps", "steered", *poses}
    assert (first.meta.vehicle, first.meta.renderer) == ("bicycle", "warp") and first.meta.nominal_period_s == 0.05
    assert first.meta.extra["car"]["lookahead_s"] == recorder.ExpertConfig().lookahead_s
    assert first.meta.seed == attempt_seed(3, 0) != episodes[1].meta.seed
    np.testing.assert_allclose(np.diff(first.time_s), 0.05, atol=1e-6)


def test_the_number_of_processes_does_not_change_the_data(tmp_path: Path):
    record(tmp_path / "one", WORLD, FRAMES, workers=1)
    record(tmp_path / "two", WORLD, FRAMES, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_pushes_are_drawn_for_each_episode_of_each_seed_and_count_in_the_periods_of_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[tuple[float, float]] = []

    class Noted(Disturbance):
        def __init__(self, config: DisturbanceConfig, period_s: float, generator: np.random.Generator):
            made.append((period_s, copy.deepcopy(generator).random()))
            super().__init__(config, period_s, generator)

    monkeypatch.setattr(recorder, "Disturbance", Noted)
    world = replace(WORLD, period_s=0.04, episode_s=0.4)
    for seed in (0, 1):
        record(tmp_path / str(seed), world, RecorderConfig(frames=20, seed=seed))
    assert len(made) == 4 and {period_s for period_s, _ in made} == {0.04}
    assert len({draw for _, draw in made}) == 4


def test_another_seed_gives_other_data(tmp_path: Path):
    record(tmp_path / "a", WORLD, RecorderConfig(frames=5, seed=0))
    record(tmp_path / "b", WORLD, RecorderConfig(frames=5, seed=1))
    assert not np.array_equal(load_episodes(tmp_path / "a")[0].frames(), load_episodes(tmp_path / "b")[0].frames())


def test_labels_lead_back_to_the_lane(tmp_path: Path):
    """The pushes move the car, and the label steers against the offset that they made."""
    hard = DisturbanceConfig(interval_s=0.5, strength=(0.6, 0.9))
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=20.0, height=8, width=16)
    record(tmp_path / "hard", world, RecorderConfig(frames=400, disturbance=hard))
    still = DisturbanceConfig(strength=(0.0, 0.0), jitter=0.0)
    record(tmp_path / "still", world, RecorderConfig(frames=400, disturbance=still))
    pushed, quiet = load_episodes(tmp_path / "hard")[0], load_episodes(tmp_path / "still")[0]
    offset = pushed.extras["lateral_offset_m"]
    assert np.abs(offset).mean() > 2 * np.abs(quiet.extras["lateral_offset_m"][100:]).mean()
    assert np.corrcoef(offset, pushed.steering - np.median(pushed.steering))[0, 1] < -0.3


def test_the_label_is_what_the_expert_steered_where_the_car_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[tuple[float, ...]] = []
    frames: list[np.ndarray] = []
    steer = recorder.Expert.steer

    def listen(self: Any, env: gymnasium.Env[Any, Any]) -> float:
        inside: Any = env.unwrapped
        state, status = inside.vehicle_state, inside.status()
        where = (state.x, state.y, state.yaw, status["lateral_offset_m"], status["heading_error_rad"])
        said.append((steer(self, env), *where, status["time_s"]))
        frames.append(inside._frame.copy())
        return said[-1][0]

    monkeypatch.setattr(recorder.Expert, "steer", listen)
    pushes = DisturbanceConfig(interval_s=0.2, strength=(0.6, 0.9))
    record(tmp_path / "data", WORLD, RecorderConfig(frames=25, disturbance=pushes))
    (episode,) = load_episodes(tmp_path / "data")
    names = ("x_m", "y_m", "yaw_rad", "lateral_offset_m", "heading_error_rad")
    columns = [episode.steering, *(episode.extras[name] for name in names), episode.time_s]
    np.testing.assert_allclose(np.stack(columns, 1), said[:25], atol=1e-6)
    np.testing.assert_array_equal(episode.frames(), np.stack(frames[:25]))
    assert np.abs(np.diff(episode.extras["x_m"])).min() > 1e-3, "the car moves between two frames"
    pushed = episode.extras["steered"] - episode.steering
    assert np.abs(pushed).max() > 0.1, "the car was told what the expert steered and the push"
    turned = np.diff(np.unwrap(episode.extras["yaw_rad"]))
    assert np.corrcoef(turned[1:], episode.extras["steered"][1:-1])[0, 1] > 0.95


def test_a_push_ends_at_full_lock_and_the_period_is_that_of_the_world(tmp_path: Path):
    world = replace(WORLD, period_s=0.04, episode_s=1.2)
    record(tmp_path / "data", world, RecorderConfig(frames=30))
    (episode,) = load_episodes(tmp_path / "data")
    assert episode.meta.nominal_period_s == 0.04 and episode.meta.extra["recorded_from"] == "expert"
    assert {"lane_width_m", "car"} <= set(episode.meta.extra)
    np.testing.assert_allclose(np.diff(episode.time_s), 0.04, atol=1e-6)

    class Hard:
        def step(self) -> float:
            return self.push

    env, hard = gymnasium.make("wormwheel/LaneKeeping-v0", config=world), Hard()
    env.reset(seed=0)
    driver = recorder._DisturbedExpert(recorder.Expert(), hard)  # type: ignore[arg-type]
    for hard.push, acted in ((5.0, 1.0), (-5.0, -1.0), (0.0, driver.expert.steer(env))):
        assert driver.act(np.zeros(0), np.zeros(0), np.zeros(0), [env]).item() == pytest.approx(acted)
        assert driver.label == pytest.approx(driver.expert.steer(env)), "the push is no label"
    env.close()


def test_a_hard_start_is_driven_again_and_pushed_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pushed as hard as asked for, this drive ends off the road; the start stays in the data."""
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=4.0, height=8, width=16)
    hard = RecorderConfig(frames=80, disturbance=recorder.DisturbanceConfig(interval_s=0.05, jitter=0.9))
    made: list[float] = []
    act = recorder._DisturbedExpert.act

    def note(self: recorder._DisturbedExpert, *seen: Any) -> np.ndarray:
        if not made or made[-1] != self.share:
            made.append(self.share)
        return act(self, *seen)

    monkeypatch.setattr(recorder._DisturbedExpert, "act", note)
    result = record(tmp_path / "data", world, hard)
    assert made == list(recorder.PUSHES[: len(made)]) and len(made) > 1, "weaker and weaker"
    assert result.redrawn == len(made) - 1 and result.frames == 80
    (episode,) = load_episodes(tmp_path / "data")
    assert episode.meta.seed == attempt_seed(0, 0), "the same road and start"


def test_an_episode_that_the_expert_cannot_drive_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steer = recorder.Expert.steer

    looks: list[tuple[int, float]] = []

    def blind(self: recorder.Expert, env: gymnasium.Env[Any, Any]) -> float:
        seed = env.unwrapped.np_random_seed
        if not looks or looks[-1] != (seed, self.config.lookahead_s):
            looks.append((seed, self.config.lookahead_s))
        return 1.0 if seed == attempt_seed(0, 0, attempt=0) else steer(self, env)

    monkeypatch.setattr(recorder.Expert, "steer", blind)
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=10.0, height=8, width=16)
    result = record(tmp_path / "data", world, RecorderConfig(frames=100, expert=ExpertConfig(lookahead_s=0.5)))
    assert result.redrawn == len(recorder.PUSHES) and result.frames == 100
    start, other = attempt_seed(0, 0), attempt_seed(0, 0, attempt=result.redrawn)
    assert looks == [(start, 0.5), (start, recorder.NEAR_S), (other, 0.5)], "nearer the last time, then another start"
    (episode,) = load_episodes(tmp_path / "data")
    assert len(episode) == 100
    assert np.abs(episode.extras["lateral_offset_m"]).max() < 0.5


def test_a_road_that_nobody_can_drive_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder.Expert, "steer", lambda self, env: 1.0)
    monkeypatch.setattr(recorder, "MAX_ATTEMPTS", 2)
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=10.0, height=8, width=16)
    with pytest.raises(ValueError, match="left the road in all of 2 tries"):
        record(tmp_path / "data", world, RecorderConfig(frames=200))
    assert episode_directories(tmp_path / "data") == []


def test_a_recording_goes_on_where_it_stopped(tmp_path: Path):
    record(tmp_path / "whole", WORLD, FRAMES)
    record(tmp_path / "part", WORLD, FRAMES)
    for name in ("episode_000000", "episode_000002"):
        for file in (tmp_path / "part" / name).iterdir():
            file.unlink()
        (tmp_path / "part" / name).rmdir()
    result = record(tmp_path / "part", WORLD, FRAMES)
    assert (result.frames, result.kept_frames) == (70, 30)
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")


def test_only_what_dead_processes_left_is_removed(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f".episode{recorder.PARTIAL}{owner}-x" for owner in (os.getpid(), "somebody", ended.pid)]
    for name in names:
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(names[:2])


def test_a_kill_keeps_what_is_complete(tmp_path: Path):
    """SIGKILL in the middle: whole episodes stay, and recording goes on."""
    process = worker_context().Process(target=record, args=(tmp_path / "data", WORLD, RecorderConfig(frames=6000)))
    process.start()
    try:
        _wait_for(lambda: (tmp_path / "data").is_dir() and len(episode_directories(tmp_path / "data")) >= 2)
    finally:
        process.kill()
        process.join()
    episodes = load_episodes(tmp_path / "data")
    assert len(episodes) >= 2 and not episodes.skipped
    assert all(len(episode) == 30 for episode in episodes)
    more = RecorderConfig(frames=30 * len(episodes) + 10)
    result = record(tmp_path / "data", WORLD, more)
    assert (result.frames, result.kept_frames) == (more.frames, 30 * len(episodes))
    assert result.episodes == len(episodes) + 1
    assert not list((tmp_path / "data").glob(".episode*"))


@pytest.mark.thorough
def test_a_kill_of_a_command_with_workers_keeps_what_is_complete(tmp_path: Path):
    """SIGKILL of the parent in the middle: whole episodes stay, the workers end, and recording goes on."""
    code = (
        "from pathlib import Path; from agents.driving.record import *\n"
        "from tests.agents.driving.test_record import WORLD\n"
        f"if __name__ == '__main__': record(Path({str(tmp_path / 'data')!r}), WORLD, RecorderConfig(frames=60000), 2)"
    )
    script = tmp_path / "go.py"
    script.write_text(code)
    root = str(Path(__file__).resolve().parents[3])
    process = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(lambda: (tmp_path / "data").is_dir() and len(episode_directories(tmp_path / "data")) >= 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _wait_for(lambda: not _still_growing(tmp_path / "data"))
    episodes = load_episodes(tmp_path / "data")
    assert len(episodes) >= 3 and not episodes.skipped
    assert all(len(episode) == 30 for episode in episodes)
    # A killed process cannot clean up; the next recording does.
    (tmp_path / "data" / ".episode.partial-999999999-aa").mkdir()
    remove_leftovers(tmp_path / "data")
    assert not list((tmp_path / "data").glob(".episode*"))


def _still_growing(path: Path) -> bool:
    before = len(episode_directories(path))
    time.sleep(0.7)
    return len(episode_directories(path)) != before


def _wait_for(what: object, limit_s: float = 60.0) -> None:
    started_s = time.monotonic()
    while not what():  # type: ignore[operator]
        assert time.monotonic() - started_s < limit_s, "it did not happen in time"
        time.sleep(0.05)


def _fail(jobs: Iterator[int], report: object) -> None:
    raise ValueError(f"job {next(jobs)} cannot be done")


def _die(jobs: Iterator[int], report: object) -> None:
    os._exit(9)


def _tell(jobs: Iterator[Path], report: object) -> None:
    for job in jobs:
        report((job.name, os.getpid()))  # type: ignore[operator]
        job.touch()


def _wait_for_the_last(jobs: Iterator[Path], report: object) -> None:
    """The first job ends after the last one has begun: only where the others are handed to somebody else."""
    for job in jobs:
        if job.name == "0":
            patience_s = time.monotonic() + 30
            while not job.with_name("4").exists() and time.monotonic() < patience_s:
                time.sleep(0.01)
            report((job.with_name("4").exists(), os.getpid()))  # type: ignore[operator]
        job.touch()


def test_jobs_are_done_once_and_in_other_processes(tmp_path):
    for workers in (1, 2):
        news: list[tuple[str, int]] = []
        run_jobs(_tell, [tmp_path / str(number) for number in range(5)], workers, news.append)
        assert sorted(job for job, _ in news) == ["0", "1", "2", "3", "4"]
        assert (os.getpid() in {process for _, process in news}) == (workers == 1)


def test_a_long_job_holds_nobody_up(tmp_path):
    news: list[tuple[bool, int]] = []
    run_jobs(_wait_for_the_last, [tmp_path / str(number) for number in range(5)], 2, news.append)
    assert [others_done for others_done, _ in news] == [True]


def test_an_error_in_a_worker_is_raised_here():
    with pytest.raises(ValueError, match="job 0|job 1") as caught:
        run_jobs(_fail, [0, 1], 2, print)
    assert "_fail" in str(caught.value.__cause__)


def test_a_killed_worker_is_an_error():
    with pytest.raises(WorkerLost, match="memory ran out"):
        run_jobs(_die, [0, 1], 2, print)


def test_a_killed_server_of_workers_is_an_error():
    class Process:
        def start(self) -> None:
            raise EOFError("unexpected EOF")  # as multiprocessing's forkserver does

    with pytest.raises(WorkerLost, match="killed from outside"):
        start_process(Process())  # type: ignore[arg-type]


def test_no_jobs_is_no_work():
    run_jobs(_die, [], 2, print)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        run_jobs(_die, [0], 0, print)
