"""How fast drivers learn on a GPU: imitation beside its bare steps, and PPO beside itself on the CPU.

A bare step is forward, loss, backward and optimizer on one batch of frames that lies on the card. Imitation is
`train_imitation` within an epoch, with reading, augmentation and logs; validation, which runs on the CPU, does not
count. PPO acts in frames that cost nothing: what is measured is the learner, updates included.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.cores import spread
from experiments.benchmarks.gpu_agreement import Setup
from experiments.benchmarks.gpu_speed import cells, take_turns
from experiments.console import table

DRIVERS = ("ltc", "lstm", "feedforward")
"""Cores of the drivers."""
PRECISIONS = {"float32": "off", "bfloat16": "on"}
"""Of the conv head, and what imitation's option is then."""


def measure_imitation(setup: Setup) -> dict[str, Any]:
    """Time bare steps and imitation, frames a second.

    Raises:
        ImportError: if a package for reading recordings is not installed.
    """
    from agents.recordings.cache import held_in_memory
    from experiments.benchmarks.imitation import learner, train_for, write_fitted, write_jpegs

    batch, window, frames, steps = (2, 8, 60, 4) if setup.quick else (32, 32, 2000, 50)
    # Windows at every frame, so that one epoch has enough of them.
    learning = {name: replace(learner("ltc", batch, window, word)[0], stride=1) for name, word in PRECISIONS.items()}
    configs = {core: learner(core, batch, window, "off")[1] for core in DRIVERS}
    names = {f"{core}, {precision}": (core, precision) for core in DRIVERS for precision in PRECISIONS}
    calls = {name: bare_step(learning[p], configs[core], setup.device) for name, (core, p) in names.items()}
    rates = {
        name: [batch * window / s for s in seconds] for name, seconds in take_turns(calls, setup, "imitation").items()
    }
    whole: dict[str, list[float]] = {name: [] for name in rates}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        episodes = held_in_memory(write_fitted(place / "fitted", write_jpegs(place / "jpeg", frames)))
        for _ in range(2 if setup.quick else 3):
            for name in rates:
                core, precision = names[name]
                rate = train_for(learning[precision], configs[core], episodes, 0.0, steps=steps, device=setup.device)
                whole[name].append(rate)
    found: dict[str, Any] = {"bare": {}, "imitation": {}, "share": {}}
    rows = []
    for name in rates:
        found["bare"][name], found["imitation"][name] = spread(rates[name]), spread(whole[name])
        found["share"][name] = statistics.median(whole[name]) / statistics.median(rates[name])
        rows.append([name, *cells(found["bare"][name], "{:,.0f}"), *cells(found["imitation"][name], "{:,.0f}")])
        rows[-1].append(f"{found['share'][name]:.2f}")
    title = f"frames a second, {batch} windows of {window} frames, 48×96, on {setup.device}"
    table(title, ["driver", "bare steps", "range", "imitation", "range", "share"], rows)
    return found


def bare_step(learning: Any, config: Any, device: torch.device) -> Callable[[], Any]:
    """Return a function that learns from one batch that lies on the device."""
    from agents.imitation.train import head_in_bfloat16, make_optimizer, weighted_squared_error
    from policies.policy import DrivingPolicy

    policy = DrivingPolicy.create(config).to(device).train()
    optimizer = make_optimizer(policy, learning)
    rng = torch.Generator().manual_seed(0)
    sizes = learning.batch_size, learning.window
    fit = config.preprocessing
    frames = torch.randint(0, 256, (*sizes, fit.height, fit.width, 3), generator=rng, dtype=torch.uint8).to(device)
    steering = (2 * torch.rand(sizes, generator=rng) - 1).to(device)
    starts, weight = torch.zeros(sizes, dtype=torch.bool, device=device), torch.ones(sizes, device=device)
    elapsed = torch.ones(sizes, device=device)
    half = head_in_bfloat16(learning, device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            predicted, _ = policy.motors(frames, None, elapsed, starts, preprocessed=True)
        loss = weighted_squared_error(predicted[..., 0], steering, weight, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure_ppo(setup: Setup) -> dict[str, Any]:
    """Time our learner on the card and on the CPU, env steps a second.

    Raises:
        ImportError: if Stable-Baselines3 is not installed.
    """
    from agents.ppo.algorithm import LiquidPPO
    from agents.ppo.replay import make_vector_env
    from experiments.benchmarks.ppo_envs import make_env

    envs, n_steps, rounds = (2, 32, 1) if setup.quick else (8, 128, 3)
    learning: dict[str, Any] = {"n_steps": n_steps, "batch_size": min(128, envs * n_steps), "n_epochs": 4, "chunk": 16}
    models = {
        f"{core}, {device}": LiquidPPO(
            core, make_vector_env(lambda: make_env("trivial"), envs), **learning, seed=0, device=device
        )
        for core in ("ltc", "lstm")
        for device in dict.fromkeys((str(setup.device), "cpu"))
    }
    speeds: dict[str, list[float]] = {name: [] for name in models}
    try:
        for turn in range(rounds + 1):
            for name, model in models.items():
                started_s = time.perf_counter()
                model.learn(envs * n_steps, reset_num_timesteps=turn == 0)
                if turn:
                    speeds[name].append(envs * n_steps / (time.perf_counter() - started_s))
    finally:
        for model in models.values():
            if model.env is not None:
                model.env.close()
    found = {name: spread(values) for name, values in speeds.items()}
    title = f"LiquidPPO, frames that cost nothing, {envs} envs × {n_steps} steps: env steps a second"
    table(title, ["core, device", "median", "range"], [[name, *cells(one, "{:,.0f}")] for name, one in found.items()])
    return found
