"""Learning on the job: a deployed driver keeps learning from interventions, in a world that has shifted.

A person sits beside the driver, takes the wheel where it strays, and gives it back when the car is in its lane again
(here, the expert). What the person steers is all that is learnt from; the second before only warms the circuit up.
Every update also replays driving from before the shift, against forgetting. Two rules:

- "batch": windows of interventions and of the old driving, backpropagation through time; for any core.
- "online": real-time recurrent learning (`agents.imitation.rtrl`), each frame once, in its order; for small circuits.

Before either, smaller steps are tried. First a correction (`agents.imitation.correct`): the view of the camera and the
gain on the steering with which the driver steers most like the person did, and a sign by which it tells that world from
the old one, where it goes on driving exactly as before. A few interventions are enough for a few numbers, where
thousands of weights learn their accidents. Where no correction is taken, the one gain that is best in both worlds.

An update is taken only if a paired suite, the same roads with the old weights and with the new, does not show it to be
worse: the upper end of the interval of the difference in lane error must lie within a margin, in the shifted world and
in the old one.

    adaptation = Adaptation(policy, LaneKeepingConfig(vehicle="bicycle"), Shift(steering_gain=0.6), old, AdaptConfig())
    for update in adaptation.run("runs/adapt/data"):
        print(update.accepted, update.interventions.per_km)
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from agents.driving.adapted.driver import AdaptedDriver, Correction
from agents.driving.driver import Driver, PolicyDriver
from agents.driving.metrics import Drive, Estimate
from agents.driving.recorded_world import World
from agents.driving.rollout import drive_episodes, rollout
from agents.driving.statistics import paired_difference
from agents.imitation.correct import GAINS, LEAST_GAIN, STEERING, find_corrections
from agents.imitation.dagger import SIDE_BY_SIDE, DaggerConfig, Interventions, MixedDriver, collect
from agents.imitation.rtrl import RealTimeRecurrentLearning
from agents.imitation.shift import Shift, ShiftedExpert, shifted_env
from agents.imitation.stretch import Stretch
from agents.recordings import load_episodes
from agents.recordings.episodes import Episode, EpisodeSet
from policies.policy import DrivingPolicy

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Many = Annotated[int, Field(ge=1, le=1_000_000)]
LOST = 1.0
"""Lane error that counts for the time after a crash, lane widths."""


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class AdaptConfig:
    """How a driver keeps learning."""

    updates: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Updates that are tried, each after some driving."""
    episodes: Many = 6
    """Episodes that are driven before each update."""
    correct: bool = True
    """Try corrections first: a view of the camera and a gain, used only where the driver sees that the world is the
    shifted one; other steps follow where none is taken."""
    gain: bool = True
    """Then try a gain on the output for both worlds, by least squares over the interventions and the old driving,
    before weights are learnt."""
    rule: Literal["batch", "online"] = "batch"
    """"batch": windows and backpropagation through time; "online": real-time recurrent learning, for small circuits."""
    steps: Many = 80
    """Gradient steps of a batch update."""
    windows: Many = 8
    """Windows of interventions in a batch, and as many of replay."""
    window: Annotated[int, Field(ge=2)] = 20
    """Frames in a window."""
    warm_up: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Frames before an intervention, or at the head of a replayed window, that warm the state up and are not learnt."""
    learning_rate: Positive = 3e-3
    """Of the core."""
    head_learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2e-4
    """Of the conv head, in batch updates; 0 leaves it as it is."""
    online_rate: Positive = 5e-4
    """Of the core, in online updates."""
    replay_weight: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Weight of the old driving in the loss."""
    suite_roads: Annotated[int, Field(ge=3, le=1_000_000)] = 6
    """Roads of the paired suite, in each world."""
    margin: Positive = 0.02
    """Lane error, in lane widths, by which an update may be worse at most, at the upper end of the interval."""
    measure_roads: Many = 10
    """Roads on which interventions are counted before and after."""
    bound: Annotated[float, Field(gt=0, le=2)] = 0.3
    """Offset, as a share of the lane width, past which the person takes over."""
    back: Annotated[float, Field(gt=0, le=2)] = 0.1
    """Offset within which the wheel is given back."""
    hold_s: Positive = 2.0
    """Time for which the person keeps the wheel at least in the driving that is learnt from, seconds: how to come back,
    and how to go on. Where interventions are counted it is given back as soon as possible."""
    seed: NonNegativeInt = 0
    """Seed of roads and draws."""

    def __post_init__(self) -> None:
        """Check that a window holds something to learn from."""
        if self.warm_up >= self.window:
            raise ValueError(f"warm_up must be less than window = {self.window}, got {self.warm_up}.")
        unused = (
            ("online_rate",) if self.rule == "batch" else ("steps", "windows", "learning_rate", "head_learning_rate")
        )
        if said := [name for name in unused if getattr(self, name) != getattr(type(self), name)]:
            raise ValueError(f"{', '.join(said)}: nothing of the kind is used by the rule {self.rule!r}; leave it out.")

    @property
    def bounds(self) -> DaggerConfig:
        """The bounds of the person beside the driver."""
        return DaggerConfig(bound=self.bound, back=self.back, decay=0.0)


@dataclass(frozen=True)
class Update:
    """One try to become better."""

    number: int
    """From 1."""
    interventions: Interventions
    """Of the driving before it."""
    frames: int
    """Frames of interventions so far, that were learnt from."""
    shifted: Estimate
    """Lane error after minus before, in the shifted world; paired."""
    old: Estimate
    """The same in the old world."""
    accepted: bool
    """Whether it was taken."""
    step: str = ""
    """What was tried last: "gain 1.35" or the rule."""


class Adaptation:
    """A deployed driver, the world it drives in, and what it has met."""

    def __init__(
        self,
        policy: DrivingPolicy,
        world: World,
        shift: Shift,
        old: EpisodeSet,
        config: AdaptConfig,
        corrections: Sequence[Correction] = (),
    ):
        """Deploy a driver.

        Args:
            policy: who drives; a copy of it learns.
            world: where it learnt; an episode lasts `episode_s`.
            shift: what has changed.
            old: driving from before, to be replayed; frames of the policy's own size.
            config: how it learns.
            corrections: for other worlds, that it has already.

        Raises:
            ValueError: if the old driving has frames of another size.
        """
        fit = policy.config.preprocessing
        if old.frame_size not in ((fit.source_height, fit.source_width), (fit.height, fit.width)):
            raise ValueError(
                f"the driving to replay has frames of {old.frame_size}, the policy takes "
                f"{(fit.source_height, fit.source_width)}: replay what it learnt from."
            )
        self.policy = copy.deepcopy(policy).eval()
        self.world = replace(world, height=fit.source_height, width=fit.source_width)
        self.shift, self.config = shift, config
        self._draws = np.random.default_rng([config.seed, 11])
        self.replayed = [self._stretch(episode, np.ones(len(episode), bool)) for episode in old]
        self.met: list[Stretch] = []
        self.driven: list[Stretch] = []
        self._given = tuple(corrections)
        self.corrections = self._given

    def driver(self) -> Driver:
        """Return the driver as it is now."""
        return _driver(self.policy, self.corrections)

    def measure(self, shift: Shift, first_seed: int) -> Interventions:
        """Count interventions of the driver as it is now, on roads of their own."""
        config = self.config
        mixed = MixedDriver(self.driver(), ShiftedExpert(shift), config.bounds, 0.0)
        length = max(1, round(self.world.episode_s / self.world.period_s))
        longer = replace(self.world, episode_s=4 * self.world.episode_s)
        count = min(SIDE_BY_SIDE, config.measure_roads)
        envs = [TimeLimit(shifted_env(longer, shift), length) for _ in range(count)]

        def note(step: Any) -> None:
            mixed.interventions.crashes += bool(step.ended and step.info["crashed"])

        try:
            drive_episodes(mixed, envs, range(first_seed, first_seed + config.measure_roads), observer=note)
        finally:
            for env in envs:
                env.close()
        return mixed.interventions

    def run(self, directory: str | os.PathLike[str]) -> Iterator[Update]:
        """Drive, learn, and drive on.

        Args:
            directory: of the data set with what was met; made when absent.

        Yields:
            Every update that was tried.
        """
        config = self.config
        for number in range(1, config.updates + 1):
            numbers = range((number - 1) * config.episodes, number * config.episodes)
            met = self._drive(directory, list(numbers), number)
            frames = sum(int(stretch.counts.sum()) for stretch in self.met)
            accepted, step = False, "nothing to learn from"
            shifted = old = Estimate(0.0)
            before = self._errors(self.driver(), number) if self.met else []
            for name, policy, corrections in self._candidates():
                step = name
                shifted, old = self._compare(_driver(policy, corrections), before, number)
                accepted = is_not_worse(shifted, config.margin) and is_not_worse(old, config.margin)
                if accepted:
                    self.policy, self.corrections = policy, corrections
                    break
            yield Update(number, met, frames, shifted, old, accepted, step)

    def _candidates(self) -> Iterator[tuple[str, DrivingPolicy, tuple[Correction, ...]]]:
        """Yield what may be better than the driver as it is, the smallest step first."""
        config = self.config
        if not self.met:
            return
        if config.correct:
            for correction in find_corrections(self.policy, self.met, self.driven, self.replayed):
                yield f"correction: {correction.text()}", self.policy, (*self._given, correction)
        if self.corrections != self._given:
            return  # weights are for all worlds, and what is met here is corrected already
        if config.gain:
            candidate = copy.deepcopy(self.policy)
            gain = learn_gain(candidate, self.met, self.replayed, config.replay_weight)
            if abs(gain - 1.0) > LEAST_GAIN:
                yield f"gain {gain:.2f}", candidate, self.corrections
        candidate = copy.deepcopy(self.policy)
        learn = learn_online if config.rule == "online" else learn_batch
        learn(candidate, self.met, self.replayed, config, self._draws)
        yield config.rule, candidate, self.corrections

    def _drive(self, directory: str | os.PathLike[str], numbers: list[int], number: int) -> Interventions:
        """Drive episodes with a person beside, and keep what was met."""
        config = self.config
        expert = ShiftedExpert(self.shift)
        bounds = replace(config.bounds, least_s=config.hold_s)
        mixed = MixedDriver(self.driver(), expert, bounds, 0.0, (config.seed, number))
        met = collect(
            directory, self.world, mixed, numbers, config.seed, number, make_env=lambda w: shifted_env(w, self.shift)
        )
        for episode in load_episodes(directory):
            if episode.meta.extra["round"] == number:
                drive = len(self.driven)
                self.met += self._interventions(episode, drive)
                self.driven.append(self._stretch(episode, np.ones(len(episode), bool), drive))
        return met

    def _interventions(self, episode: Episode, drive: int) -> list[Stretch]:
        """Cut out where the person had the wheel, with what came before to warm up."""
        taken = np.asarray(episode.extras["taken_over"], bool)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], taken.view(np.int8), [0]])))
        stretches = []
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            begin = max(0, first - self.config.warm_up)
            counts = np.zeros(last - begin, bool)
            counts[first - begin :] = True
            stretches.append(self._stretch(episode.slice(begin, last), counts, drive))
        return stretches

    def _stretch(self, episode: Episode, counts: NDArray[np.bool_], drive: int = 0) -> Stretch:
        fit = self.policy.config.preprocessing
        # Elapsed time counts in the driver's own period, whatever the recording's rate.
        episode = episode.with_nominal_period(self.policy.config.nominal_period_s)
        frames = episode.frames()
        if frames.shape[1:3] == (fit.source_height, fit.source_width):
            frames = fit(torch.from_numpy(frames)).numpy()
        steered = episode.extras.get("steered")
        told = None if steered is None else np.asarray(steered, np.float32)
        return Stretch(frames, episode.steering, episode.elapsed(), counts, told, drive)

    def _errors(self, driver: Driver, number: int) -> list[list[float]]:
        """Drive the suite, in the shifted world and in the old one; lane errors by road."""
        roads = self.config.suite_roads
        seeds = range(5_000_000 + number * roads, 5_000_000 + (number + 1) * roads)
        return [lane_errors(driver, self.world, shift, seeds) for shift in (self.shift, Shift())]

    def _compare(self, candidate: Driver, before: list[list[float]], number: int) -> tuple[Estimate, Estimate]:
        """Drive the suite: candidate minus the driver as it is, in the shifted world and in the old one; paired."""
        found = []
        for errors in zip(self._errors(candidate, number), before, strict=True):
            now, was = (np.array(one)[None, :, None] for one in errors)
            found.append(paired_difference(now, was, whole_runs=False))
        return found[0], found[1]


def is_not_worse(difference: Estimate, margin: float) -> bool:
    """Whether the interval of a difference in error lies within a margin; one without an interval never does."""
    return bool(np.isfinite(difference.high) and difference.high <= margin)


def _driver(policy: DrivingPolicy, corrections: Sequence[Correction]) -> Driver:
    released = PolicyDriver(policy)
    return AdaptedDriver(released, corrections) if corrections else released


def lane_errors(driver: Driver, world: World, shift: Shift, seeds: Sequence[int]) -> list[float]:
    """Return the mean absolute offset of each drive, in lane widths, the time after a crash counting as `LOST`."""
    drives = rollout(driver, lambda slot: shifted_env(world, shift), seeds, side_by_side=SIDE_BY_SIDE)
    return [_lane_error(drive, world.episode_s) for drive in drives]


def _lane_error(drive: Drive, planned_s: float) -> float:
    offset = float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m
    lost_s = max(planned_s - drive.duration_s, 0.0) if drive.crashed else 0.0
    return (offset * drive.duration_s + LOST * lost_s) / (drive.duration_s + lost_s)


def learn_gain(
    policy: DrivingPolicy, met: Sequence[Stretch], replayed: Sequence[Stretch], replay_weight: float
) -> float:
    """Multiply the circuit's steering by what brings it nearest to the person's steering; returns the gain.

    The squared error is that of the steering as the car takes it, clamped to full lock, in the interventions and in the
    old driving, where the gain was right. A bias is not fitted: a driver is corrected where it strayed, mostly to one
    side, and that side would be taken for the bias.

    Args:
        policy: is changed, unless its core has no output that can be scaled: then the gain is 1.
        met: interventions.
        replayed: old driving.
        replay_weight: weight of the old driving in the error.
    """
    outputs = policy.core.output_map()
    if not outputs:
        return 1.0
    errors = (1.0 - replay_weight) * _errors_by_gain(policy, met)
    if replay_weight:
        errors = errors + replay_weight * _errors_by_gain(policy, replayed)
    gain = float(GAINS[int(np.argmin(errors))])
    with torch.no_grad():
        for parameter in outputs:
            parameter[STEERING].mul_(gain)
    return gain


def _errors_by_gain(policy: DrivingPolicy, stretches: Sequence[Stretch]) -> NDArray[np.float64]:
    """Return the mean squared error with each of `GAINS`."""
    steered, wanted = [], []
    for stretch in stretches:
        with torch.no_grad():
            motors, _ = policy.motors(
                torch.from_numpy(stretch.frames)[None],
                elapsed=torch.from_numpy(stretch.elapsed)[None],
                preprocessed=True,
            )
        steered.append(motors[0, :, 0].numpy()[stretch.counts])
        wanted.append(stretch.steering[stretch.counts])
    y, label = np.concatenate(steered), np.concatenate(wanted)
    if len(y) == 0:
        return np.square(np.log(GAINS))  # nothing speaks for another gain
    return np.asarray([np.square(np.clip(gain * y, -1, 1) - label).mean() for gain in GAINS], np.float64)


def learn_batch(
    policy: DrivingPolicy,
    met: Sequence[Stretch],
    replayed: Sequence[Stretch],
    config: AdaptConfig,
    draws: np.random.Generator,
) -> None:
    """Take gradient steps on windows of interventions and of the old driving; changes the policy."""
    groups: list[dict[str, Any]] = [{"params": list(policy.core.parameters()), "lr": config.learning_rate}]
    if config.head_learning_rate > 0:
        groups.append({"params": list(policy.head.parameters()), "lr": config.head_learning_rate})
    optimizer = torch.optim.Adam(groups)
    policy.eval()  # no dropout: a few windows are learnt from, not a data set
    for _ in range(config.steps):
        loss = (1.0 - config.replay_weight) * _window_loss(policy, met, config, draws)
        if config.replay_weight:
            loss = loss + config.replay_weight * _window_loss(policy, replayed, config, draws)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()


def _window_loss(
    policy: DrivingPolicy, stretches: Sequence[Stretch], config: AdaptConfig, draws: np.random.Generator
) -> Tensor:
    """Squared error on windows drawn from stretches, longer ones the likelier."""
    lengths = np.array([len(stretch.steering) for stretch in stretches], np.float64)
    chosen = draws.choice(len(stretches), config.windows, p=lengths / lengths.sum())
    _, height, width, _ = stretches[0].frames.shape
    shape = (config.windows, config.window)
    frames = np.zeros((*shape, height, width, 3), np.uint8)
    steering, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    elapsed = np.ones(shape, np.float32)
    for row, number in enumerate(chosen):
        stretch = stretches[int(number)]
        start = int(draws.integers(0, max(1, len(stretch.steering) - config.window + 1)))
        stop = min(start + config.window, len(stretch.steering))
        count = stop - start
        frames[row, :count] = stretch.frames[start:stop]
        steering[row, :count], elapsed[row, :count] = stretch.steering[start:stop], stretch.elapsed[start:stop]
        warm = np.arange(count) >= (config.warm_up if stretch.counts[start] else 0)
        counts[row, :count] = stretch.counts[start:stop] & warm
    predicted, _ = policy.motors(torch.from_numpy(frames), elapsed=torch.from_numpy(elapsed), preprocessed=True)
    weight = torch.from_numpy(counts)
    return (weight * (predicted[..., 0] - torch.from_numpy(steering)).square()).sum() / weight.sum().clamp_min(1.0)


def learn_online(
    policy: DrivingPolicy,
    met: Sequence[Stretch],
    replayed: Sequence[Stretch],
    config: AdaptConfig,
    draws: np.random.Generator,
) -> None:
    """Learn from every frame once, in its order, by real-time recurrent learning; changes the core of the policy.

    Stretches of the old driving, as long as those that were met, are interleaved with them.
    """
    policy.eval()
    optimizer = torch.optim.Adam(policy.core.parameters(), lr=config.online_rate)
    weights = dict(policy.core.named_parameters())
    learner = RealTimeRecurrentLearning(policy.core)
    for stretch in met:
        _learn_stretch(policy, learner, optimizer, weights, stretch, 1.0 - config.replay_weight)
        if config.replay_weight:
            old = replayed[int(draws.integers(len(replayed)))]
            length = min(len(stretch.steering), len(old.steering))
            start = int(draws.integers(0, len(old.steering) - length + 1))
            here = slice(start, start + length)
            counts = np.arange(length) >= min(config.warm_up, length - 1)
            piece = Stretch(old.frames[here], old.steering[here], old.elapsed[here], counts)
            _learn_stretch(policy, learner, optimizer, weights, piece, config.replay_weight)


def _learn_stretch(
    policy: DrivingPolicy,
    learner: RealTimeRecurrentLearning,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, torch.nn.Parameter],
    stretch: Stretch,
    weight: float,
) -> None:
    with torch.no_grad():
        features = policy.features(torch.from_numpy(stretch.frames)[None], preprocessed=True)[0]  # [T, F]
    learner.begin()
    for step in range(len(features)):
        outputs = learner.step(features[step], float(stretch.elapsed[step]))
        if not stretch.counts[step]:
            continue
        error = torch.zeros_like(outputs)
        error[0] = 2.0 * weight * (outputs[0] - float(stretch.steering[step]))
        for name, gradient in learner.gradient(error).items():
            weights[name].grad = gradient
        optimizer.step()
