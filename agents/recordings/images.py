"""Frames kept as picture files, one a frame, as Donkeycar tubs and Udacity logs keep them.

`picture_size` reads a header and checks that the file is complete, without decoding: cheap enough for every file at
load. `PictureFiles` decodes when frames are asked for. A picture that passes the first and fails the second is stood in
for by its nearest good neighbour and marked, and the log says so once.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset(range(0xD0, 0xDA)) | {0x01}


class BadPicture(ValueError):
    """A file that is not a complete picture; the message is the reason, as counted in `EpisodeSet.skipped`."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return H and W in pixels of a JPEG or PNG file after checking that it has an end.

    Raises:
        BadPicture: if the file is missing, empty, of another kind, or truncated.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadPicture("picture file missing") from None
    except OSError:
        raise BadPicture("picture file unreadable") from None
    if not content:
        raise BadPicture("picture file of zero bytes")
    if content[:2] == b"\xff\xd8":
        if b"\xff\xd9" not in content[-1024:]:
            raise BadPicture("picture file truncated")
        return _jpeg_size(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        if len(content) < 33 or b"IEND" not in content[-1024:]:
            raise BadPicture("picture file truncated")
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    raise BadPicture("file neither JPEG nor PNG")


class PictureFiles:
    """A `FrameSource` over picture files of one size.

    Args:
        paths: One file a frame, in order.
        height: H of every picture, pixels.
        width: W of every picture, pixels.
    """

    def __init__(self, paths: Sequence[Path], height: int, width: int) -> None:
        self.paths = tuple(paths)
        self.height = height
        self.width = width
        self._reported = False

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Decode a run of pictures.

        Returns:
            uint8 `[n, H, W, 3]` RGB and bool `[n]`, False where a neighbour stands in.

        Raises:
            ValueError: if no picture of the run can be decoded.
        """
        frames = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        good = np.zeros(stop - start, bool)
        for row in range(stop - start):
            good[row] = self._decode(start + row, frames[row])
        if not good.all():
            self._stand_in(frames, good, start)
        return frames, good

    def _decode(self, index: int, out: NDArray[np.uint8]) -> bool:
        """Decode one picture into uint8 `[H, W, 3]`; False when it cannot be done."""
        picture = cv2.imread(str(self.paths[index]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None or picture.shape != out.shape:
            return False
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=out)
        return True

    def _stand_in(self, frames: NDArray[np.uint8], good: NDArray[np.bool_], start: int) -> None:
        """Fill each undecodable frame with its nearest good neighbour."""
        first_bad = self.paths[start + int(np.argmin(good))]
        if not self._reported:
            _LOG.warning("%s cannot be decoded; the frame next to it stands in (said once a recording)", first_bad)
            self._reported = True
        if not good.any():
            others = sorted(range(len(self.paths)), key=lambda index: abs(index - start))
            if not any(self._decode(index, frames[0]) for index in others):
                raise ValueError(
                    f"{first_bad} and the other pictures beside it cannot be decoded; record or copy again."
                )
            frames[1:] = frames[0]
            return
        known = np.flatnonzero(good)
        for row in np.flatnonzero(~good):
            frames[row] = frames[known[np.argmin(np.abs(known - row))]]


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Walk the segments of a JPEG to its frame header (SOF)."""
    at = 2
    while at + 9 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        elif marker in _SIZE_MARKERS:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            if height == 0 or width == 0:
                break
            return height, width
        else:
            at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    raise BadPicture("picture header damaged")
