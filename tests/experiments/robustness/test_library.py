"""The robustness test from Python: any driver, a table, a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.driver_options import DriverOptions
from envs.lane_keeping.config import LaneKeepingConfig
from experiments import robustness
from policies.checkpoint import load_policy

pytest.importorskip("pandas", reason="the extra robustness is not installed")
WORLD = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.2, episode_s=1.0, height=24, width=48)
KINDS = ("gaussian:3", "fgsm:2")


def straight(frame: np.ndarray) -> float:
    """Steer nowhere."""
    return 0.0


def network() -> torch.nn.Module:
    """A network without memory."""
    torch.manual_seed(0)
    pool = torch.nn.AdaptiveAvgPool2d(4)
    return torch.nn.Sequential(pool, torch.nn.Flatten(), torch.nn.Linear(48, 1), torch.nn.Tanh())


class Constant:
    """A driver of the protocol."""

    def act(self, frames: np.ndarray, elapsed: np.ndarray, starts: np.ndarray, envs: object) -> np.ndarray:
        return np.full((len(frames), 1), 0.3, np.float32)


@pytest.mark.parametrize("kind", ["function", "module", "driver", "directory"])
def test_five_lines_test_any_driver(kind: str, trained: Path, tmp_path: Path):
    driver = {"function": straight, "module": network(), "driver": Constant(), "directory": trained}[kind]
    results = robustness.test(driver, perturbations=KINDS, roads=2, world=WORLD, name="mine")
    gradient = kind in ("module", "directory")
    assert results.plan["left_out"] == ([] if gradient else ["fgsm:2"])
    tried = {"", "gaussian:3"} | ({"fgsm:2"} if gradient else set())
    assert set(results.drives.perturbation) == tried and len(results.drives) == 2 * len(tried)
    assert results.drives.driver.unique().tolist() == ["mine"] and results.verdict == results.findings.verdict()
    path = results.report(tmp_path / "page.html")
    assert "Under disturbance" in path.read_text(encoding="utf-8")


def test_the_same_driver_gives_the_same_table():
    first, second = (robustness.test(Constant(), perturbations=KINDS[:1], roads=2, world=WORLD) for _ in range(2))
    assert first.drives.equals(second.drives)
    other = robustness.test(straight, perturbations=KINDS[:1], roads=2, world=WORLD)
    assert not first.drives.lane_error.equals(other.drives.lane_error)


def test_what_is_no_driver_is_refused():
    with pytest.raises(ValueError, match="must be a Driver"):
        robustness.test(3, world=WORLD)


def test_crop_and_gain_count_for_a_policy_in_a_directory_as_for_one_in_memory(trained: Path):
    options = DriverOptions(crop_top=4, steering_gain=0.5)
    given: dict[str, Any] = {
        "perturbations": KINDS[:1],
        "roads": 11,
        "world": replace(WORLD, episode_s=0.3),
        "options": options,
    }
    there = robustness.test(trained, **given)
    here = robustness.test(load_policy(trained), **given)
    plain = robustness.test(load_policy(trained), **{**given, "options": None})
    assert len(here.drives) == 22, "eleven roads are driven in two groups"
    columns = ["road_seed", "perturbation", "lane_error", "steering_rate_per_s"]
    assert there.drives[columns].equals(here.drives[columns])
    assert not here.drives.steering_rate_per_s.equals(plain.drives.steering_rate_per_s)
