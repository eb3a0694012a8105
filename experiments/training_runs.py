"""What both ways of training share: runs with several seeds, a word about dead ones, and a mirror at Weights & Biases.

wormwheel train imitation --data runs/record --seeds 0 1 2 --out runs/ltc   # runs/ltc/seed-0, seed-1, seed-2
wormwheel robustness --policy runs/ltc runs/lstm                            # three runs of a driver each
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents.driving.metrics import Estimate
from agents.runs.directory import RunDirectory, check_directory, open_run, to_json
from agents.runs.reading import read_object
from experiments.console import say, write_results
from experiments.options import check_resume

OnPoint = Callable[[int, float], None]
"""Called while a driver trains, with a step and what is to be as small as possible; an exception ends training."""
LEAST_SKILL = 0.02
"""Share of the squared error of the best constant steering that a driver must take away to count as alive."""
WANDB_EXTRA = "pip install -e '.[wandb]'"
"""How to get what `--wandb` needs."""


def dead_driver(core: str, rmse: float, constants: dict[str, float]) -> str:
    """Say that a driver is no better than steering that does not look at the road; "" if it is.

    Args:
        core: of the driver.
        rmse: its error, in full locks.
        constants: errors of steering that is always the same, by what it does.

    Returns:
        One line of warning, or nothing.
    """
    name, best = min(constants.items(), key=lambda item: item[1])
    if rmse**2 <= (1 - LEAST_SKILL) * best**2:
        return ""
    return (
        f"warning: {core} has learnt nothing that shows: its error is {rmse:.3f} full locks, that of {name} {best:.3f}."
        " Try another seed, other learning rates or more driving."
    )


def dead_learner(core: str, reward: float, straight: float) -> str:
    """Say that a PPO driver is no better than one action throughout; "" if it is.

    Args:
        core: of the driver.
        reward: mean of its best evaluation.
        straight: mean of the middle action throughout, in the same episodes.
    """
    if reward > straight:
        return ""
    return (
        f"warning: {core} has learnt nothing that shows: its reward is {reward:.1f}, that of steering straight "
        f"{straight:.1f}. Try another seed, other learning rates or more steps."
    )


def saved_estimate(saved: Mapping[str, float | None]) -> Estimate:
    """Return the estimate that was written as JSON; a bound that is None there is none."""
    value, low, high = (math.nan if (v := saved[part]) is None else float(v) for part in ("value", "low", "high"))
    return Estimate(value, low, high)


def run_seeds(
    verb: str,
    options: Any,
    free: Sequence[str],
    one: Callable[[int, Path, bool], Path | int],
    fingerprint: str | None = None,
) -> Path | int:
    """Train once for each of `options.seeds`, each in a directory `seed-N` of its own.

    Args:
        verb: that trains.
        options: of all of them, with `seeds`, `out` and `resume`.
        free: names of options that may change when they are resumed.
        one: trains with a seed in a directory, resuming what is there or not; returns what the verb does.
        fingerprint: of the data that all of them learn from; runs of one driver that learnt from other data are none.

    Returns:
        The directory of them all, or the largest exit code if one of them had one.

    Raises:
        ValueError: if a seed is named twice, or there is no directory.
    """
    if len(set(options.seeds)) < len(options.seeds):
        raise ValueError(f"seeds must differ, got {' '.join(map(str, options.seeds))}.")
    if options.out is None:
        raise ValueError("--seeds needs --out: the directory in which each seed gets one of its own.")
    out, several = options.out, f"{verb} with seeds"
    check_directory(out, several, options.resume, SEED_RUNS)
    if options.resume:
        check_resume(out, options, (*free, "seeds"))
    code = 0
    with open_run(out, several, options, options.resume, SEED_RUNS, fingerprint) as directory:
        for seed in options.seeds:
            place = out / f"seed-{seed}"
            if (place / "results.json").exists():
                say(f"seed {seed}: done already, in {place}")
                code = max(code, _code_of(place, options))
                continue
            say(f"seed {seed}: {place}")
            try:
                ended = one(seed, place, place.exists())
            finally:
                if place.exists():  # A run that was refused has left nothing, one that failed later has.
                    directory.begin()
            code = max(code, ended if isinstance(ended, int) else 0)
    if options.json is not None:
        runs = {str(seed): read_object(out / f"seed-{seed}" / "results.json").get("figures") for seed in options.seeds}
        write_results(options.json, verb, options, {"directory": str(out), "runs": runs})
    say(f"all runs of this driver: {out}")
    return code or out


SEED_RUNS = ("seed-*",)
"""Names of the runs in the directory of several seeds."""


def _code_of(place: Path, options: Any) -> int:
    """Return the exit code of a run that ended before."""
    try:
        dead = read_object(place / "results.json")["figures"]["dead"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0
    return options.dead_exit_code if dead else 0


@contextmanager
def mirrored(directory: RunDirectory, project: str | None, options: Any) -> Iterator[None]:
    """Send a run's TensorBoard figures to a project of Weights & Biases as well; nowhere when there is none.

    Raises:
        ValueError: if the package is not installed.
    """
    if project is None:
        yield
        return
    wandb = _wandb()
    run = wandb.init(
        project=project,
        name=directory.path.name,
        dir=str(directory.path),
        config=to_json(options),
        sync_tensorboard=True,
        resume="allow",
    )
    try:
        yield
    finally:
        run.finish()


def check_mirror(project: str | None) -> None:
    """Check before anything is written that `mirrored` will work.

    Raises:
        ValueError: if the package is not installed.
    """
    if project is not None:
        _wandb()


def _wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise ValueError(f"--wandb needs the package wandb, which is not installed: {WANDB_EXTRA}") from None
    return wandb
