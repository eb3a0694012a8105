"""Small things to draw on a picture: clean text, smooth lines, panels. Fast enough for every frame of a film.

Pictures are uint8 `[H, W, 3]` RGB, positions `(x, y)` in pixels from the top left, and everything is drawn in place.
A colour has one meaning wherever it appears; `DRIVER`, `REFERENCE`, `ALARM`, `EXCITES` and `INHIBITS` say which.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

BACKGROUND: Color = (13, 17, 26)
PANEL: Color = (22, 28, 40)
FAINT: Color = (58, 68, 86)
MUTED: Color = (138, 150, 170)
TEXT: Color = (232, 238, 247)
DRIVER: Color = (255, 183, 77)
"""The driver: its steering, its path."""
REFERENCE: Color = (92, 191, 255)
"""What it is compared with: the human, the expert, another driver."""
ALARM: Color = (255, 99, 92)
"""Leaving the road."""
EXCITES: Color = (96, 211, 148)
"""Current that raises a neuron's voltage."""
INHIBITS: Color = (198, 120, 221)
"""Current that lowers it."""

HEIGHT, WIDTH = 720, 1280
"""Size of a film and of the human view, pixels."""
LABEL, CAPTION, TITLE = 18, 18, 24
"""Sizes of letters, pixels: legible when the picture is shown at half its size."""
MARGIN = 12
"""Between panels, pixels."""
CAPTION_ROWS = 38
"""Rows of a panel that its caption takes."""

_ABOVE = 4
"""Rows kept above the capital letters, for dots and accents."""
_SUBPIXEL = 4
"""Fractional bits that OpenCV's lines are placed with."""


class Box(NamedTuple):
    """A rectangle on a picture."""

    x: int
    """Left edge, pixels."""
    y: int
    """Top edge, pixels."""
    width: int
    """Columns."""
    height: int
    """Rows."""

    def of(self, picture: Picture) -> Picture:
        """Return the view of a picture that lies inside."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]

    def inset(self, left: int, top: int, right: int, bottom: int) -> Box:
        """Return the box with margins taken off."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


_BLANK = np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)


def blank_picture() -> Picture:
    """Return an empty picture of a film, `[720, 1280, 3]`; a copy is made ten times as fast as a filled array."""
    return _BLANK.copy()


def text(
    picture: Picture,
    content: str,
    x: float,
    y: float,
    size: int = LABEL,
    color: Color = TEXT,
    bold: bool = False,
    anchor: str = "l",
) -> None:
    """Write a line.

    Args:
        picture: to write on.
        content: what to write.
        x: left edge, middle or right edge, by `anchor`.
        y: top of capital letters.
        size: of the font, pixels.
        color: of the letters.
        bold: heavier letters.
        anchor: "l", "m" or "r".
    """
    mask = _letters(content, size, bold)
    left = round(x - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor] * mask.shape[1])
    top = round(y) - _ABOVE
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + mask.shape[1], picture.shape[1]), min(top + mask.shape[0], picture.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    share = mask[y0 - top : y1 - top, x0 - left : x1 - left, None] * np.float32(1 / 255)
    below = picture[y0:y1, x0:x1]
    picture[y0:y1, x0:x1] = (below + share * (np.array(color, np.float32) - below) + 0.5).astype(np.uint8)


def text_width(content: str, size: int = LABEL, bold: bool = False) -> int:
    """Return the width of a line in pixels."""
    return _letters(content, size, bold).shape[1]


def line(picture: Picture, points: NDArray[np.floating], color: Color, width: int = 1, closed: bool = False) -> None:
    """Draw a smooth line through points `[N, 2]`."""
    if len(points) < 2:
        return
    fixed = np.round(np.asarray(points, np.float64) * (1 << _SUBPIXEL)).astype(np.int32)
    cv2.polylines(picture, [fixed], closed, color, width, cv2.LINE_AA, _SUBPIXEL)


def dot(picture: Picture, x: float, y: float, radius: float, color: Color) -> None:
    """Draw a filled circle."""
    scale = 1 << _SUBPIXEL
    centre = (round(x * scale), round(y * scale))
    cv2.circle(picture, centre, round(radius * scale), color, -1, cv2.LINE_AA, _SUBPIXEL)


def panel(picture: Picture, box: Box, caption: str = "", note: str = "", radius: int = 8) -> None:
    """Draw a panel with round corners, a caption at the top left and, dimmer behind it, what to look for."""
    view = box.of(picture)
    shape = np.zeros(view.shape[:2], np.uint8)
    for x in (radius, box.width - 1 - radius):
        for y in (radius, box.height - 1 - radius):
            cv2.circle(shape, (x, y), radius, 255, -1, cv2.LINE_AA)
    shape[radius : box.height - radius] = 255
    shape[:, radius : box.width - radius] = 255
    share = shape[..., None] / 255.0
    view[:] = np.round(view + share * (np.array(PANEL) - view)).astype(np.uint8)
    if caption:
        text(picture, caption, box.x + 12, box.y + 11, CAPTION, TEXT, bold=True)
    left = text_width(caption, CAPTION, bold=True) + 24
    if note and left + text_width(note, LABEL - 2) + 8 <= box.width:
        text(picture, note, box.x + left, box.y + 12, LABEL - 2, MUTED)


def chip(picture: Picture, words: str, x: int, y: int, color: Color = TEXT) -> None:
    """Write words on a dark strip that any background shines through."""
    view = Box(x, y, text_width(words) + 20, 32).of(picture)
    view[:] = (0.3 * view + 0.7 * np.array(BACKGROUND)).astype(np.uint8)
    text(picture, words, x + 10, y + 9, LABEL, color)


def fit(room: Box, width: int, height: int) -> Box:
    """Return the largest box of a shape in the middle of another."""
    scale = min(room.width / width, room.height / height)
    w, h = round(scale * width), round(scale * height)
    return Box(room.x + (room.width - w) // 2, room.y + (room.height - h) // 2, w, h)


def enlarge(frame: NDArray[np.uint8], width: int, height: int) -> Picture:
    """Scale a frame to a size."""
    how = cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(frame, (width, height), interpolation=how), np.uint8)


def mix(low: Color, high: Color, share: float) -> Color:
    """Return a colour between two, `share` in [0, 1] of the way."""
    share = min(max(share, 0.0), 1.0)
    rest = 1.0 - share
    return (
        int(rest * low[0] + share * high[0] + 0.5),
        int(rest * low[1] + share * high[1] + 0.5),
        int(rest * low[2] + share * high[2] + 0.5),
    )


def rgb(code: str) -> Color:
    """Turn `#rrggbb` into a colour."""
    return tuple(int(code[at : at + 2], 16) for at in (1, 3, 5))  # type: ignore[return-value]


@lru_cache(maxsize=8)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib brings along."""
    import matplotlib  # Takes a moment, and only pictures for people need it.

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


@lru_cache(maxsize=512)
def _letters(content: str, size: int, bold: bool) -> NDArray[np.uint8]:
    """Return a line of text as coverage `[h, w]` in [0, 255]; the capital letters begin `_ABOVE` rows down."""
    font = _font(size, bold)
    top = font.getbbox("H")[1]
    _, _, right, bottom = font.getbbox(content or " ")
    image = Image.new("L", (max(1, int(np.ceil(right))), max(1, int(bottom - top) + 1) + _ABOVE))
    ImageDraw.Draw(image).text((0, _ABOVE - top), content, fill=255, font=font)
    return np.asarray(image)  # read-only
