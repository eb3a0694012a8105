"""Half-cheetah: predict the next state of a running robot from the states before it.

After Hasani et al., "Liquid Time-constant Networks", AAAI 2021: 25 rollouts of MuJoCo's half-cheetah, its 17 observed
joint positions and velocities, cut into windows of 20 steps; the score is the mean squared error of the next state, in
the simulator's own units. All cores have 32 units and a linear read-out of all of them.

The published rollouts came from a trained controller with 5 % random actions. Whoever has them gives their folder: 25
NumPy files `[1000, 17]`, of which in the order of their names the first five validate, the next ten test and the last
ten train, as published. Without it the robot is driven by random gaits (a sine a joint, drawn for every rollout) with
the same share of random actions, so the figures have the published unit and protocol, but not the published data:
compare cores within the table, and the table with its two baselines.

    python -m experiments.tasks.half_cheetah --seeds 3
    python -m experiments.tasks.half_cheetah --traces cheetah/
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.cli import run_script
from experiments.tasks.comparison import compare, open_task, report
from experiments.tasks.training import Batch, Contender, Problem, Training

ENVIRONMENT = "HalfCheetah-v5"
STATES = 17


@dataclass(frozen=True)
class Options:
    """The half-cheetah task."""

    training: Training = field(default_factory=lambda: Training(steps=600, batch_size=64, evaluate_every=50))

    traces: Path | None = None
    """Folder of recorded rollouts, one .npy file [steps, 17] each, in the order of their names; random gaits when left
    out. The next two and the last two options are then not used."""

    standardise: bool = True
    """Inputs in the deviations of the training rollouts around their mean; no: as the simulator has them, as
    published."""

    rollouts: int = 25
    """Rollouts; the first 20 % validate, the next 40 % test, the others train, as published."""

    rollout_steps: int = 1000
    """Steps a rollout."""

    window: int = 20
    """Steps a sequence."""

    stride: int = 10
    """Steps between the beginnings of two windows."""

    random_actions: float = 0.05
    """Share of the actions that are drawn at random."""

    data_seed: int = 0
    """Seed of the rollouts."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        if self.rollouts < 5:
            raise ValueError(f"rollouts must be at least 5, to validate, test and train, got {self.rollouts}.")
        if self.window < 1 or self.stride < 1 or self.rollout_steps <= self.window:
            raise ValueError(
                "window and stride must be at least 1 and rollout_steps more than window, got "
                f"{self.window}, {self.stride} and {self.rollout_steps}."
            )
        if not 0 <= self.random_actions <= 1:
            raise ValueError(f"random_actions must be from 0 to 1, got {self.random_actions}.")


CONTENDERS = (
    Contender("ltc", "ltc", {"wiring": "fully_connected", "units": 32}, 1e-2, motors=32, published="2.308 ± .015"),
    Contender("cfc", "cfc", {"wiring": None, "units": 32, "kernel": "reference"}, 3e-3),
    Contender("lstm", "lstm", {"hidden_size": 32}, 3e-3, published="2.500"),
    Contender("gru", "gru", {"hidden_size": 32}, 3e-3),
    Contender("ctrnn", "ctrnn", {"units": 32}, 3e-3, published="2.838"),
    Contender("neural_ode", "neural_ode", {"units": 32, "width": 64}, 3e-3, published="3.805"),
)


def run(options: Options) -> None:
    """Record the rollouts, train the cores and print the table."""
    if options.training.quick:
        training = replace(options.training, steps=20, batch_size=16, seeds=1, evaluate_every=10)
        options = replace(options, training=training, rollouts=5, rollout_steps=60)
    with open_task("half_cheetah", options, CONTENDERS) as place:
        rollouts = record(options) if options.traces is None else load_traces(options.traces, options.window)
        problem, mean, scale = make_problem(rollouts, options)
        entries = compare(CONTENDERS, problem, options.training, place)
        figures = baselines(problem, mean, scale)
        report("Half-cheetah, next state", "mean squared error", entries, place, options, figures)


def record(options: Options) -> NDArray[np.float32]:
    """Drive the robot by random gaits.

    Returns:
        `[rollouts, rollout_steps, 17]` observed states.

    Raises:
        ModuleNotFoundError: if MuJoCo is not installed.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise ModuleNotFoundError("the half-cheetah task needs MuJoCo: pip install -e '.[mujoco]'")
    import gymnasium

    mujoco = importlib.import_module("mujoco")
    # MuJoCo would print what it thinks of Gymnasium's model, and write it to a file in the working directory.
    mujoco.set_mju_user_warning(lambda text: None)
    rng = np.random.default_rng(options.data_seed)
    env = gymnasium.make(ENVIRONMENT, max_episode_steps=options.rollout_steps + 1)
    joints = int(np.prod(env.action_space.shape or (1,)))
    states = np.empty((options.rollouts, options.rollout_steps, STATES), np.float32)
    for rollout in states:
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        size, phase = rng.uniform(0.3, 1.0, joints), rng.uniform(0, 2 * np.pi, joints)
        pace = rng.uniform(0.15, 0.5)  # radians a step: periods of 12 to 42 steps of 0.05 s
        for step in range(options.rollout_steps):
            rollout[step] = observation
            action = size * np.sin(pace * step + phase)
            if rng.random() < options.random_actions:
                action = rng.uniform(-1, 1, joints)
            observation, *_ = env.step(action.astype(np.float32))
    env.close()
    mujoco.set_mju_user_warning(None)
    return states


def load_traces(folder: Path, window: int) -> NDArray[np.float32]:
    """Read recorded rollouts.

    Returns:
        `[rollouts, steps, 17]` in the order of the files' names, numbers in them by value.

    Raises:
        ValueError: if the folder does not hold rollouts of one length.
    """
    files = sorted(
        folder.glob("*.npy"), key=lambda file: [int(n) if n.isdigit() else n for n in _PARTS.split(file.stem)]
    )
    rollouts = []
    for file in files:
        try:
            rollout = np.load(file, allow_pickle=False)  # pickles can run code
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} should be a NumPy array [steps, {STATES}]: {error}.") from error
        if rollout.ndim != 2 or rollout.shape[1] != STATES or not np.isfinite(rollout).all():
            raise ValueError(f"{file} should hold finite numbers [steps, {STATES}], got {rollout.shape}.")
        rollouts.append(rollout.astype(np.float32))
    lengths = {len(rollout) for rollout in rollouts}
    if len(rollouts) < 5 or len(lengths) != 1 or lengths.pop() <= window:
        raise ValueError(
            f"{folder} should hold 5 or more .npy files of one length above window = {window}, as the 25 published "
            f"ones of 1000 steps; got {len(rollouts)} files of {sorted({len(r) for r in rollouts})} steps."
        )
    return np.stack(rollouts)


_PARTS = re.compile(r"(\d+)")


def make_problem(rollouts: NDArray[np.float32], options: Options) -> tuple[Problem, Tensor, Tensor]:
    """Cut rollouts `[R, steps, 17]` into windows.

    Inputs are standardised with the training rollouts' mean and deviation, and a core's outputs are in those deviations
    around that mean, unless the options say otherwise; targets, loss and score are in the simulator's units.

    Returns:
        The problem, the mean `[17]` and the deviation `[17]`.
    """
    validate, test = len(rollouts) // 5, len(rollouts) * 3 // 5
    learn = torch.from_numpy(rollouts[test:])
    mean, scale = learn.mean((0, 1)), learn.std((0, 1)).clamp_min(1e-6)
    if not options.standardise:
        mean, scale = torch.zeros_like(mean), torch.ones_like(scale)

    def windows(part: NDArray[np.float32]) -> Batch:
        # [R, windows, 17, window + 1] → [R · windows, window + 1, 17]
        cut = np.lib.stride_tricks.sliding_window_view(part, options.window + 1, axis=1)[:, :: options.stride]
        states = torch.from_numpy(np.ascontiguousarray(cut.transpose(0, 1, 3, 2))).flatten(0, 1)
        return Batch((states[:, :-1] - mean) / scale, states[:, 1:] - mean)

    def error(predictions: Tensor, batch: Batch) -> Tensor:
        return (predictions - batch.targets).square().mean()

    parts = rollouts[test:], rollouts[validate:test], rollouts[:validate]
    train, test_batch, validation = (windows(part) for part in parts)
    problem = Problem(train, test_batch, error, error, output_size=STATES, validation=validation, learn_scale=scale)
    return problem, mean, scale


def baselines(problem: Problem, mean: Tensor, scale: Tensor) -> dict[str, float]:
    """Return the score of repeating the state, and of the best linear map from it, fitted on the training windows."""

    def flat(batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = batch.inputs.flatten(0, 1).double()
        return torch.cat((inputs, torch.ones(len(inputs), 1)), dim=1), batch.targets.flatten(0, 1).double()

    inputs, targets = flat(problem.test)
    fit = torch.linalg.lstsq(*flat(problem.train)).solution
    return {
        "same state again": float((inputs[:, :-1] * scale - targets).square().mean()),
        "linear in the state": float((inputs @ fit - targets).square().mean()),
    }


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
