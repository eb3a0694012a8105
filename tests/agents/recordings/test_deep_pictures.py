"""Pictures of 16 bits a channel, of which a sensor fills fewer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from agents.recordings import load_episodes

COUNT = 6


def make(folder: Path, bits: int, suffix: str = ".png", grey: bool = False, hot: bool = False) -> np.ndarray:
    """Write a table with pictures whose values fill `bits` of 16; returns what 8 bits of them show."""
    rng = np.random.default_rng(bits)
    rows, shown = ["image,steering"], []
    for i in range(COUNT):
        deep = rng.integers(0, 1 << bits, (40, 48, 1 if grey else 3)).astype(np.uint16)
        deep[0, :4] = (1 << bits) - 1
        shown.append(np.repeat(deep, 3 // deep.shape[2], 2) >> (bits - 8))
        if hot:
            deep[20, 20] = 65_535
            shown[-1][20, 20] = 255
        stored = deep[..., 0] if grey else deep
        if suffix == ".npy":
            np.save(folder / f"{i}.npy", stored.astype(">u2"))
        else:
            assert cv2.imwrite(str(folder / f"{i}{suffix}"), stored if grey else stored[..., ::-1])
        rows.append(f"{i}{suffix},{i / 10}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return np.stack(shown).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".npy", ".pgm"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_bits_that_are_used_are_shown(tmp_path, bits, suffix):
    shown = make(tmp_path, bits, suffix, grey=suffix == ".pgm")
    episodes = load_episodes(tmp_path)
    np.testing.assert_array_equal(episodes[0].frames(), shown)
    said = [line for line in episodes.warnings if "16 bits a channel" in line]
    assert len(said) == (bits < 16) and all(f"of which {bits} are used" in line for line in said)


@pytest.mark.parametrize("bits", [10, 14])
def test_a_hot_pixel_does_not_make_the_others_dark(tmp_path, bits):
    np.testing.assert_array_equal(load_episodes(make_grey(tmp_path, bits))[0].frames().max(), 255)
    assert load_episodes(tmp_path)[0].frames().mean() > 100


def make_grey(folder: Path, bits: int) -> Path:
    make(folder, bits, grey=True, hot=True)
    return folder


def test_one_dark_frame_is_shown_as_dark_as_it_is(tmp_path):
    shown = make(tmp_path, 12)
    assert cv2.imwrite(str(tmp_path / "3.png"), np.full((40, 48, 3), 160, np.uint16))
    frames = load_episodes(tmp_path)[0].frames()
    np.testing.assert_array_equal(frames[[0, 5]], shown[[0, 5]])
    assert (frames[3] == 10).all()
