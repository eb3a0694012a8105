"""What the camera sees: where the horizon is, whether a bonnet stands below, how bright it is; and which crop suits.

The horizon is where painted lines meet (`agents.recordings.view_estimate`). Where there are none: driving ahead, what
is above the horizon moves up in the picture and what is below moves down, so the row where the median vertical flow
(Farnebäck 2003) changes its sign is the horizon, whatever the scene looks like.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.doctor.finding import Finding
from agents.recordings.episodes import EpisodeSet
from agents.recordings.view_estimate import estimate_view

PAIRS = 40
"""Pairs of neighbouring frames that are looked at."""
WIDTH = 160
"""Columns that pictures are shrunk to for the flow."""
STILL = 4.0
"""Rows at the bottom whose grey levels vary less than this over the recording show the car itself."""
FAR_ROAD = (0.02, 0.15)
"""How far below the horizon the road is far away, shares of the height."""
LOWEST_HORIZON = 0.7
"""Height from which on no road is seen below it, share of the picture's."""
BACKWARDS = 0.8
"""Share of what moves on the far road that moves up from which on the car drives backwards."""
LEAST_FLOW = 0.03
"""Mean flow above and below the horizon, pixels of the small picture, for the sign change to count."""


def view_facts(episodes: EpisodeSet) -> dict[str, Any]:
    """Return horizon and bonnet as shares of the height, crops in pixels, and light; None for what cannot be seen."""
    places = [
        (episode, step)
        for episode in episodes
        if episode.is_centre and len(episode) > 1
        for step in range(len(episode) - 1)
    ]
    if not places:
        return {}
    chosen = [places[i] for i in np.linspace(0, len(places) - 1, min(PAIRS, len(places))).astype(int)]
    flows: list[NDArray[np.float64]] = []
    rows: list[NDArray[np.float64]] = []
    light: list[float] = []
    colours: list[NDArray[np.uint8]] = []
    for episode, step in chosen:
        frames, good = episode.checked_frames(step, step + 2)
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        light.append(float(gray[0].mean()))
        colours.append(frames[0])
        rows.append(gray[0].astype(np.float64))
        if good.all():
            flows.append(_vertical_flow(gray[0], gray[1]))
    height = frames.shape[1]
    stack = np.stack(rows) if len({row.shape for row in rows}) == 1 else np.zeros((0, height, 1))
    still = stack.std(0).mean(1) < STILL if len(stack) > 10 else np.zeros(height, bool)
    bonnet = int(np.argmin(still[::-1])) if still[-1] and not still.all() else 0
    lines = estimate_view(np.stack(colours)) if len({frame.shape for frame in colours}) == 1 else None
    flow = _horizon(np.stack(flows)) if flows else None
    road = lines.horizon if lines is not None and lines.is_sure else None
    horizon = flow if road is None else road
    backwards = bool(flows) and road is not None and runs_backwards(np.stack(flows), road)
    low, high = np.quantile(light, [0.05, 0.95])
    return {
        "horizon": horizon,
        "horizon_by": None if horizon is None else "where lines meet" if road is not None else "how the picture flows",
        "backwards": backwards,
        "bonnet": bonnet / height if bonnet else None,
        "crop_top": None if horizon is None else max(0, int(horizon * height)),
        "crop_bottom": bonnet,
        "light_from_5_to_95_percent": [float(low), float(high)],
    }


def _vertical_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the median flow down of each row that has texture, `[rows]`; NaN elsewhere."""
    shape = (WIDTH, max(8, round(WIDTH * first.shape[0] / first.shape[1])))
    one, two = (cv2.resize(gray, shape, interpolation=cv2.INTER_AREA) for gray in (first, second))
    flow: Any = cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 2, 5, 1.1, 0)  # type: ignore[call-overload]
    texture = np.abs(cv2.Sobel(one, cv2.CV_32F, 0, 1)) > 20
    return np.asarray([np.median(v[t]) if t.sum() > 3 else np.nan for v, t in zip(flow[..., 1], texture, strict=True)])


def _horizon(flows: NDArray[np.float64]) -> float | None:
    """Return the row where the flow changes from up to down, as a share of the height; None where it does not."""
    known = np.isfinite(flows).sum(0) >= max(3, len(flows) // 10)
    count = flows.shape[1]
    if known.sum() < count // 4:
        return None
    profile = np.asarray(
        [np.median(flows[np.isfinite(flows[:, row]), row]) if known[row] else np.nan for row in range(count)]
    )
    rows = np.flatnonzero(known)
    profile = np.convolve(np.pad(profile[rows], 2, mode="edge"), np.ones(5) / 5, mode="valid")
    # The best place to cut the rows in two: as much as possible goes up above it and down below it.
    gain = np.concatenate([[0.0], np.cumsum(-profile)]) + np.concatenate([np.cumsum(profile[::-1])[::-1], [0.0]])
    cut = int(gain.argmax())
    if not 3 <= cut <= len(rows) - 3:
        return None
    if profile[:cut].mean() > -LEAST_FLOW or profile[cut:].mean() < LEAST_FLOW:
        return None
    return float(rows[cut] / count)


def runs_backwards(flows: NDArray[np.float64], horizon: float) -> bool:
    """Say whether the flow is that of a car that drives backwards: right below the horizon the road moves up.

    Right before the car it moves by more than can be followed from one frame to the next, and paint that repeats itself
    seems to stand or to go back.

    Args:
        flows: `[pairs, rows]` median flow down, pixels; NaN where nothing can be told.
        horizon: Its height as lines tell it, a share of the picture's.
    """
    if not 0 <= horizon < LOWEST_HORIZON:
        return False
    first, last = (int((horizon + below) * flows.shape[1]) for below in FAR_ROAD)
    far = flows[:, first:last]
    moving = far[np.isfinite(far) & (np.abs(far) > LEAST_FLOW)]
    return len(moving) > far.size // 10 and float((moving < 0).mean()) > BACKWARDS


def check_direction(view: dict[str, Any]) -> list[Finding]:
    """Say whether the pictures run backwards."""
    if not view or not view["backwards"]:
        return []
    what = "the pictures run backwards: the road moves away from the car"
    return [Finding("order", True, what, "see whether the rows stand in reverse; name --time-column")]


def check_light(view: dict[str, Any]) -> list[Finding]:
    """Say what light the recording never shows."""
    if not view:
        return []
    low, high = view["light_from_5_to_95_percent"]
    if high - low >= 4:
        return []
    what = f"all frames are equally bright (grey level {low:.0f} to {high:.0f})"
    return [Finding("light", False, what, "record other light too, or train with brightness changed")]


def suggestion(view: dict[str, Any], taken: bool) -> str | None:
    """Say which crop suits the camera; None where the horizon cannot be seen.

    Args:
        view: as `view_facts` returns it.
        taken: whether training takes that crop where none is given.
    """
    if not view or view["crop_top"] is None:
        return None
    bonnet = f", the car itself fills the lowest {view['bonnet']:.0%}" if view["bonnet"] else ""
    options = f"--crop-top {view['crop_top']}" + (f" --crop-bottom {view['crop_bottom']}" if view["bonnet"] else "")
    where = f"the horizon lies at {view['horizon']:.0%} of the height, by {view['horizon_by']}{bonnet}"
    return f"{where}: {options} is " + (
        "what training takes unless another crop is given"
        if taken
        else "what suits it, and not taken unless it is given"
    )
