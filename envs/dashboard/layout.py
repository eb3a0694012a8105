"""Where the panels of a picture for people stand: one plan for the human view and all films.

boxes = plan(aspect=2.0)
"""

from __future__ import annotations

from dataclasses import dataclass

from envs.dashboard.canvas import HEIGHT, MARGIN, WIDTH, Box

_HEADER = 50
"""Rows of the line at the top."""
_VIEW = 360
"""Rows of the camera's picture."""
_VIEW_MOST = 792
"""Columns of it at most; a wider one gets fewer rows."""
_WHEEL = 230
"""Columns of the steering wheel."""
_STRIPS = 590
"""Columns of the lines over the last seconds."""


@dataclass(frozen=True)
class Plan:
    """Boxes on a picture of `HEIGHT` × `WIDTH`."""

    header: Box
    """Who drives and how it stands."""
    view: Box
    """The camera's picture, large, in its own shape."""
    side: Box
    """All that is right of it."""
    steering: Box
    """The wheel."""
    strips: Box
    """Lines over the last seconds."""
    inside: Box
    """The inside of the driver."""

    @property
    def side_top(self) -> Box:
        """The upper half of `side`."""
        return Box(self.side.x, self.side.y, self.side.width, (self.side.height - MARGIN) // 2)

    @property
    def side_bottom(self) -> Box:
        """The lower half of `side`."""
        top = self.side_top
        return Box(top.x, top.y + top.height + MARGIN, top.width, self.side.height - top.height - MARGIN)

    @property
    def strip_top(self) -> Box:
        """The upper half of `strips`."""
        return Box(self.strips.x, self.strips.y, self.strips.width, (self.strips.height - MARGIN) // 2)

    @property
    def strip_bottom(self) -> Box:
        """The lower half of `strips`."""
        top = self.strip_top
        return Box(top.x, top.y + top.height + MARGIN, top.width, self.strips.height - top.height - MARGIN)

    @property
    def below(self) -> Box:
        """`strips` and `inside` as one."""
        return Box(self.strips.x, self.strips.y, WIDTH - MARGIN - self.strips.x, self.strips.height)


def plan(aspect: float) -> Plan:
    """Lay out a picture.

    Args:
        aspect: columns by rows of the camera's picture, > 0.
    """
    width = max(2, min(_VIEW_MOST, round(_VIEW * aspect)))
    height = min(_VIEW, round(width / aspect))
    left, top = MARGIN, MARGIN + _HEADER
    side = Box(left + width + MARGIN, top, WIDTH - 3 * MARGIN - width, _VIEW)
    below = top + _VIEW + MARGIN
    rows = HEIGHT - MARGIN - below
    strips = Box(left + _WHEEL + MARGIN, below, _STRIPS, rows)
    inside_left = strips.x + strips.width + MARGIN
    return Plan(
        header=Box(left, MARGIN - 6, WIDTH - 2 * MARGIN, _HEADER),
        view=Box(left, top + (_VIEW - height) // 2, width, height),
        side=side,
        steering=Box(left, below, _WHEEL, rows),
        strips=strips,
        inside=Box(inside_left, below, WIDTH - MARGIN - inside_left, rows),
    )
