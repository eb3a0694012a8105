"""Random looks: from one plain asphalt road to taped floors in cluttered halls and worn country roads.

`variety` goes from 0, one plain asphalt road with white lines under a blue sky, to 1, taped floors in cluttered halls,
worn country roads, kerbs, shadows, reflections and odd cameras.

    look = draw_look(np.random.default_rng(3), variety=1.0)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from envs.scene.look import Color, Line, Look, Surface, to_color

_INDOOR = 0.6  # share of indoor looks
_TRIES = 30
_DARKEST, _BRIGHTEST = 22.0, 215.0
_LEAST_CONTRAST = 45.0

_WHITE: Color = (238.0, 238.0, 230.0)
_YELLOW: Color = (228.0, 196.0, 48.0)
_FLOORS: tuple[Color, ...] = (
    (122.0, 112.0, 92.0),
    (96.0, 92.0, 80.0),
    (140.0, 136.0, 128.0),
    (84.0, 84.0, 86.0),
    (150.0, 120.0, 90.0),
    (62.0, 66.0, 78.0),
    (112.0, 122.0, 110.0),
    (176.0, 168.0, 152.0),
    (44.0, 44.0, 46.0),
)
_VERGES: tuple[Color, ...] = (
    (78.0, 104.0, 46.0),
    (120.0, 128.0, 66.0),
    (150.0, 128.0, 86.0),
    (178.0, 150.0, 104.0),
    (128.0, 124.0, 116.0),
    (98.0, 76.0, 54.0),
    (196.0, 190.0, 178.0),
    (60.0, 84.0, 52.0),
)
_ROADS: tuple[Color, ...] = (
    (88.0, 88.0, 90.0),
    (66.0, 66.0, 70.0),
    (112.0, 110.0, 108.0),
    (136.0, 130.0, 122.0),
    (98.0, 90.0, 84.0),
    (50.0, 52.0, 56.0),
)


def draw_look(generator: np.random.Generator, variety: float = 1.0) -> Look:
    """Draw a look.

    Args:
        generator: where the random numbers come from.
        variety: in [0, 1]: the probability that the look differs from the standard one (with fresh details), and how
            far it may.
    """
    seed = int(generator.integers(2**31))
    draw = _Draw(generator, variety)
    if not draw.chance(1.0):
        return Look(seed=seed)
    for _ in range(_TRIES):
        look = _indoor(draw) if draw.generator.random() < _INDOOR else _outdoor(draw)
        look = _photograph(draw, replace(look, seed=seed))
        if _readable(look):
            break
    return look


def _readable(look: Look) -> bool:
    """Whether each line stands out from the pavement in the picture, and the pavement is neither black nor white."""
    ground = look.develop(look.road.middle).astype(np.float64)
    if not _DARKEST < ground.mean() < _BRIGHTEST:
        return False
    lines = [line for line in (look.left, look.right, look.centre) if line.width_m > 0.0]
    return all(np.abs(look.develop(line.color).astype(np.float64) - ground).max() > _LEAST_CONTRAST for line in lines)


@dataclass
class _Draw:
    """Draws that shrink towards a middle as the variety falls."""

    generator: np.random.Generator
    variety: float
    tints: list[Color] = field(default_factory=list)

    def chance(self, probability: float) -> bool:
        return bool(self.generator.random() < probability * self.variety)

    def between(self, low: float, high: float, middle: float | None = None) -> float:
        middle = 0.5 * (low + high) if middle is None else middle
        return middle + self.variety * (float(self.generator.uniform(low, high)) - middle)

    def pick(self, *options):  # noqa: ANN002, ANN202 - any kind of option
        return options[int(self.generator.integers(len(options)))]

    def near(self, color: Color, spread: float) -> Color:
        shift = self.generator.normal(0.0, spread * self.variety, 3) + self.generator.normal(0.0, spread * self.variety)
        red, green, blue = np.clip(np.asarray(color) + shift, 0.0, 255.0)
        return float(red), float(green), float(blue)

    def any_color(self) -> Color:
        red, green, blue = self.generator.uniform(0.0, 255.0, 3)
        return float(red), float(green), float(blue)

    def surface(self, color: Color, spread: float, contrast: tuple[float, float]) -> Surface:
        middle = np.asarray(self.near(color, spread))
        depth = self.between(*contrast)
        dark, bright = middle * (1.0 - depth), middle * (1.0 + depth)
        tint = self.generator.normal(0.0, 6.0 * self.variety, 3)
        return Surface(
            to_color(dark - tint),
            to_color(bright + tint),
            self.between(0.1, 0.9),
            self.between(0.1, 0.6),
            self.between(0.1, 0.9),
        )


def _indoor(draw: _Draw) -> Look:
    floor = draw.surface(draw.pick(*_FLOORS), 14.0, (0.04, 0.25))
    same = draw.chance(0.75)
    verge = floor if same else draw.surface(draw.pick(*_FLOORS, *_VERGES), 18.0, (0.05, 0.3))
    edge = draw.near(
        draw.pick(_WHITE, _WHITE, _WHITE, _YELLOW, (40.0, 90.0, 190.0), (200.0, 60.0, 50.0), (30.0, 30.0, 30.0)), 12.0
    )
    middle = draw.near(draw.pick(_YELLOW, _YELLOW, _YELLOW, _WHITE, (240.0, 140.0, 40.0), (60.0, 160.0, 90.0)), 14.0)
    scenery = draw.pick("hall", "hall", "room", "town")
    ceiling = draw.near(draw.pick((26.0, 24.0, 22.0), (60.0, 58.0, 56.0), (170.0, 168.0, 160.0)), 12.0)
    wall = draw.near(
        draw.pick((58.0, 54.0, 48.0), (120.0, 116.0, 108.0), (190.0, 186.0, 176.0), (36.0, 36.0, 38.0)), 14.0
    )
    return Look(
        road=floor,
        verge=verge,
        left=_line(draw, edge, (0.025, 0.075), 0.0),
        right=_line(draw, draw.pick(edge, edge, draw.near(_WHITE, 10.0)), (0.025, 0.075), 0.0),
        centre=_line(draw, middle, (0.025, 0.075), 0.8),
        inset_m=draw.between(0.0, 0.04),
        wear=draw.between(0.0, 0.35, 0.0),
        cracks_per_m=draw.between(0.0, 0.3, 0.0) if draw.chance(0.4) else 0.0,
        patches_per_m=draw.between(0.0, 0.2, 0.0) if draw.chance(0.3) else 0.0,
        strays_per_m=draw.between(0.0, 0.35, 0.0) if draw.chance(0.6) else 0.0,
        shadow=draw.between(0.0, 0.5, 0.0) if draw.chance(0.6) else 0.0,
        gloss=draw.between(0.1, 0.6) if draw.chance(0.65) else 0.0,
        scenery=scenery,
        sky=(ceiling, wall),
        clutter=draw.between(0.2, 1.0),
        bonnet=draw.any_color() if draw.chance(0.08) else None,
        bonnet_height=draw.between(0.04, 0.16),
    )


def _outdoor(draw: _Draw) -> Look:
    road = draw.surface(draw.pick(*_ROADS), 12.0, (0.08, 0.4))
    edge = draw.near(draw.pick(_WHITE, _WHITE, _WHITE, _YELLOW), 12.0)
    middle = draw.near(draw.pick(_WHITE, _WHITE, _YELLOW), 12.0)
    kerb = None
    if draw.chance(0.25):
        kerb = (
            draw.near(draw.pick((190.0, 50.0, 45.0), (50.0, 80.0, 160.0), (40.0, 40.0, 40.0)), 14.0),
            draw.near(_WHITE, 12.0),
        )
    overhead = draw.near(
        draw.pick((80.0, 130.0, 205.0), (130.0, 170.0, 220.0), (160.0, 165.0, 172.0), (70.0, 90.0, 140.0)), 14.0
    )
    haze = draw.near(
        draw.pick((205.0, 220.0, 235.0), (190.0, 194.0, 198.0), (236.0, 214.0, 180.0), (150.0, 180.0, 220.0)), 10.0
    )
    none = Line(width_m=0.0)
    return Look(
        road=road,
        verge=draw.surface(draw.pick(*_VERGES), 16.0, (0.12, 0.5)),
        left=none
        if draw.chance(0.06)
        else _line(draw, draw.pick(edge, edge, draw.near(_YELLOW, 12.0)), (0.02, 0.06), 0.05),
        right=none if draw.chance(0.04) else _line(draw, edge, (0.02, 0.06), 0.05),
        centre=none if draw.chance(0.06) else _line(draw, middle, (0.02, 0.06), 0.75),
        inset_m=draw.between(0.0, 0.07),
        wear=draw.between(0.0, 0.6, 0.0),
        kerb=kerb,
        kerb_width_m=draw.between(0.06, 0.2),
        cracks_per_m=draw.between(0.0, 1.0, 0.0) if draw.chance(0.6) else 0.0,
        patches_per_m=draw.between(0.0, 0.35, 0.0) if draw.chance(0.5) else 0.0,
        strays_per_m=draw.between(0.0, 0.1, 0.0) if draw.chance(0.3) else 0.0,
        shadow=draw.between(0.1, 0.7) if draw.chance(0.45) else 0.0,
        gloss=draw.between(0.05, 0.3) if draw.chance(0.15) else 0.0,
        scenery=draw.pick("country", "country", "country", "town"),
        sky=(overhead, haze),
        clutter=draw.between(0.1, 1.0),
        bonnet=draw.any_color() if draw.chance(0.12) else None,
        bonnet_height=draw.between(0.04, 0.16),
    )


def _line(draw: _Draw, color: Color, widths: tuple[float, float], dashed: float) -> Line:
    width = draw.between(*widths)
    if not draw.chance(dashed):
        return Line(color, width, double=draw.chance(0.08))
    dash = draw.between(0.06, 0.45)
    return Line(color, width, dash_m=dash, gap_m=dash * draw.between(0.3, 1.8))


def _photograph(draw: _Draw, look: Look) -> Look:
    """The camera's part of the look: exposure, colours, lens."""
    exposure = float(np.exp(draw.between(-0.6, 0.45, 0.0)))
    balance = np.exp(draw.generator.normal(0.0, 0.1 * draw.variety, 3))
    red, green, blue = exposure * balance
    return replace(
        look,
        gain=(float(red), float(green), float(blue)),
        gamma=draw.between(0.7, 1.35, 1.0),
        contrast=draw.between(0.75, 1.3, 1.0),
        saturation=draw.between(0.3, 1.4, 1.0),
        vignette=draw.between(0.0, 0.6, 0.0) if draw.chance(0.5) else 0.0,
        blur_px=draw.between(0.0, 0.9, 0.0) if draw.chance(0.5) else 0.0,
        noise=draw.between(0.0, 8.0, 0.0) if draw.chance(0.5) else 0.0,
        exposure_s=draw.between(0.0, 0.05, 0.0) if draw.chance(0.35) else 0.0,
    )
