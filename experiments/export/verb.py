"""`wormwheel export`: a policy leaves for a car.

    wormwheel export --policy runs/mine --out car                 # driver.onnx, driver.py, README.md
    wormwheel export --policy runs/mine --out car --numpy         # also what drives without onnxruntime
    wormwheel export --policy runs/mine --out car --int8 --data tub

What is written is driven beside the policy before the verb ends: the steering must be the same to 1e-5 over
`--check-frames` frames with irregular times and fresh starts, else it is an error. With `--int8` the difference is
reported instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.driver import PolicyDriver, RescaledTime
from agents.driving.rollout import Step, rollout
from agents.recordings import load_episodes
from agents.recordings.options import ReadOptions
from agents.runs.ours import check_ours
from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import check_json, check_place, say, table, write_results
from experiments.policy_paths import find_policy
from policies.checkpoint import load_policy
from policies.export.car import FILES, write_car
from policies.export.parity import TOLERANCE, Parity, measure_parity
from policies.policy import DrivingPolicy

INT8_FRAMES = 200
"""Frames from which the ranges of the int8 head are taken."""


@dataclass(frozen=True, config={"extra": "forbid"})
class ExportOptions:
    """Write a folder that drives a car without torch: the policy as ONNX, and one Python file."""

    policy: Path
    """The policy: its directory, or a run directory that holds one."""
    out: Path = Path("car")
    """Folder to write; files of an earlier export are replaced."""
    numpy: bool = False
    """Write driver.npz too: the same policy for NumPy alone, where onnxruntime does not install."""
    int8: bool = False
    """Compute the conv head in int8; the circuit stays float. How far the steering moves is reported."""
    data: tuple[Path, ...] = field(default_factory=tuple)
    """Recordings from which --int8 takes its ranges; without any, the policy drives LaneKeeping for them."""
    recording: ReadOptions = ReadOptions()
    """How the recordings are read."""
    ros2: bool = False
    """Add the example of a ROS 2 node."""
    check_frames: Annotated[int, Field(gt=0, le=10_000_000)] = 1000
    """Frames over which the export is compared with the policy."""
    json: Path | None = None
    """File for the figures, as JSON."""

    def __post_init__(self) -> None:
        """Check that nothing is asked for in vain."""
        if not self.data and self.recording != ReadOptions():
            raise ValueError("--recording.… say how recordings are read: give --data, or leave them out.")
        if self.data and not self.int8:
            raise ValueError("--data gives frames for --int8: give both, or leave --data out.")


def run(options: ExportOptions) -> None:
    """Export, compare, and say what was written."""
    check_json(options.json)
    path = find_policy(options.policy)
    policy = load_policy(path)
    check_ours(*(options.out / name for name in FILES))
    check_place(options.out)
    out = options.out
    frames = int8_frames(policy, options.data, options.recording) if options.int8 else None
    say(f"exporting a policy with the core {policy.config.core}; the first export of a process takes some seconds")
    write_car(policy, out, options.numpy, frames, options.ros2, notes={"policy": path.resolve().parent.name})
    found = measure_parity(policy, out, options.check_frames)
    show(found, options.int8)
    write_results(options.json, "export", options, {"parity": found})
    worst = max(one.motors for one in found.values())
    if not options.int8 and not worst <= TOLERANCE:
        raise ValueError(
            f"the export in {out} steers up to {worst:.1e} away from the policy, more than {TOLERANCE:g}: do not drive "
            "with it. Please report the policy's config.json."
        )
    say(f"written: {out} ({', '.join(sorted(name for name in FILES if (out / name).is_file()))})")


def show(found: dict[str, Parity], int8: bool) -> None:
    """Print how far each engine is from the policy."""
    frames = next(iter(found.values())).frames
    rows = [[name, f"{one.motors:.1e}", f"{one.mean:.1e}", f"{one.state:.1e}"] for name, one in found.items()]
    what = "with the head in int8, " if int8 else ""
    columns = ["engine", "largest difference of the steering", "mean", "largest of the state, relative"]
    table(f"{what}against the policy in torch over {frames:,} frames", columns, rows)


def int8_frames(policy: DrivingPolicy, data: Sequence[Path], reading: ReadOptions | None = None) -> NDArray[np.uint8]:
    """Return uint8 `[n, h, w, 3]` frames as the head sees them, evenly from recordings or from a drive.

    Raises:
        ValueError: if the recordings' frames have another size than the policy's camera.
    """
    fit = policy.config.preprocessing
    if data:
        episodes = load_episodes(list(data), options=reading)
        share = max(1, len(episodes))
        taken = []
        for episode in episodes:
            picks = np.linspace(0, len(episode) - 1, min(len(episode), -(-INT8_FRAMES // share))).astype(int)
            taken += [episode.frames(int(pick), int(pick) + 1)[0] for pick in picks]
        seen = np.stack(taken)
    else:
        seen = _drive(policy)
    return fit(torch.from_numpy(seen)).numpy()


def _drive(policy: DrivingPolicy) -> NDArray[np.uint8]:
    """Return what the policy sees on four roads, every few steps."""
    fit = policy.config.preprocessing
    world = LaneKeepingConfig(
        height=fit.source_height,
        width=fit.source_width,
        episode_s=25.0,
        vehicle="bicycle",
        throttle=policy.config.motors == 2,
    )
    driver = RescaledTime(PolicyDriver(policy), world.period_s / policy.config.nominal_period_s)
    seen: list[NDArray[np.uint8]] = []
    count = 0

    def look(step: Step) -> None:
        nonlocal count
        if count % 10 == 0:
            seen.append(step.frame.copy())
        count += 1

    def make_env(slot: int) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(LANE_KEEPING, config=world, disable_env_checker=True)

    rollout(driver, make_env, range(500, 504), observer=look)
    return np.stack(seen)
