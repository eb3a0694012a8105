"""Films: H.264 in an MP4 that every browser plays, written frame by frame; and small animated previews.

    with VideoWriter("drive.mp4", fps=20) as film:
        for frame in frames:  # uint8 [H, W, 3] RGB, H and W even
            film.append(frame)

Frames are encoded in a thread of its own, a few behind the one that draws them; no more than these are in memory.
The file is made beside its place and moved there when it is complete: an error inside the block, a kill or a full disk
leave whatever was there before.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from agents.runs.files import WriteError, replacing
from agents.runs.ours import MARK

PREVIEW_BYTES = 1_500_000
"""Largest preview unless told otherwise: a README should load at once."""
PREVIEW_FPS = 10.0
"""Pictures per second of a preview."""
AHEAD = 6
"""Frames that may wait for the encoder."""
_BT709 = 1
"""The number of BT.709 in H.264's tables of primaries and transfer functions."""
_X264 = {
    "preset": "veryfast",
    "profile": "high",
    # libavcodec has x264 cut each picture into slices, one a thread: larger files. Frames in parallel cost nothing.
    # The rest: films of panels gain little from weighted prediction, small partitions and fine motion, which take half
    # of the time.
    "x264-params": "sliced-threads=0:bframes=1:weightp=0:subme=1:partitions=i8x8,i4x4",
}
_PREVIEW_STEPS = ((640, 60), (560, 50), (480, 50), (480, 40), (400, 40), (360, 30), (300, 25), (240, 20))
"""Width in pixels and WebP quality of a preview, from what is wished for down to what always fits."""


class VideoWriter:
    """Writes one film; use it as a context."""

    def __init__(self, path: str | Path, fps: float = 20.0, quality: int = 22):
        """Take down what to write; nothing touches the disk before the block begins.

        Args:
            path: the MP4 file to write.
            fps: frames per second, > 0.
            quality: constant rate factor of x264, 0 (perfect) to 51 (worst); 22 looks clean.

        Raises:
            ValueError: if the name does not end in `.mp4`, or a number is out of range.
        """
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"a film is written as MP4: give a name that ends in .mp4, got {str(path)!r}.")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}.")
        if not 0 <= quality <= 51:
            raise ValueError(f"quality must lie in [0, 51], got {quality}.")
        self.fps, self.quality = fps, quality
        self.frame_count = 0
        self._stack = ExitStack()
        self._container: av.container.OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._encoder: ThreadPoolExecutor | None = None
        self._encoding: deque[Future[None]] = deque()

    def __enter__(self) -> VideoWriter:
        partial = self._stack.enter_context(replacing(self.path))
        try:
            # +faststart puts the index in front, so a browser plays while it loads.
            self._container = av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"})
            self._container.metadata["comment"] = MARK
        except BaseException as error:
            if not self._stack.__exit__(type(error), error, error.__traceback__):
                raise
        self._encoder = ThreadPoolExecutor(1, "film")
        return self

    def append(self, frame: NDArray[np.uint8]) -> None:
        """Add a frame.

        Args:
            frame: uint8 `[H, W, 3]` RGB; H and W even and the same for every frame.

        Raises:
            ValueError: if the frame has another type, an odd size, or another size than the first one.
            WriteError: if the disk is full or gone.
        """
        if self._container is None:
            raise RuntimeError("VideoWriter is not open: append inside its `with` block.")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}.")
        height, width = frame.shape[:2]
        if self._stream is None:
            if height % 2 or width % 2 or not height or not width:
                raise ValueError(f"H.264 with yuv420p needs an even height and width, got {height}×{width}.")
            self._stream = self._add_stream(self._container, height, width)
        if (height, width) != (self._stream.height, self._stream.width):
            size = f"{self._stream.height}×{self._stream.width}"
            raise ValueError(f"frames of a film must have one size: {size}, got {height}×{width}.")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")  # a copy
        assert self._encoder is not None
        if len(self._encoding) == AHEAD:
            self._encoding.popleft().result()
        self._encoding.append(self._encoder.submit(self._encode, picture, self.frame_count))
        self.frame_count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            assert self._encoder is not None
            self._encoder.shutdown(cancel_futures=kind is not None)
            if kind is None:
                while self._encoding:
                    self._encoding.popleft().result()
                if self._stream is None:
                    raise ValueError(f"a film needs at least one frame, got none for {self.path}.")
                self._mux(None)
            self._close()
        except BaseException as late:
            kind, error, trace = type(late), late, late.__traceback__
            self._container = None
            self._stack.__exit__(kind, error, trace)
            raise
        self._stack.__exit__(kind, error, trace)

    def _add_stream(self, container: av.container.OutputContainer, height: int, width: int) -> VideoStream:
        stream = container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(self.quality), **_X264}
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries = context.color_trc = _BT709
        return stream

    def _encode(self, picture: av.VideoFrame, number: int) -> None:
        """Encode one picture; runs in the encoder's thread."""
        assert self._stream is not None
        picture = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        picture.pts = number
        picture.time_base = 1 / self._stream.codec_context.framerate
        self._mux(picture)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        """Encode one picture, or with None what the encoder still holds, and write it."""
        assert self._container is not None and self._stream is not None
        try:
            self._container.mux(self._stream.encode(picture))
        except av.error.FFmpegError as error:
            raise self._clear(error) from error

    def _close(self) -> None:
        """Write the index and close the file."""
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except av.error.FFmpegError as error:
                raise self._clear(error) from error

    def _clear(self, error: av.error.FFmpegError) -> OSError:
        """Turn an error of the encoder into one line; `replacing` words those that the system knows."""
        if error.errno in errno.errorcode:
            return OSError(error.errno, error.strerror)
        return WriteError(f"cannot write {self.path}: {error.strerror or error}. What was there before is kept.")


def write_preview(
    path: str | Path,
    frames: Sequence[NDArray[np.uint8]],
    fps: float = PREVIEW_FPS,
    max_bytes: int = PREVIEW_BYTES,
) -> int:
    """Write a small looping animation for a web page, as WebP or GIF by the suffix of its name.

    Width and quality are lowered until the file fits.

    Args:
        path: a name ending in `.webp` or `.gif`.
        frames: uint8 `[H, W, 3]` RGB, at least one, all of one size.
        fps: frames per second, > 0.
        max_bytes: largest file.

    Returns:
        Bytes written.

    Raises:
        ValueError: if the name has another suffix, there are no frames, or even the smallest version is too large.
        WriteError: if the file cannot be written.
    """
    path = Path(path)
    check_preview(path)
    suffix = path.suffix.lower()
    if not frames:
        raise ValueError(f"a preview needs at least one frame, got none for {path}.")
    size = 0
    with replacing(path) as partial:
        for width, quality in _PREVIEW_STEPS:
            pictures = [_shrink(frame, width) for frame in frames]
            options: dict[str, object] = {"duration": round(1000 / fps), "loop": 0, "save_all": True}
            if suffix == ".webp":
                options |= {"quality": quality, "method": 4, "minimize_size": False, "xmp": MARK.encode()}
            else:
                # One palette for all frames: per-frame palettes flicker and cost more.
                palette = pictures[0].quantize(96, method=Image.Quantize.MEDIANCUT)
                pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
                options |= {"optimize": False, "disposal": 1, "comment": MARK.encode()}
            pictures[0].save(partial, append_images=pictures[1:], **options)  # type: ignore[arg-type]
            size = partial.stat().st_size
            if size <= max_bytes:
                return size
        raise ValueError(
            f"{path} would take {size:,} bytes, more than {max_bytes:,}: give fewer seconds, or a larger limit."
        )


def check_preview(path: Path) -> None:
    """Check the name of a preview.

    Raises:
        ValueError: if it has another suffix than `.webp` or `.gif`.
    """
    if path.suffix.lower() not in (".webp", ".gif"):
        raise ValueError(f"a preview is written as .webp or .gif, got {str(path)!r}.")


def _shrink(frame: NDArray[np.uint8], width: int) -> Image.Image:
    """Scale a frame down to a width, keeping its shape."""
    height = round(frame.shape[0] * width / frame.shape[1])
    if width < frame.shape[1]:
        frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return Image.fromarray(frame)
