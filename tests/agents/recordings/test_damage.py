"""Whatever happens to the bytes of a recording, reading ends in episodes or in one clear line."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.recordings import load_episodes
from tests.agents.recordings.makers import MAKERS

JUNK = (
    b"",
    b"\0" * 40,
    b"NaN",
    b'"',
    b"{",
    b"]",
    b",",
    b"\n",
    b"1e999",
    b"-1",
    b"\xff\xd8\xff",
    b"\xfe",
    b"null",
    b"9" * 30,
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    places = {name: tmp_path_factory.mktemp(name) / "set" for name in MAKERS}
    for name, place in places.items():
        MAKERS[name](place)
    return places


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damaged_files_never_end_in_a_crash(recordings, name, data):
    files = sorted(path for path in recordings[name].rglob("*") if path.is_file())
    # Pictures are many and alike: text and arrays are drawn as often as all of them together.
    tables = [path for path in files if path.suffix != ".jpg"]
    path = data.draw(st.sampled_from(tables) | st.sampled_from(files))
    clean = path.read_bytes()
    start = data.draw(st.integers(0, len(clean)))
    stop = data.draw(st.integers(start, min(start + 40, len(clean))) | st.just(len(clean)))
    junk = data.draw(st.sampled_from(JUNK) | st.binary(max_size=8))
    path.write_bytes(clean[:start] + junk + clean[stop:])
    logging.disable()
    try:
        episodes = load_episodes(recordings[name])
        for episode in episodes:
            frames = episode.frames()
            assert frames.shape == (len(episode), *episodes.frame_size, 3)
            assert np.isfinite(episode.elapsed()).all()
            assert np.abs(episode.steering).max() <= 1
        assert not any("\n" in line for line in episodes.warnings)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)
        assert len(str(error)) > 30, error
    finally:
        logging.disable(logging.NOTSET)
        path.write_bytes(clean)
