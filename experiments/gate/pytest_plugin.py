"""A fixture for tests of a policy: `drive`.

    # test_driver.py
    def test_it_keeps_the_lane_in_fog(drive):
        for road in range(3):
            result = drive("fog:2", road=road)
            assert not result.crashed and result.lane_error < 0.15

    pytest --wormwheel-policy runs/new test_driver.py

Where Wormwheel is installed the plugin is there by itself; `-p experiments.gate.pytest_plugin` loads it elsewhere.
A test that asks for `drive` is skipped without `--wormwheel-policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from envs.lane_keeping.config import LaneKeepingConfig
    from experiments.robustness.jobs import DriveRow

OPTION = "--wormwheel-policy"
DriveFixture = Callable[..., "DriveRow"]
"""`drive(perturbation="", road=1000, seconds=10.0, draw=0, world=None) → DriveRow`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("wormwheel", "driving policies")
    group.addoption(
        OPTION,
        metavar="DRIVER",
        help="policy or run directory, or file.py:factory, that the fixture `drive` lets drive",
    )


@pytest.fixture(scope="session")
def wormwheel_policy(request: pytest.FixtureRequest) -> Path:
    """The driver that was given; skips the test when none was."""
    given = request.config.getoption(OPTION)
    if given is None:
        pytest.skip(f"give {OPTION} with a policy or run directory, or file.py:factory")
    return Path(given)


@pytest.fixture(scope="session")
def drive(wormwheel_policy: Path) -> DriveFixture:
    """Drive the policy on one road; see `DriveFixture`.

    What it returns has the columns of the robustness table: `crashed`, `lane_error`, `autonomy`, `duration_s`, … The
    command that films the same drive is printed, so pytest shows it with a test that fails.
    """
    from envs.lane_keeping.config import LaneKeepingConfig
    from experiments.robustness.drivers import find_policy_runs
    from experiments.robustness.films import replay_command
    from experiments.robustness.findings import Condition, Failure
    from experiments.robustness.jobs import DriveJob, DriveRow
    from experiments.robustness.verb import choose_world

    (policy_run,) = find_policy_runs([str(wormwheel_policy)])

    def one(
        perturbation: str = "",
        road: int = 1000,
        seconds: float = 10.0,
        draw: int = 0,
        world: LaneKeepingConfig | None = None,
    ) -> DriveRow:
        """Drive once.

        Args:
            perturbation: such as "fog:3" or "rain:2+latency:1"; "" is clean.
            road: seed of the road, the look and the start.
            seconds: length of the drive.
            draw: seed of the perturbation.
            world: where; LaneKeeping's defaults when None.
        """
        where = choose_world(replace(world or LaneKeepingConfig(), episode_s=seconds))
        job = DriveJob(policy_run, perturbation, where, (road,), (draw,), inside=False)
        (row,) = job.run(lambda steps: None)
        values: dict[str, Any] = row
        result = DriveRow(**values)
        assert policy_run.source is not None
        failure = Failure(policy_run.driver, 0, Condition.of(perturbation), road, draw, result.duration_s)
        command = replay_command(policy_run.source, failure, where, seconds, "drive.mp4")
        lost = f"off the road after {result.duration_s:.1f} s, " if result.crashed else ""
        print(f"{perturbation or 'clean'} on road {road}: {lost}lane error {result.lane_error:.3f}; {command}")
        return result

    return one
