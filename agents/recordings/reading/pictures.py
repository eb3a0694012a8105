"""Frames kept as picture files, one a frame: JPEG, PNG, WebP, BMP, TIFF, PNM or .npy.

`check_picture` reads a header and checks that the file is complete, without decoding: cheap enough for every file at
load. `PictureFiles` decodes when frames are asked for. A picture that passes the first and fails the second is stood in
for by its nearest good neighbour and marked, and the log says so once.

Pictures of 16 bits a channel often hold less, such as the 10, 12 or 14 bits of a sensor, whose upper 8 of 16 would be
black: `bits_used` finds out how many bits a recording uses.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, TiffImagePlugin

from agents.recordings.reading.files import MOST_BYTES, DamagedFile, is_pointer, npy_header, possible_name
from agents.recordings.reading.store import Folder, Store

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".npy"),
)
"""Ends of the names of pictures."""
OTHER_SUFFIXES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".npz", ".raw", ".dng")
"""Ends of the names of pictures that are not read; a column of these is still one of pictures."""
MOST_PIXELS = 40_000_000
"""A picture with more pixels comes from no driving camera; decoded it would take over 120 MB."""

_LOG = logging.getLogger(__name__)
_NPY = b"\x93NUMPY"
_DEPTHS = (8, 10, 12, 14, 16)  # bits that sensors give
_NOT_SPECKS = 0.999  # share of a picture's values that count: a few hot pixels say nothing


class BadPicture(ValueError):
    """A file that is not a complete picture; the message is the reason, as counted in `EpisodeSet.skipped`."""


class PictureFacts(NamedTuple):
    """What is known of a picture without decoding it."""

    height: int
    width: int
    digest: int
    """64 bits of a hash of the file's bytes: equal for copies."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return H and W in pixels; see `check_picture`."""
    return check_picture(Folder(path.parent), path)[:2]


def check_picture(store: Store, name: Any, as_stored: bool = False) -> PictureFacts:
    """Read a picture's header and check that the file is complete and of a size that can be decoded.

    Args:
        store: Where the file lies.
        name: Of the file.
        as_stored: H and W as stored, although the camera noted that it was turned.

    Raises:
        BadPicture: if the file is missing, empty, of another kind, truncated, or beyond `MOST_PIXELS`.
    """
    if not possible_name(str(name)):
        raise BadPicture("picture name that no file can have")
    try:
        content = store.read(name)
    except FileNotFoundError:
        raise BadPicture("picture file missing") from None
    except (OSError, DamagedFile):
        raise BadPicture("picture file unreadable") from None
    if not content:
        raise BadPicture("picture file of zero bytes")
    if is_pointer(content):
        raise BadPicture("picture of which only the Git LFS pointer is here (git lfs pull)")
    height, width = _size(content)
    if not as_stored and orientation(content) > 4:
        height, width = width, height
    if not 0 < height * width <= MOST_PIXELS:
        raise BadPicture(f"picture of no pixels or more than {MOST_PIXELS // 1_000_000} million")
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
    return PictureFacts(height, width, digest)


def is_picture_name(field: str) -> bool:
    """Say whether a field of a table looks like a picture's path."""
    return field.strip().lower().endswith((*SUFFIXES, *OTHER_SUFFIXES))


def is_picture(content: bytes) -> bool:
    """Say whether bytes are a complete picture of a kind that is read."""
    try:
        height, width = _size(content)
    except BadPicture:
        return False
    return 0 < height * width <= MOST_PIXELS


def decode_picture(content: bytes, as_stored: bool = False, bits: int = 16) -> NDArray[np.uint8] | None:
    """Decode a picture to uint8 `[H, W, 3]` RGB; None when it cannot be done.

    A JPEG whose camera was held upside down or on its side, and noted it, is turned upright, as every viewer does,
    unless `as_stored`. Of a picture with 16 bits a channel, `bits` are used, and the upper 8 of these are shown.
    """
    if content.startswith(_NPY):
        return _shown(_decode_npy(content), bits)
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        picture = _decode_deep(content)
        if picture is None:
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if picture is None:
            return None
        frame = _shown(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), bits)
        return frame if as_stored or frame is None else upright(frame, orientation(content))
    except (cv2.error, MemoryError):
        return None


def bits_used(contents: Iterable[bytes]) -> int | None:
    """Return how many bits a channel pictures of 16 use, by their brightest values; None where none has 16.

    Args:
        contents: A sample of the files of one recording.
    """
    most = -1
    for content in contents:
        if content.startswith(_NPY):
            picture = _decode_npy(content)
        else:
            picture = _decode_deep(content)
        if picture is not None and picture.dtype == np.uint16:
            most = max(most, int(np.quantile(picture, _NOT_SPECKS)))
    return None if most < 0 else next(bits for bits in _DEPTHS if most < 1 << bits)


def _decode_deep(content: bytes) -> NDArray[Any] | None:
    """Decode a PNG, TIFF or PNM of 16 bits a channel to uint16 `[H, W, 3]` BGR; None where it is none."""
    if content.startswith(b"\x89PNG"):
        if content[24:25] != b"\x10":  # the depth, in the header that comes first
            return None
    elif content[:4] not in (b"II*\0", b"MM\0*") and content[:2] not in (b"P5", b"P6"):
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except (cv2.error, MemoryError):
        return None
    return picture if picture is not None and picture.dtype == np.uint16 else None


def _shown(picture: NDArray[Any] | None, bits: int) -> NDArray[np.uint8] | None:
    """Return the upper 8 of the bits used, as uint8."""
    if picture is None or picture.dtype != np.uint16:
        return picture if picture is None else picture.astype(np.uint8, copy=False)
    return np.minimum(picture >> (bits - 8), 255).astype(np.uint8)


def orientation(content: bytes) -> int:
    """Return the orientation that a JPEG's camera noted (EXIF tag 274), 1 to 8; 1 where it noted none."""
    if not content.startswith(b"\xff\xd8") or b"Exif\0\0" not in content[:65_536]:
        return 1
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as picture:
            noted = picture.getexif().get(274, 1)
    except Exception:  # damaged notes: SyntaxError, struct.error, ValueError, ...
        return 1
    return noted if isinstance(noted, int) and 1 <= noted <= 8 else 1


def upright(frame: NDArray[np.uint8], noted: int) -> NDArray[np.uint8]:
    """Turn a frame `[H, W, 3]` by its EXIF orientation."""
    if noted in (5, 6, 7, 8):
        frame = frame.transpose(1, 0, 2)
    # Of the eight, 2, 3, 6 and 7 begin at the right, and 3, 4, 7 and 8 at the bottom.
    if noted in (2, 3, 6, 7):
        frame = frame[:, ::-1]
    if noted in (3, 4, 7, 8):
        frame = frame[::-1]
    return np.ascontiguousarray(frame)


class PictureFiles:
    """A `FrameSource` over picture files of one size.

    Args:
        paths: One file a frame, in order.
        height: H of every picture, pixels.
        width: W of every picture, pixels.
        store: Where the files lie; the file system when None.
        as_stored: Show pictures as stored, although their camera noted that it was turned.
        bits: Bits a channel that pictures of 16 use.
    """

    def __init__(
        self,
        paths: Sequence[Path | PurePosixPath],
        height: int,
        width: int,
        store: Store | None = None,
        as_stored: bool = False,
        bits: int = 16,
    ) -> None:
        self.paths = tuple(paths)
        self.height = height
        self.width = width
        self.as_stored = as_stored
        self.bits = bits
        self.store: Store = Folder(Path()) if store is None else store
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

    def content(self, index: int) -> bytes:
        """Return the bytes of one file, as they are."""
        return self.store.read(self.paths[index], MOST_BYTES)

    def _decode(self, index: int, out: NDArray[np.uint8]) -> bool:
        """Decode one picture into uint8 `[H, W, 3]`; False when it cannot be done."""
        try:
            picture = decode_picture(self.content(index), self.as_stored, self.bits)
        except (OSError, DamagedFile):
            return False
        if picture is None or picture.shape != out.shape:
            return False
        out[:] = picture
        return True

    def _stand_in(self, frames: NDArray[np.uint8], good: NDArray[np.bool_], start: int) -> None:
        """Fill each undecodable frame with its nearest good neighbour."""
        first_bad = f"{self.paths[start + int(np.argmin(good))]}"
        if not isinstance(self.store, Folder):
            first_bad += f" in {self.store.place}"
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


def _size(content: bytes) -> tuple[int, int]:
    """Return H and W of a complete picture."""
    if content.startswith(b"\xff\xd8"):
        # Within the coded picture no FF D9 can stand, so one near the end is the end, whatever padding follows it.
        ends = b"\xff\xd9" in content[-1024:]
        try:
            height, width = _header(JpegImagePlugin.JpegImageFile, content)
        except BadPicture:
            raise BadPicture("picture header damaged" if ends else "picture file truncated") from None
        if not ends:
            _check_whole(JpegImagePlugin.JpegImageFile, content, height * width)
        return height, width
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        height, width = _header(PngImagePlugin.PngImageFile, content)
        if b"IEND" not in content[-1024:]:
            _check_whole(PngImagePlugin.PngImageFile, content, height * width)
        return height, width
    if content[:4] in (b"II*\0", b"MM\0*"):
        height, width = _header(TiffImagePlugin.TiffImageFile, content)
        _check_whole(TiffImagePlugin.TiffImageFile, content, height * width)
        return height, width
    if content[:2] in (b"P4", b"P5", b"P6"):
        height, width = _header(PpmImagePlugin.PpmImageFile, content)
        _check_whole(PpmImagePlugin.PpmImageFile, content, height * width)
        return height, width
    if content.startswith(b"BM"):
        height, width = _header(BmpImagePlugin.BmpImageFile, content)
        _check_whole(BmpImagePlugin.BmpImageFile, content, height * width)
        return height, width
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp_size(content)
    if content.startswith(_NPY):
        shape = _npy_shape(content)
        return shape[0], shape[1]
    raise BadPicture("file of no known picture format")


def _header(kind: Any, content: bytes) -> tuple[int, int]:
    """Return H and W as Pillow reads them from the header.

    Its plug-ins are called one by one: `Image.open` would try more formats than are decoded here, and warns of sizes
    that are judged by `MOST_PIXELS`.
    """
    try:
        with kind(io.BytesIO(content)) as picture:
            return int(picture.height), int(picture.width)
    except Exception:  # Pillow's plug-ins let out SyntaxError, OSError, ValueError, struct.error, IndexError, ...
        raise BadPicture("picture header damaged") from None


def _check_whole(kind: Any, content: bytes, pixels: int) -> None:
    """Decode a picture whose end was not seen, to know whether it is complete."""
    if pixels > MOST_PIXELS:
        return  # refused by its size in a moment
    try:
        with kind(io.BytesIO(content)) as picture:
            picture.load()
    except Exception:
        raise BadPicture("picture file truncated") from None


def _webp_size(content: bytes) -> tuple[int, int]:
    """Return H and W of a WebP file (container specification, Google): Pillow's plug-in would decode it."""
    if int.from_bytes(content[4:8], "little") + 8 > len(content) + 1:  # the last byte of padding may be missing
        raise BadPicture("picture file truncated")
    kind = content[12:16]
    if len(content) < 30:
        raise BadPicture("picture header damaged")
    if kind == b"VP8X":
        return int.from_bytes(content[27:30], "little") + 1, int.from_bytes(content[24:27], "little") + 1
    if kind == b"VP8L" and content[20] == 0x2F:
        bits = int.from_bytes(content[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(content[28:30], "little") & 0x3FFF, int.from_bytes(content[26:28], "little") & 0x3FFF
    raise BadPicture("picture header damaged")


def _npy_shape(content: bytes) -> tuple[int, ...]:
    try:
        shape, dtype, _ = npy_header(io.BytesIO(content), "picture", len(content))
    except DamagedFile as error:
        raise BadPicture("picture file truncated" if "cut short" in str(error) else "picture header damaged") from None
    if (
        dtype.kind != "u"
        or dtype.itemsize > 2
        or len(shape) not in (2, 3)
        or (len(shape) == 3 and shape[2] not in (1, 3))
    ):
        raise BadPicture("array that is no picture (uint8 or uint16, [H, W] or [H, W, 3])")
    return shape


def _decode_npy(content: bytes) -> NDArray[Any] | None:
    try:
        shape = _npy_shape(content)
        _, dtype, start = npy_header(file := io.BytesIO(content), "picture", len(content))
        picture = np.frombuffer(file.getvalue(), dtype, int(np.prod(shape)), start).reshape(shape)
        picture = picture.astype(dtype.newbyteorder("="), copy=False)
    except (ValueError, MemoryError):
        return None
    if picture.ndim == 2:
        picture = picture[..., None]
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
