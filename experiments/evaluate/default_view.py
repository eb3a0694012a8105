"""What a policy is shown of a recording of another size when nobody says how to fit it.

A strip as wide as the recording and of the shape of the policy's own frames, placed so that the horizon lies in it
where it lay in the frames that the policy learnt from. Both horizons are found without labels: the recording's from its
frames, the policy's is in its config. Nothing of the steering that is scored is looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.driving.driver_options import DriverSpec
from agents.recordings.doctor.view import view_facts
from agents.recordings.episodes import EpisodeSet
from experiments.console import say
from policies.checkpoint import load_policy
from policies.policy import PolicyConfig

USUAL_HORIZON = 0.3
"""Height of the horizon in the frames of this project's camera, 0 at the top, 1 at the bottom, for policies that do not
say it."""


def with_default_view(name: str, spec: DriverSpec, episodes: EpisodeSet) -> DriverSpec:
    """Return the driver with crops for a recording, and say which; as it is where crops were given or none are needed.

    Args:
        name: What the driver is called.
        spec: What opens it.
        episodes: What it is to be shown.
    """
    options = spec.options
    if options.crops is not None or options.fit is not None or not spec.path.is_dir():
        return spec
    config = load_policy(spec.path, trust=options.trust).config
    fit = config.preprocessing
    if episodes.frame_size == (fit.source_height, fit.source_width):
        return spec
    horizon = view_facts(episodes).get("horizon")
    crops: dict[str, Any] = dict(crops_for(config, episodes.frame_size, horizon))
    where = "the middle" if horizon is None else f"the horizon, {horizon:.0%} of the height,"
    given = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in crops.items() if value) or "--crop-top 0"
    rows, columns = episodes.frame_size
    say(f"{name}: frames of {columns}×{rows} are cropped about {where} as if by {given}")
    return replace(spec, options=replace(options, **crops))


def crops_for(config: PolicyConfig, frame_size: tuple[int, int], horizon: float | None) -> dict[str, int]:
    """Return rows and columns to cut off, pixels by their names in `Preprocessing`.

    Args:
        config: Of the policy.
        frame_size: Rows and columns of the recording.
        horizon: Row of its horizon as a share of the height; the strip is taken from the middle when None.
    """
    rows, columns = frame_size
    fit = config.preprocessing
    shape = fit.source_height / fit.source_width
    kept_rows, kept_columns = min(rows, round(columns * shape)), columns
    if columns * shape > rows:  # The recording is wider than the policy's frames: columns go instead.
        kept_columns = max(1, round(rows / shape))
    spare = rows - kept_rows
    top = spare // 2
    if horizon is not None:
        known = config.car.camera_horizon if config.car is not None else None
        top = round(horizon * rows - (USUAL_HORIZON if known is None else known) * kept_rows)
    top = min(max(top, 0), spare)
    left = (columns - kept_columns) // 2
    return {
        "crop_top": top,
        "crop_bottom": spare - top,
        "crop_left": left,
        "crop_right": columns - kept_columns - left,
    }
