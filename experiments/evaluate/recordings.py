"""Policies on recorded driving: what would they have steered, beside what the person did?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.driver_options import DriverSpec
from agents.driving.metrics import Estimate, open_loop
from agents.driving.open_driver import open_driver
from agents.driving.open_loop import evaluate_open_loop
from agents.recordings import load_episodes
from agents.recordings.options import ReadOptions
from agents.recordings.splits import split_by_time_block
from envs.perturbations import GaussianNoise
from experiments.console import duration, progress, show, table
from experiments.evaluate.default_view import with_default_view

MEAN = "predict the mean"
"""Name of the driver that always steers the recording's mean."""


@dataclass(frozen=True, config={"extra": "forbid"})
class RecordingOptions:
    """Recordings to test on."""

    data: tuple[Path, ...] = ()
    """Recordings to test on instead of driving: data sets, Donkeycar tubs, Udacity logs, ..."""
    last: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each recording's time that counts, from its end, in (0, 1]; 0.2 is what training holds out, but for
    simulated sets of ten episodes or more, of which it draws whole ones."""
    nominal_period_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Time between frames of a recording whose time stamps are unusable, seconds."""
    recording: ReadOptions = ReadOptions()
    """How the recordings are read."""

    def __post_init__(self) -> None:
        """Check that nothing is said of recordings where there are none."""
        said = [f"--{name}" for name in ("last", "nominal_period_s") if getattr(self, name) != _USUAL[name]]
        said += ["--recording.…"] if self.recording != ReadOptions() else []
        if said and not self.data:
            words = ", ".join(said).replace("_", "-")
            raise ValueError(f"{words} are for recordings: give --data with recordings, or leave them out.")


_USUAL = {"last": 1.0, "nominal_period_s": None}
"""What `RecordingOptions` are where nothing is said."""


def evaluate_recordings(
    drivers: dict[str, DriverSpec],
    options: RecordingOptions,
    variances: Sequence[float],
    noise_seed: int,
    perturbations: Sequence[str] = (),
) -> dict[str, Any]:
    """Test drivers on recordings and show a table.

    Args:
        drivers: by name; their options say how the frames fit.
        options: which recordings.
        variances: of the noise on the frames.
        noise_seed: of the noise and the perturbations.
        perturbations: in the syntax of `envs.perturbations.parse`; each one is a row, too.

    Returns:
        JSON values: what was tested on, and the figures.

    Raises:
        ValueError: if frames do not fit a policy and no option says how to make them.
        OSError: if a recording cannot be read.
    """
    episodes = load_episodes(options.data, options.nominal_period_s, options=options.recording, to_test_on=True)
    warnings = episodes.warnings
    if options.last < 1:
        _, episodes = split_by_time_block(episodes, options.last, gap_s=0.0)
    viewed = {name: with_default_view(name, spec, episodes) for name, spec in drivers.items()}
    loaded = {name: open_driver(spec, camera=episodes.frame_size) for name, spec in viewed.items()}
    targets = [episode.steering for episode in episodes]
    mean = float(np.concatenate(targets).mean())

    rows: list[dict[str, Any]] = []
    cells: list[list[str]] = []

    def add(name: str, variance: float, figures: dict[str, Estimate], perturbation: str = "") -> None:
        rows.append({"driver": name, "noise_variance": variance, "perturbation": perturbation, "figures": figures})
        shown = (show(figures[key], digits) for key, digits in (("r2", 2), ("correlation", 2), ("rmse", 3), ("mae", 3)))
        cells.append([name, condition(variance, perturbation, bool(perturbations)), *shown])

    with progress("testing", episodes.frame_count * len(loaded) * (len(variances) + len(perturbations))) as bar:
        for name, driver in loaded.items():
            # Elapsed time counts in the driver's own period, whatever the recording's rate.
            timed = episodes if driver.period_s is None else episodes.with_nominal_period(driver.period_s)
            for variance in variances:
                noise = GaussianNoise(variance) if variance else None
                add(name, variance, evaluate_open_loop(driver, timed, mean, noise, noise_seed, bar.advance))
            for perturbation in perturbations:
                figures = evaluate_open_loop(
                    driver, timed, mean, None, noise_seed, bar.advance, perturbation=perturbation
                )
                add(name, 0.0, figures, perturbation)
    add(MEAN, 0.0, open_loop([np.full_like(target, mean) for target in targets], targets, mean))
    title = f"{episodes.frame_count:,} frames ({duration(episodes.duration_s)}), with 95 % intervals"
    table(
        title,
        ["driver", condition_title(bool(perturbations)), "R²", "correlation", "RMSE, full locks", "mean error"],
        cells,
    )
    return {
        "data": [str(path) for path in options.data],
        "crops": {name: spec.options.crops for name, spec in viewed.items()},
        "frames": episodes.frame_count,
        "driving_s": episodes.duration_s,
        "warnings": warnings,
        "rows": [{**row, "figures": {k: v.to_json() for k, v in row["figures"].items()}} for row in rows],
    }


def condition_title(perturbed: bool) -> str:
    """Head of the column of `condition`."""
    return "perturbation" if perturbed else "noise variance"


def condition(variance: float, perturbation: str, perturbed: bool) -> str:
    """Say what was wrong with the world; `perturbed` tells whether there is more than noise in the table."""
    if not perturbed:
        return f"{variance:g}"
    return perturbation or (f"noise variance {variance:g}" if variance else "clean")
