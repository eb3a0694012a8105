"""The project's own data set: written as a stream, read by position, hard to break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.cache import cache_frames
from agents.recordings.episodes import EpisodeMeta
from agents.recordings.writer import EpisodeWriter
from agents.runs.files import WriteError
from tests.agents.recordings.makers import make_native, make_tub, one_line


def test_a_data_set_comes_back_as_written(tmp_path):
    make_native(tmp_path / "set")
    episodes = load_episodes(tmp_path / "set")
    assert [len(episode) for episode in episodes] == [5, 3]
    assert episodes.frame_size == (4, 6)
    np.testing.assert_array_equal(episodes[1].frames(1, 3)[:, 0, 0, 0], [51, 52])
    np.testing.assert_allclose(episodes[0].steering, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert episodes[1].extras["speed_mps"].tolist() == [2.0] * 3
    meta = episodes[1].meta
    assert (meta.seed, meta.extra["road"], meta.extra["recorded_from"]) == (1, 1, "expert")
    assert meta.start_s == pytest.approx(0.25)
    np.testing.assert_array_equal(
        np.load(tmp_path / "set/episode_000001/frames.npy", mmap_mode="r").shape, [3, 4, 6, 3]
    )


def test_appending_continues_the_numbers_and_several_may_be_in_flight(tmp_path):
    make_native(tmp_path / "set", (2,))
    writer = EpisodeWriter(tmp_path / "set")
    first, second = writer.episode(EpisodeMeta("a")), writer.episode(EpisodeMeta("b"))
    for step in range(3):
        first.append(np.zeros((4, 6, 3), np.uint8), 0.0, float(step))
        second.append(np.ones((4, 6, 3), np.uint8), 0.0, float(step))
    assert second.finish().name == "episode_000001"
    assert first.finish().name == "episode_000002"
    assert [episode.meta.extra["recorded_from"] for episode in load_episodes(tmp_path / "set")] == ["expert", "b", "a"]


def test_a_number_given_beforehand_is_kept_and_never_overwrites(tmp_path):
    make_native(tmp_path / "set", (2,))
    for number, message in ((7, None), (0, "something is in the way")):
        recording = EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x"), number)
        recording.append(np.zeros((4, 6, 3), np.uint8), 0.0, 0.0)
        if message is None:
            assert recording.finish().name == "episode_000007"
        else:
            with pytest.raises(WriteError, match=message):
                recording.finish()
    assert [len(episode) for episode in load_episodes(tmp_path / "set")] == [2, 1]
    assert len(list((tmp_path / "set").iterdir())) == 3


def test_an_interrupted_episode_leaves_nothing_and_harms_nothing(tmp_path):
    make_native(tmp_path / "set")
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x")) as recording:
        recording.append(np.zeros((4, 6, 3), np.uint8), 0.0, 0.0)
        raise KeyboardInterrupt
    killed = EpisodeWriter(tmp_path / "set").episode(
        EpisodeMeta("x")
    )  # What a kill leaves: neither finished nor aborted.
    killed.append(np.zeros((4, 6, 3), np.uint8), 0.0, 0.0)
    assert load_episodes(tmp_path / "set").frame_count == 8
    killed.abort()
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["dataset.json", "episode_000000", "episode_000001"]


def test_a_full_disk_loses_only_the_episode_in_flight(tmp_path):
    make_native(tmp_path / "set")
    recording = EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x"))
    recording._file.close()
    recording._file = open("/dev/full", "wb")  # noqa: SIM115 - every write to it fails as on a full disk
    with pytest.raises(WriteError, match="disk is full") as error:
        for step in range(3000):
            recording.append(np.zeros((32, 32, 3), np.uint8), 0.0, float(step))
    one_line(error)
    assert load_episodes(tmp_path / "set").frame_count == 8
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["dataset.json", "episode_000000", "episode_000001"]


def test_recording_refuses_what_does_not_fit(tmp_path):
    frame = np.zeros((4, 6, 3), np.uint8)
    recording = EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x"))
    recording.append(frame, 0.0, 1.0, speed_mps=1.0)
    for arguments, extras, message in [
        ((frame.astype(np.float32), 0.0, 2.0), {"speed_mps": 1.0}, "uint8"),
        ((frame[:2], 0.0, 2.0), {"speed_mps": 1.0}, "one size"),
        ((frame, 1.5, 2.0), {"speed_mps": 1.0}, "within"),
        ((frame, float("nan"), 2.0), {"speed_mps": 1.0}, "within"),
        ((frame, 0.0, 1.0), {"speed_mps": 1.0}, "rise"),
        ((frame, 0.0, float("inf")), {"speed_mps": 1.0}, "finite"),
        ((frame, 0.0, 2.0), {}, "the fields"),
        ((frame, 0.0, 2.0), {"frames": 1.0}, "cannot be called 'frames'"),
    ]:
        with pytest.raises(ValueError, match=message):
            recording.append(*arguments, **extras)
    assert len(recording) == 1
    recording.finish()
    assert load_episodes(tmp_path / "set").frame_count == 1


def test_an_episode_without_steps_leaves_nothing(tmp_path):
    with EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("x")):
        pass
    with pytest.raises(ValueError, match="no usable record: it is empty"):
        load_episodes(tmp_path / "set")


def test_recording_does_not_write_into_a_foreign_directory(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="neither empty nor a data set"):
        EpisodeWriter(tmp_path)
    make_tub(tmp_path / "tub")
    before = load_episodes(tmp_path / "tub")
    with pytest.raises(ValueError, match="would be replaced"):
        cache_frames(before, tmp_path / "tub")
    assert load_episodes(tmp_path / "tub").frame_count == 6


def spoil_array(name: str, change: Callable[[np.ndarray], None]) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        values = np.load(directory / name)
        change(values)
        np.save(directory / name, values)

    return spoil


def set_at(index: int, value: float) -> Callable[[np.ndarray], None]:
    return lambda values: values.__setitem__(index, value)


@pytest.mark.parametrize(
    ("spoil", "reason", "left"),
    [
        (spoil_array("steering.npy", set_at(1, np.nan)), "steering or time not a number", [0, 2, 3, 4]),
        (spoil_array("steering.npy", set_at(1, 3.0)), "steering outside [-1, 1]", [0, 2, 3, 4]),
        (spoil_array("time_s.npy", set_at(2, np.nan)), "steering or time not a number", [0, 1, 3, 4]),
        (spoil_array("time_s.npy", set_at(2, 0.0)), "time stamp not after the one before", [0, 1, 3, 4]),
    ],
)
def test_a_bad_step_of_a_data_set_is_counted_and_skipped(tmp_path, spoil, reason, left):
    make_native(tmp_path / "set")
    spoil(tmp_path / "set" / "episode_000000")
    episodes = load_episodes(tmp_path / "set")
    assert episodes.skipped == {reason: 1}
    np.testing.assert_array_equal(episodes[0].frames()[:, 0, 0, 0], left)
    np.testing.assert_array_equal(episodes[0].frames(1, 3)[:, 0, 0, 0], left[1:3])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "frames.npy").write_bytes((path / "frames.npy").read_bytes()[:-5]),
        lambda path: (path / "frames.npy").write_bytes(b""),
        lambda path: (path / "frames.npy").unlink(),
        lambda path: np.save(path / "frames.npy", np.zeros((5, 4, 6), np.float32)),
        lambda path: np.save(path / "steering.npy", np.zeros(7, np.float32)),
        lambda path: np.save(path / "steering.npy", np.array([{}], object), allow_pickle=True),
        lambda path: (path / "meta.json").write_text("{"),
        lambda path: (path / "meta.json").write_text('{"nominal_period_s": -1}'),
        lambda path: (path / "time_s.npy").unlink(),
    ],
)
def test_a_damaged_episode_of_a_data_set_is_counted_and_skipped(tmp_path, spoil):
    make_native(tmp_path / "set")
    spoil(tmp_path / "set" / "episode_000000")
    episodes = load_episodes(tmp_path / "set")
    assert [len(episode) for episode in episodes] == [3]
    assert episodes.skipped == {"episode with damaged files": 1}
    assert "episode_000000 left out" in episodes.warnings[1]
    assert not any("\n" in line for line in episodes.warnings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": "other", "version": 1}', "should name the format"),
        ('{"format": "wormwheel-episodes", "version": 99}', "version 99.*use a newer program"),
    ],
)
def test_a_damaged_foreign_or_newer_header_is_a_clear_error_and_nothing_is_added(tmp_path, content, message):
    make_native(tmp_path / "set")
    (tmp_path / "set" / "dataset.json").write_text(content)
    for call in (load_episodes, EpisodeWriter):
        with pytest.raises(ValueError, match=message) as error:
            call(tmp_path / "set")
        one_line(error)


def test_episodes_of_two_sizes_in_a_data_set_are_refused(tmp_path):
    make_native(tmp_path / "set")
    make_native(tmp_path / "set", height=8)
    with pytest.raises(ValueError, match="6×4 in .*episode_000000 and 6×8 in .*episode_000002"):
        load_episodes(tmp_path / "set")
