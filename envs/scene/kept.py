"""Pictures that are wanted again: the next episode on the same road, the same road under another perturbation.

Tests of drivers and comparisons drive the same few roads hundreds of times. What a road looks like depends on nothing
but its shape, its look and the resolution, so the last pictures are kept, in all envs of a process together.

    picture = PICTURES.get(("panorama", look, 0.8, 60.0), lambda: draw_panorama(look, 0.8, 0.1, 60.0))
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from envs.camera.warp import Ground, Panorama

Picture = TypeVar("Picture", Ground, Panorama)

MOST_BYTES = 40_000_000
"""What is kept at most: some forty short roads, or four that are as large as roads that are drawn whole may be."""


class KeptPictures:
    """The pictures that were asked for last, up to a number of bytes; nobody may change what lies here."""

    def __init__(self, most_bytes: int = MOST_BYTES):
        """Begin with none.

        Args:
            most_bytes: how much is kept; what was asked for longest ago goes first.
        """
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, Ground | Panorama] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, draw: Callable[[], Picture]) -> Picture:
        """Return the picture of a key: the one that is kept, or else what `draw` returns."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found  # type: ignore[return-value]
        picture = draw()
        picture.image.setflags(write=False)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = picture
                self._bytes += picture.image.nbytes
            while self._bytes > self._most_bytes and self._kept:
                self._bytes -= self._kept.popitem(last=False)[1].image.nbytes
        return picture


PICTURES = KeptPictures()
