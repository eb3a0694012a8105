"""Policies on recorded driving: what would they have steered, beside what the person did?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.driving.driver import PolicyDriver
from agents.driving.metrics import Estimate, open_loop
from agents.driving.open_loop import evaluate_open_loop
from agents.recordings import load_episodes
from agents.recordings.splits import split_by_time_block
from envs.perturbations import GaussianNoise
from experiments.console import duration, progress, show, table
from experiments.training_sets import FrameOptions, choose_preprocessing
from policies.checkpoint import load_policy
from policies.preprocessing import Preprocessing

MEAN = "predict the mean"
"""Name of the driver that always steers the recording's mean."""


@dataclass(frozen=True)
class RecordingOptions:
    """Recordings to test on."""

    data: tuple[Path, ...] = ()
    """Recordings to test on instead of driving: data sets, Donkeycar tubs, Udacity logs, ..."""
    last: float = 1.0
    """Share of each recording's time that counts, from its end, in (0, 1]; 0.2 is what training holds out."""
    crop_top: int | None = None
    """Rows cut off at the top before the frame is resized to the policy's, pixels of the recording; needed when the
    recording has another size than the policy was trained on. 0 resizes the whole frame."""
    crop_bottom: int | None = None
    """Rows cut off at the bottom, pixels of the recording."""
    crop_left: int | None = None
    """Columns cut off on the left, pixels of the recording."""
    crop_right: int | None = None
    """Columns cut off on the right, pixels of the recording."""
    nominal_period_s: float | None = None
    """Time between frames of a recording whose time stamps are unusable, seconds."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.last <= 1:
            raise ValueError(f"last is a share and must lie in (0, 1], got {self.last}.")

    @property
    def crops(self) -> dict[str, int] | None:
        """The crops in pixels; None when none was given."""
        names = ("crop_top", "crop_bottom", "crop_left", "crop_right")
        if all(getattr(self, name) is None for name in names):
            return None
        return {name: getattr(self, name) or 0 for name in names}


def evaluate_recordings(
    policies: dict[str, Path],
    options: RecordingOptions,
    variances: Sequence[float],
    noise_seed: int,
    perturbations: Sequence[str] = (),
) -> dict[str, Any]:
    """Test policies on recordings and show a table.

    Args:
        policies: directories by name.
        options: which recordings, and how their frames fit.
        variances: of the noise on the frames.
        noise_seed: of the noise and the perturbations.
        perturbations: in the syntax of `envs.perturbations.parse`; each one is a row, too.

    Returns:
        JSON values: what was tested on, and the figures.

    Raises:
        ValueError: if frames do not fit a policy and no option says how to make them.
        OSError: if a recording cannot be read.
    """
    episodes = load_episodes(options.data, options.nominal_period_s)
    warnings = episodes.warnings
    if options.last < 1:
        _, episodes = split_by_time_block(episodes, options.last, gap_s=0.0)
    loaded: dict[str, PolicyDriver] = {}
    for name, path in policies.items():
        policy = load_policy(path)
        fit = fit_preprocessing(policy.config.preprocessing, name, episodes.frame_size, options)
        loaded[name] = PolicyDriver(policy, fit)
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
            # Elapsed time counts in the policy's own period, whatever the recording's rate.
            timed = episodes.with_nominal_period(driver.policy.config.nominal_period_s)
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


def fit_preprocessing(
    fit: Preprocessing, name: str, frame_size: tuple[int, int], options: RecordingOptions
) -> Preprocessing:
    """Return how frames of a size are cropped and resized for a policy, by the crops that were given.

    Args:
        fit: the policy's own preprocessing.
        name: of the policy, for the error.
        frame_size: rows and columns of the frames.
        options: hold the crops.

    Raises:
        ValueError: if the size differs and no crop was given, or nothing is left after it.
    """
    crops = options.crops
    if crops is None:
        if frame_size == (fit.source_height, fit.source_width):
            return fit
        guess = choose_preprocessing(frame_size, FrameOptions(fit.height, fit.width)).crop_top
        raise ValueError(
            f"the policy {name} takes frames of {fit.source_width}×{fit.source_height} pixels and the recording has "
            f"{frame_size[1]}×{frame_size[0]}: say how to fit them, such as --crop-top {guess} (then resized)."
        )
    rows, columns = frame_size
    return replace(fit, source_height=rows, source_width=columns, **crops)
