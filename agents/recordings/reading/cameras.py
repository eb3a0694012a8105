"""One camera out of several that share a column of pictures: the one that looks ahead.

Logs such as `interpolated.csv` of Udacity's second challenge have a row for each of three cameras, and augmented logs
have the side cameras' rows, with labels made up, below the centre's. Read as one drive they would be a jumble.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.pictures import SUFFIXES
from agents.recordings.reading.tables import Table

_AHEAD = {"center", "centre", "middle", "front", "forward", "mid"}
_SIDES = {"left", "right", "rear", "back"}
# Words that may stand beside; "left_turn" and "recovery_right" say what the car did, not where a camera looked.
_BESIDE = {"camera", "cam", "image", "img", "rgb", "color", "colour", "raw", "compressed", "view", "frame", "picture"}
_BESIDE |= {suffix.lstrip(".") for suffix in SUFFIXES}
_SAYS_CAMERA = {"camera", "cam", "frame", "sensor", "topic", "view"}
_LEAST = 0.1  # share of rows from which on a word tells cameras apart
_MOST_KINDS = 12


def looking_ahead(table: Table, picture: int) -> tuple[NDArray[np.bool_], str | None]:
    """Choose the rows of the camera that looks ahead.

    Args:
        table: The table.
        picture: Its column of pictures.

    Returns:
        bool `[n]`, and what the choice goes by: a column's name or the pictures' paths; None where there is one camera.
    """
    rows = len(table.rows)
    if table.header is not None:
        for index, name in enumerate(table.header[: len(table.rows[0]) if rows else 0]):
            said = {*re.split(r"[^a-z]+", name.lower())}
            if index == picture or not said & _SAYS_CAMERA:
                continue
            cells = table.column(index)
            if len({*cells}) <= _MOST_KINDS and (chosen := _choose([_side(cell) for cell in cells])) is not None:
                return chosen, f"the column {name!r}"
    chosen = _choose([_side_of_path(cell) for cell in table.column(picture)])
    return (np.ones(rows, bool), None) if chosen is None else (chosen, "the pictures' names")


def _choose(sides: list[str | None]) -> NDArray[np.bool_] | None:
    """Return which rows look ahead; the left eye of two; None where there is nothing to choose."""
    found = np.asarray(["" if side is None else side for side in sides])
    ahead = np.isin(found, sorted(_AHEAD))
    aside = np.isin(found, sorted(_SIDES))
    if ahead.mean() >= _LEAST and aside.mean() >= _LEAST:
        return ahead
    left, right = found == "left", found == "right"
    if not ahead.any() and left.mean() >= _LEAST and right.mean() >= _LEAST:
        return left
    return None


def _side(text: str) -> str | None:
    """Return the word that says where a camera looks; None where words say more than that."""
    words = [word for word in re.split(r"[^a-z]+", text.lower()) if word and word not in _BESIDE]
    return words[0] if len(words) == 1 and words[0] in _AHEAD | _SIDES else None


def _side_of_path(path: str) -> str | None:
    """Return where a picture's camera looks, by its name or else by the folder next to it."""
    parts = [part for part in re.split(r"[\\/]+", path) if part]
    return next((side for part in reversed(parts[-3:]) if (side := _side(part)) is not None), None)
