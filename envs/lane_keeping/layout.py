"""Roads as people paint and tape them: which lines there are, and which one a car is to keep to.

| layout | what is there | the line to keep |
|---|---|---|
| `two_lanes` | edges and a line between two lanes | the middle of the right or the left lane |
| `one_lane` | a lane between two edges | its middle |
| `unmarked` | a lane of another surface than what lies beside it, no paint | its middle |
| `line` | one line on the ground | the line |
| `surface_edge` | two surfaces that meet, no paint | the edge on the right or on the left |
| `cones` | cones or cups on both sides of a lane, no paint | the middle between them |
| `boards` | boards or walls on both sides of a lane, no paint | the middle between them |
| `kerbs` | a lane between standing kerbs, no paint | its middle |

    road, look = layout_track(track, "one_lane"), layout_look(look, "one_lane")
    target_m, width_m = kept_line(road, "one_lane", "right")
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from envs.road.track import Track
from envs.scene.look import Line, Look, Surface, to_color

LAYOUTS = ("two_lanes", "one_lane", "unmarked", "line", "surface_edge", "cones", "boards", "kerbs")
STANDING = ("cones", "boards", "kerbs")
"""Those whose edges stand up; the renderer "tiny" cannot draw them."""
SIDES = ("right", "left")

START_EDGE = 0.9
"""Starts are within this share of the way from the centre line to the edge of the pavement."""
_ONE_LANE = ("one_lane", "unmarked", *STANDING)
_SEEN = 40.0
"""Least difference of two surfaces that meet without paint, in one of red, green and blue, [0, 255]."""
_DARKER, _BRIGHTER = 0.45, 1.9
_NONE = Line(width_m=0.0)


def layout_track(track: Track, layout: str) -> Track:
    """The road under a layout: one lane is as wide as each of two would be."""
    return Track(track.points, 0.5 * track.lane_width_m, track.name) if layout in _ONE_LANE else track


def layout_look(look: Look, layout: str) -> Look:
    """The look under a layout; that of two lanes is as it was drawn."""
    if layout == "one_lane":
        return replace(look, centre=_NONE)
    if layout == "line":
        # The line is as clear as the edges that it stands for, and the ground goes on beside it.
        line = replace(look.right, double=False)
        return replace(look, left=_NONE, right=_NONE, centre=line, verge=look.road, kerb=None)
    if layout in STANDING:
        # A floor or a yard goes on behind cones and boards; kerbs have a pavement or grass behind them.
        verge = look.verge if layout == "kerbs" else look.road
        return replace(look, left=_NONE, right=_NONE, centre=_NONE, verge=verge, kerb=None, edges=layout)
    if layout in ("surface_edge", "unmarked"):
        return replace(look, left=_NONE, right=_NONE, centre=_NONE, kerb=None, verge=_another(look.verge, look))
    return look


def _another(verge: Surface, look: Look) -> Surface:
    """The surface beside the pavement, made darker or brighter where both are alike, as on a floor indoors."""
    road, beside = (look.develop(surface.middle).astype(float) for surface in (look.road, verge))
    if np.abs(road - beside).max() >= _SEEN:
        return verge
    factor = _DARKER if road.mean() > 110.0 else _BRIGHTER
    return replace(
        verge, dark=to_color(factor * np.asarray(verge.dark)), bright=to_color(factor * np.asarray(verge.bright))
    )


def kept_line(track: Track, layout: str, keep: str) -> tuple[float, float]:
    """Where the line to keep runs, m left of the centre line, and the width of a lane about it, m."""
    side = -1.0 if keep == "right" else 1.0
    if layout == "two_lanes":
        return side * 0.5 * track.lane_width_m, track.lane_width_m
    if layout in _ONE_LANE:
        return 0.0, 2.0 * track.lane_width_m
    return (0.0 if layout == "line" else side * track.lane_width_m), track.lane_width_m


def start_lateral(track: Track, layout: str, lateral_m: float) -> float:
    """Where a start drawn so far left of the centre line is: on the pavement, or the car would be lost at once."""
    if layout == "surface_edge":
        return lateral_m
    return min(max(lateral_m, -START_EDGE * track.lane_width_m), START_EDGE * track.lane_width_m)


def is_lost(track: Track, layout: str, keep: str, lateral_m: float) -> bool:
    """Whether a car that far left of the centre line has left the pavement, or the edge that it keeps to by a lane."""
    if layout == "surface_edge":
        return abs(lateral_m - kept_line(track, layout, keep)[0]) > track.lane_width_m
    return abs(lateral_m) > track.lane_width_m
