"""Two drives of the same road beside one another: two drivers, or one driver clean and perturbed.

film = SideBySideFilm(track, 0.05, [("ltc", "clean", True), ("ltc", "fog, severity 3 of 5", False)], "road 7", 2.0)
picture = film.draw([left, right])  # uint8 [720, 1280, 3]
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.dashboard.canvas import DRIVER, HEIGHT, MARGIN, REFERENCE, WIDTH, Box, Picture, blank_picture
from envs.dashboard.panels import Header, MapPanel, SeenPanel, SteeringPanel
from envs.lane_keeping.dashboard import offset_strip
from envs.road.track import Track
from experiments.film.films import Moment, show_view

_HEADER, _VIEW, _STRIP = 50, 290, 140
_WHEEL, _SEEN = 190, 250
COLORS = (DRIVER, REFERENCE)
"""Of the left and the right car."""


class SideBySideFilm:
    """Pictures of two drives."""

    def __init__(self, track: Track, period_s: float, takes: Sequence[tuple[str, str, bool]], road: str, aspect: float):
        """Lay out the panels.

        Args:
            track: the road of both.
            period_s: time between two pictures, s.
            takes: name, what is wrong with the world, and whether nothing is, of the left and the right one.
            road: which road it is.
            aspect: columns by rows of the camera's picture.
        """
        half = (WIDTH - 3 * MARGIN) // 2
        lefts = (MARGIN, MARGIN + half + MARGIN)
        top = MARGIN + _HEADER
        strip = top + _VIEW + MARGIN
        bottom = strip + _STRIP + MARGIN
        rows = HEIGHT - MARGIN - bottom
        width = min(half, round(_VIEW * aspect))
        self._views = [Box(left + (half - width) // 2, top, width, _VIEW) for left in lefts]
        self._headers = [
            Header(Box(left, MARGIN - 6, half, _HEADER), name, wrong, clean, colour)
            for left, (name, wrong, clean), colour in zip(lefts, takes, COLORS, strict=True)
        ]
        self._offsets = [
            offset_strip(Box(left, strip, half, _STRIP), period_s, colour)
            for left, colour in zip(lefts, COLORS, strict=True)
        ]
        far = WIDTH - MARGIN - _WHEEL
        self._wheels = [
            SteeringPanel(Box(left, bottom, _WHEEL, rows), color=colour)
            for left, colour in zip((MARGIN, far), COLORS, strict=True)
        ]
        near = MARGIN + _WHEEL + MARGIN
        self._seen = [SeenPanel(Box(left, bottom, _SEEN, rows), note="") for left in (near, far - MARGIN - _SEEN)]
        middle = near + _SEEN + MARGIN
        self._map = MapPanel(Box(middle, bottom, WIDTH - 2 * middle, rows), track, note=road)

    def draw(self, moments: Sequence[Moment]) -> Picture:
        """Draw one picture, uint8 `[720, 1280, 3]`."""
        picture = blank_picture()
        for number, moment in enumerate(moments):
            show_view(picture, moment.view, self._views[number])
            self._headers[number].draw(picture, _status(moment), moment.crashed)
            self._offsets[number].draw(picture, moment.offset_lane)
            self._wheels[number].draw(picture, moment.steering)
            if moment.insight is None:
                self._seen[number].draw(picture, moment.seen)
            else:
                self._seen[number].draw(picture, moment.insight.seen.numpy(), moment.insight.saliency.numpy())
        cars = [(moment.x, moment.y, moment.yaw, moment.crashed, COLORS[n]) for n, moment in enumerate(moments)]
        self._map.draw(picture, *cars)
        return picture

    def end(self, picture: Picture, outcomes: Sequence[tuple[str, bool]]) -> Picture:
        """Return the last picture with how each drive went in its header."""
        picture = picture.copy()
        for header, (words, crashed) in zip(self._headers, outcomes, strict=True):
            way = words.split(",")[0].replace(" without leaving the road", ", stayed on the road")
            header.draw(picture, way.split(" in ")[0] if crashed else way, crashed)  # half a line is short
        return picture


def _status(moment: Moment) -> str:
    return f"left the road   {moment.time_s:.1f} s" if moment.crashed else f"{moment.time_s:.1f} s"
