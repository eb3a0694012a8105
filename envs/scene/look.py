"""What a road and its surroundings look like.

A `Look` is a complete description: the same look on the same road gives the same picture. `random_looks` draws them.

    look = replace(Look(), wear=0.5, kerb=((190.0, 50.0, 45.0), (238.0, 238.0, 230.0)))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]
"""Red, green, blue in [0, 255], before exposure."""


def to_color(values: NDArray[np.floating]) -> Color:
    """Three values, clipped to [0, 255], as a colour."""
    red, green, blue = np.clip(values, 0.0, 255.0)
    return float(red), float(green), float(blue)


@dataclass(frozen=True)
class Surface:
    """A material: two colours between which a mixture of coarse, medium and fine noise chooses."""

    dark: Color
    """Colour where the noise is low."""
    bright: Color
    """Colour where the noise is high."""
    coarse: float = 0.4
    """Strength of spots metres wide."""
    medium: float = 0.3
    """Strength of spots some centimetres wide."""
    fine: float = 0.5
    """Strength of the grain."""

    @property
    def middle(self) -> Color:
        """The colour half-way between both."""
        return to_color(0.5 * (np.asarray(self.dark) + np.asarray(self.bright)))


@dataclass(frozen=True)
class Line:
    """A painted or taped line."""

    color: Color = (235.0, 235.0, 230.0)
    """Colour of the paint."""
    width_m: float = 0.05
    """Width of the stripe, m; 0 leaves the line out."""
    dash_m: float = 0.0
    """Length of a dash, m; 0 for a solid line."""
    gap_m: float = 0.0
    """Length of the gap between dashes, m."""
    double: bool = False
    """Two stripes side by side."""


@dataclass(frozen=True)
class Look:
    """Everything about a scene except the shape of the road and the camera."""

    seed: int = 0
    """Seed of the details: where the spots, cracks, trees and lamps are."""
    road: Surface = Surface((62.0, 63.0, 66.0), (118.0, 118.0, 120.0))
    """The pavement."""
    verge: Surface = Surface((52.0, 78.0, 30.0), (112.0, 132.0, 62.0), coarse=0.6, medium=0.5)
    """What lies beside the pavement; the same as `road` on an indoor floor."""
    left: Line = Line()
    """The line at the left edge of the road."""
    right: Line = Line()
    """The line at the right edge of the road."""
    centre: Line = Line(dash_m=0.3, gap_m=0.3)
    """The line between the lanes."""
    inset_m: float = 0.02
    """Distance of the edge lines from the edge of the pavement, m."""
    wear: float = 0.0
    """Share of the paint that is worn away, in [0, 1]."""
    kerb: tuple[Color, Color] | None = None
    """The two colours of the kerbs in bends; none when None."""
    kerb_width_m: float = 0.12
    """Width of the kerbs, m."""
    edges: str = ""
    """What stands along both edges of the road: "cones" (or cups), "boards" or "kerbs"; nothing for "". See
    `envs.scene.standing`."""
    cracks_per_m: float = 0.0
    """Cracks and tar seams per metre of road."""
    patches_per_m: float = 0.0
    """Repaired patches per metre of road."""
    strays_per_m: float = 0.0
    """Stray marks on the ground per metre of road: tape, tiles, tyre tracks."""
    seams_per_m: float = 0.0
    """Long seams of black tar along the road, per metre of road."""
    old_lines_per_m: float = 0.0
    """Lines of an earlier marking that lead across the lanes, per metre of road."""
    shadow: float = 0.0
    """Depth of shadows and light spots on the ground, in [0, 1]."""
    gloss: float = 0.0
    """How much of the surroundings the ground mirrors, in [0, 1]."""
    scenery: str = "country"
    """What stands around: "country", "town", "hall" or "room"."""
    sky: tuple[Color, Color] = ((92.0, 140.0, 205.0), (205.0, 220.0, 235.0))
    """Colour overhead and at the horizon (in a hall: ceiling and far wall)."""
    clutter: float = 0.5
    """How many things stand around, in [0, 1]."""
    bonnet: Color | None = None
    """Colour of the bonnet at the bottom of the frame; none when None."""
    bonnet_height: float = 0.1
    """Height of the bonnet as a share of the frame."""
    gain: Color = (1.0, 1.0, 1.0)
    """Exposure and white balance: a factor for each colour."""
    gamma: float = 1.0
    """Exponent applied to the colours in [0, 1] after the gain."""
    contrast: float = 1.0
    """Factor on the distance from mid grey."""
    saturation: float = 1.0
    """Factor on the distance from grey of the same brightness."""
    vignette: float = 0.0
    """How much darker the corners of the frame are, in [0, 1]."""
    blur_px: float = 0.0
    """Width of the lens blur, pixels of the frame."""
    noise: float = 0.0
    """Standard deviation of the sensor noise, in [0, 255]."""
    exposure_s: float = 0.0
    """How long the shutter is open, s: what moves is smeared."""

    def develop(self, colors: NDArray[np.floating] | Color) -> NDArray[np.uint8]:
        """What the sensor makes of colours `[..., 3]`: gain, saturation, contrast, gamma, rounding."""
        light = np.asarray(colors, dtype=np.float64) / 255.0 * np.asarray(self.gain)
        grey = light @ np.array([0.299, 0.587, 0.114])
        light = grey[..., None] + self.saturation * (light - grey[..., None])
        light = 0.5 + self.contrast * (light - 0.5)
        return np.rint(255.0 * np.clip(light, 0.0, 1.0) ** self.gamma).astype(np.uint8)
