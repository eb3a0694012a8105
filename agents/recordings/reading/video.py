"""Frames kept as one video file, read forwards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from agents.recordings.reading.files import check_fetched, one_line

SUFFIXES = (
    *(".mp4", ".hevc", ".h264", ".h265", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".mjpeg", ".mjpg"),
)
"""Ends of the names of videos."""
SEEK_FRAMES = 64
"""Going ahead by more frames than this, the video is entered at a key frame instead of being decoded all the way."""
MOST_PIXELS = 40_000_000
"""A video with more pixels a frame comes from no driving camera."""

# Others, such as AVI, keep the order in which frames are decoded, and players make up when they are shown.
_TELL_FRAMES = {"mov", "mp4", "matroska", "webm", "mpegts", "flv", "asf", "ogg"}
_LOG = logging.getLogger(__name__)


class VideoFile:
    """A `FrameSource` over a video, at its best when runs are asked for in rising order.

    A raw stream cannot be entered in the middle: going back means decoding from the beginning. `cache_frames` reads
    forwards only and is the way to learn from videos. The file is open from the first read to the last frame. Videos
    in a container (.mp4 and such) with `stamps_s` known are entered at the key frame before what is asked for, and
    every frame is put where its time stamp belongs: one that cannot be decoded does not move those behind it.

    Args:
        path: The file.

    Raises:
        ValueError: if it holds no picture that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        check_fetched(path)
        self.path = path
        first = next(_decode(path), None)
        if first is None:
            raise ValueError(f"{path} should be a video, no frame of it can be decoded; copy it again.")
        self.height, self.width = first[1].shape[:2]
        self._lock = threading.Lock()
        self._frames: Iterator[tuple[int | None, NDArray[np.uint8]]] | None = None
        self._next: tuple[int, NDArray[np.uint8]] | None = None  # decoded already, and where it belongs
        self._latest = first[1]
        self._position = 0
        self._stamps: NDArray[np.int64] | None = None
        self._stamps_s: NDArray[np.float64] | None = None
        self._told = False  # whether the container tells the time of each frame, not only of packets
        self._reported = False

    def stamps_s(self) -> NDArray[np.float64]:
        """Return the time of every frame that is shown, seconds from the first, read from the container undecoded.

        What a film that was cut without decoding keeps before its first frame is not shown, and is no frame.

        Raises:
            ValueError: if the container keeps no times, as raw streams do.
        """
        if self._stamps_s is not None:
            return self._stamps_s
        pts: list[int] = []
        base = 1.0
        try:
            with av.open(str(self.path)) as container:
                self._told = bool({*container.format.name.split(",")} & _TELL_FRAMES)
                stream = container.streams.video[0]
                base = float(stream.time_base or 1)
                for packet in container.demux(stream):
                    if packet.size and not packet.is_discard:  # the last, empty one flushes the decoder
                        if packet.pts is None:
                            raise ValueError("it keeps no times of its frames")
                        pts.append(packet.pts)
        except Exception as error:  # FFmpegError, and what PyAV makes of damaged metadata
            text = f"{self.path} tells no time of its frames ({one_line(error)}); give the rate by --nominal-rate."
            raise ValueError(text) from None
        if not pts:
            raise ValueError(f"{self.path} holds no frame; copy it again.")
        self._stamps = np.sort(np.asarray(pts, np.int64))
        self._stamps_s = (self._stamps - self._stamps[0]) * base
        return self._stamps_s

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a run of frames.

        Returns:
            uint8 `[n, H, W, 3]` RGB, and bool `[n]`: False past the end of the video, where its last frame stands in.
        """
        frames = np.empty((stop - start, self.height, self.width, 3), np.uint8)
        good = np.ones(stop - start, bool)
        with self._lock:
            far = self._stamps is not None and self._told and start > self._position + SEEK_FRAMES
            if self._frames is None or start < self._position or far:
                self._enter(start)
            for index in range(self._position, stop):
                found = self._at(index)
                if found is None:
                    self._report(index)
                    frames[max(index - start, 0) :] = self._latest
                    good[max(index - start, 0) :] = False
                    self._frames = None
                    break
                shown, self._latest = found
                self._position = index + 1
                if index >= start:
                    frames[index - start], good[index - start] = self._latest, shown
        return frames, good

    def _at(self, index: int) -> tuple[bool, NDArray[np.uint8]] | None:
        """Return the next frame, which is the one of this index, or the one before and False where it is missing.

        None when the video has ended.
        """
        while self._next is None:
            assert self._frames is not None
            pts, frame = next(self._frames, (None, None))
            if frame is None or frame.shape != self._latest.shape:
                return None
            place = self._place(pts, index)
            if place >= index:
                self._next = place, frame
        place, frame = self._next
        if place > index:
            return False, self._latest
        self._next = None
        return True, frame

    def _place(self, pts: int | None, index: int) -> int:
        """Return the index of a frame by its time stamp; the one that is due where it has none that is known."""
        if self._stamps is None or pts is None or not self._told:
            return index
        first, last = np.searchsorted(self._stamps, pts), np.searchsorted(self._stamps, pts, side="right")
        return index if first == last else int(np.clip(index, first, last - 1))

    def _enter(self, start: int) -> None:
        """Begin to decode, at the frame asked for when the container allows it."""
        self._next = None
        if self._stamps is not None and self._told and SEEK_FRAMES < start < len(self._stamps):
            self._frames, self._position = _decode(self.path, int(self._stamps[start])), start
        else:
            self._frames, self._position = _decode(self.path), 0

    def _report(self, index: int) -> None:
        if not self._reported:
            _LOG.warning("%s ends at frame %d, before its log does", self.path, index)
            self._reported = True


def _decode(path: Path, from_pts: int | None = None) -> Iterator[tuple[int | None, NDArray[np.uint8]]]:
    """Yield the frames with their time stamps, from the first on, or from a time stamp on; damage ends the video there.

    A film whose camera was held upside down or on its side, and noted it, is turned upright, as every player does.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MOST_PIXELS:
                raise ValueError(f"{stream.width}×{stream.height} pixels are those of no driving camera")
            if from_pts is not None:
                container.seek(from_pts, stream=stream)
            for frame in container.decode(stream):
                if from_pts is None or (frame.pts is not None and frame.pts >= from_pts):
                    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise
                    yield frame.pts, (np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture)
    except Exception as error:  # FFmpegError, IndexError without a picture stream, and what damaged metadata make
        _LOG.warning("%s cannot be decoded further: %s", path, one_line(error))
