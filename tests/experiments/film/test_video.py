"""Films decode, play and leave nothing broken behind."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from experiments.film.video import VideoWriter, write_preview


def picture(index: int, height: int = 64, width: int = 96) -> np.ndarray:
    frame = np.full((height, width, 3), (30, 60, 200), np.uint8)
    frame[:, 4 * index : 4 * index + 8] = (230, 200, 40)
    return frame


def boxes(path: Path) -> list[bytes]:
    """Names of the outermost boxes of an MP4, in order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big") or len(data)
    return names


def leftovers(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_film_decodes_as_what_browsers_play(tmp_path: Path):
    path = tmp_path / "films" / "drive.mp4"
    with VideoWriter(path, fps=20, quality=12) as film:
        for index in range(21):
            film.append(picture(index))
    assert film.frame_count == 21
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (96, 64)
        assert stream.average_rate == 20
        assert float(stream.duration * stream.time_base) == pytest.approx(21 / 20)
        frames = [frame for frame in container.decode(stream)]
    assert len(frames) == 21
    times_s = [float(frame.pts * frame.time_base) for frame in frames]
    np.testing.assert_allclose(np.diff(times_s), 0.05, atol=1e-6)
    assert int(frames[0].colorspace) == 1  # BT.709, so that colours are those of the frames
    shown = frames[5].to_ndarray(format="rgb24").astype(int)
    assert np.abs(shown[30, 80] - (30, 60, 200)).max() < 12
    assert np.abs(shown[30, 24] - (230, 200, 40)).max() < 25
    names = boxes(path)
    assert names.index(b"moov") < names.index(b"mdat")
    assert leftovers(path.parent) == ["drive.mp4"]


def test_frame_rates_that_are_no_whole_number(tmp_path: Path):
    with VideoWriter(tmp_path / "a.mp4", fps=1 / 0.07) as film:
        for index in range(10):
            film.append(picture(index))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(1 / 0.07, rel=1e-3)


@pytest.mark.parametrize("frames_before", [0, 3])
def test_an_error_leaves_the_old_film(tmp_path: Path, frames_before: int):
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="car on fire"), VideoWriter(path) as film:
        for index in range(frames_before):
            film.append(picture(index))
        raise RuntimeError("car on fire")
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["drive.mp4"]


def test_a_full_disk_is_one_line_and_leaves_the_old_film(tmp_path: Path):
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"old")
    rng = np.random.default_rng(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot write .*drive.mp4: .*kept") as caught, VideoWriter(path) as film:
            for _ in range(60):
                film.append(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["drive.mp4"]


def test_no_frames_is_an_error_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one frame"), VideoWriter(tmp_path / "a.mp4"):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((63, 96, 3), np.uint8), "even height and width, got 63×96"),
        (np.zeros((64, 95, 3), np.uint8), "even height and width, got 64×95"),
        (np.zeros((64, 96, 3), np.float32), "uint8"),
        (np.zeros((64, 96), np.uint8), "uint8"),
    ],
)
def test_bad_first_frames(tmp_path: Path, frame: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message), VideoWriter(tmp_path / "a.mp4") as film:
        film.append(frame)
    assert leftovers(tmp_path) == []


def test_a_frame_of_another_size(tmp_path: Path):
    with pytest.raises(ValueError, match="one size: 64×96, got 32×96"), VideoWriter(tmp_path / "a.mp4") as film:
        film.append(picture(0))
        film.append(picture(0, height=32))


def test_bad_arguments(tmp_path: Path):
    with pytest.raises(ValueError, match=r"ends in \.mp4"):
        VideoWriter(tmp_path / "a.avi")
    with pytest.raises(ValueError, match="fps must be positive"):
        VideoWriter(tmp_path / "a.mp4", fps=0)
    with pytest.raises(ValueError, match="quality"):
        VideoWriter(tmp_path / "a.mp4", quality=60)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_preview_is_animated_and_small(tmp_path: Path, suffix: str):
    path = tmp_path / f"preview{suffix}"
    size = write_preview(path, [picture(index, 270, 480) for index in range(12)], fps=10, max_bytes=200_000)
    assert size == path.stat().st_size <= 200_000
    with Image.open(path) as image:
        assert image.n_frames == 12 and image.info["loop"] == 0
        image.seek(1)
        image.load()
        assert image.info["duration"] == 100


def test_preview_shrinks_until_it_fits_or_says_so(tmp_path: Path):
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 256, (180, 320, 3), dtype=np.uint8) for _ in range(2)]
    write_preview(tmp_path / "a.webp", noisy, max_bytes=35_000)
    with Image.open(tmp_path / "a.webp") as image:
        assert image.width < 320
    with pytest.raises(ValueError, match="fewer seconds"):
        write_preview(tmp_path / "b.webp", noisy, max_bytes=100)
    assert leftovers(tmp_path) == ["a.webp"]
