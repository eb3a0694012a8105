"""Frames kept as one video file, read forwards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)


class VideoFile:
    """A `FrameSource` over a video, at its best when runs are asked for in rising order.

    A raw stream cannot be entered in the middle: going back means decoding from the beginning. `materialise` reads
    forwards only and is the way to learn from videos. The file is open from the first read to the last frame.

    Args:
        path: The file.

    Raises:
        ValueError: if it holds no picture that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        first = next(_decode(path), None)
        if first is None:
            raise ValueError(f"{path} should be a video, no frame of it can be decoded; copy it again.")
        self.height, self.width = first.shape[:2]
        self._lock = threading.Lock()
        self._frames: Iterator[NDArray[np.uint8]] | None = None
        self._latest = first
        self._position = 0
        self._reported = False

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a run of frames.

        Returns:
            uint8 `[n, H, W, 3]` RGB, and bool `[n]`: False past the end of the video, where its last frame stands in.
        """
        frames = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        good = np.ones(stop - start, bool)
        with self._lock:
            if self._frames is None or start < self._position:
                self._frames, self._position = _decode(self.path), 0
            for index in range(self._position, stop):
                frame = next(self._frames, None)
                if frame is None:
                    self._report(index)
                    frames[max(index - start, 0) :] = self._latest
                    good[max(index - start, 0) :] = False
                    self._frames = None
                    break
                self._latest, self._position = frame, index + 1
                if index >= start:
                    frames[index - start] = frame
        return frames, good

    def _report(self, index: int) -> None:
        if not self._reported:
            _LOG.warning("%s ends at frame %d, before its log does", self.path, index)
            self._reported = True


def _decode(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames from the first on; damage ends the video there."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    except (av.FFmpegError, IndexError) as error:
        _LOG.warning("%s cannot be decoded further: %s", path, error)
