"""Jobs of a robustness test on recorded driving: the same perturbations, open loop.

The recorded car does not react, so only what changes frames or times can be tested; the error of the steering stands
beside what the same perturbation does on the road. Rows are blocks of frames, the unit that intervals resample.

    RecordedJob(policy_run, "fog:3", RecordedData((Path("tub"),)), preprocessing)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.driving.driver import Driver, OpenedDriver, PolicyDriver
from agents.driving.open_driver import open_driver
from agents.driving.open_loop import respond
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.fingerprint import changes, fingerprint
from agents.recordings.options import ReadOptions
from agents.recordings.splits import split_by_time_block
from experiments.robustness.jobs import ConditionRow, PolicyRun, condition_columns
from experiments.robustness.provenance import fingerprint_code
from policies.preprocessing import Preprocessing

BLOCK = 50
"""Recorded frames in a block; neighbouring frames are not independent."""


@dataclass(frozen=True)
class RecordedData:
    """Which recordings."""

    paths: tuple[Path, ...]
    """Data sets, Donkeycar tubs, Udacity logs, …"""
    last: float = 1.0
    """Share of each recording's time that counts, from its end."""
    nominal_period_s: float | None = None
    """Time between frames where time stamps are unusable, s."""
    recording: ReadOptions = ReadOptions()
    """How they are read."""

    def load(self) -> EpisodeSet:
        """Read them, once in a process as long as their files do not change."""
        return _load(self, changes(self.paths))

    def code(self) -> str:
        """Return a few letters that change when the recordings do."""
        return _code(self, changes(self.paths))


@dataclass(frozen=True)
class BlockRow(ConditionRow):
    """Some frames of a recording: a row of the results on recordings."""

    source: str
    """What the episode was read from."""
    episode: int
    """Number of the episode."""
    block: int
    """Number of the block of `BLOCK` recorded frames in the episode."""
    effect_seed: int
    """Seed of the perturbation; 0 for clean."""
    frames: int
    """Frames that the driver was shown of the block."""
    squared_error: float
    """Sum of the squared errors of the steering, full locks."""
    absolute_error: float
    """Sum of the absolute errors."""
    squared_target: float
    """Sum of the squared deviations of the recorded steering from its mean over all recordings."""


@dataclass(frozen=True)
class RecordedJob:
    """One training run under one perturbation on all recordings."""

    policy_run: PolicyRun
    """Who drives; must be a policy."""
    perturbation: str
    """In the registry's syntax; "" is clean."""
    data: RecordedData
    """The recordings."""
    preprocessing: Preprocessing | None
    """How their frames fit the policy; None for drivers of others, whose options say it."""
    effect_seeds: tuple[int, ...] = (0,)
    """Seeds of the perturbation; a clean job is done once."""
    steering_gain: float = 1.0
    """What the policy's steering is multiplied with; drivers of others have it in their options."""

    @property
    def key(self) -> str:
        """Short name that no other job has; fit for a file."""
        return f"{self.policy_run.key}/recorded-{self.perturbation.replace(':', '-') or 'clean'}"

    @property
    def code(self) -> str:
        """What it is made by and on, and how the frames were fitted; see `experiments.robustness.provenance`."""
        fitted = "" if self.preprocessing is None else repr((self.preprocessing, self.steering_gain))
        return f"{fingerprint_code(self.perturbation)}-{self.data.code()}-{zlib.crc32(fitted.encode()):08x}"

    @property
    def weight(self) -> int:
        """Frames that it takes at most; its news of frames add up to it."""
        return self.data.load().frame_count * len(self._seeds)

    @property
    def _seeds(self) -> tuple[int, ...]:
        return self.effect_seeds if self.perturbation else (0,)

    @property
    def directories(self) -> tuple[Path, ...]:
        """What it reads that must travel with it to another machine."""
        return () if self.policy_run.policy is None else (self.policy_run.policy,)

    def moved(self, places: Mapping[Path, Path]) -> RecordedJob:
        """Return the same job with its directories at other places."""
        policy = self.policy_run.policy
        return self if policy is None else replace(self, policy_run=replace(self.policy_run, policy=places[policy]))

    def run(self, report: Callable[[int], None]) -> list[dict[str, Any]]:
        """Steer; rows of the results, by effect seed, episode and block."""
        episodes = self.data.load()
        if self.policy_run.policy is not None:
            policy = self.policy_run.opened()
            driver: OpenedDriver = PolicyDriver(policy, self.preprocessing, self.steering_gain)
        else:
            assert self.policy_run.foreign is not None
            driver = open_driver(self.policy_run.foreign, camera=episodes.frame_size)
        if driver.period_s is not None:
            episodes = episodes.with_nominal_period(driver.period_s)
        mean = float(np.concatenate([episode.steering for episode in episodes]).mean())
        return [
            asdict(row)
            for effect_seed in self._seeds
            for row in self._rows(driver, episodes, effect_seed, mean, report)
        ]

    def _rows(
        self, driver: Driver, episodes: EpisodeSet, effect_seed: int, mean: float, report: Callable[[int], None]
    ) -> list[BlockRow]:
        """Steer through all episodes; rows by episode and block."""
        # For each episode and block: frames, squared error, absolute error, squared target.
        sums = [np.zeros((-(-len(episode) // BLOCK), 4)) for episode in episodes]
        for response in respond(driver, episodes, self.perturbation, seed=effect_seed, on_frames=report):
            recorded = response.recorded.astype(np.float64)
            error = response.steering.astype(np.float64) - recorded
            spread = np.square(recorded - response.sign * mean)
            values = np.stack([np.ones_like(error), error**2, np.abs(error), spread], axis=1)
            np.add.at(sums[response.episode], response.index // BLOCK, values)
        columns = condition_columns(self.policy_run, self.perturbation)
        return [
            BlockRow(
                **columns,
                source=episodes[number].meta.source,
                episode=number,
                block=block,
                effect_seed=effect_seed,
                frames=int(count),
                squared_error=float(squared),
                absolute_error=float(absolute),
                squared_target=float(spread),
            )
            for number, blocks in enumerate(sums)
            for block, (count, squared, absolute, spread) in enumerate(blocks)
        ]


@lru_cache(maxsize=2)
def _code(data: RecordedData, state: str) -> str:
    return fingerprint(_load(data, state))


@lru_cache(maxsize=2)
def _load(data: RecordedData, state: str) -> EpisodeSet:
    episodes = load_episodes(data.paths, data.nominal_period_s, options=data.recording, to_test_on=True)
    if data.last < 1:
        _, episodes = split_by_time_block(episodes, data.last, gap_s=0.0)
    return episodes
