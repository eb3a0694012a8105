"""Between formats: what comes back, what a stop leaves, what is refused; LeRobot and Minari sets of other makers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.convert import MARK, TARGETS, convert
from agents.recordings.episodes import EpisodeMeta, EpisodeSet
from agents.recordings.splits import cut_into_blocks
from agents.recordings.writer import EpisodeWriter
from agents.recordings.writers.native import NativeTarget
from tests.agents.recordings.makers import make_log, make_tub, one_line

pytest.importorskip("pyarrow")
pytest.importorskip("h5py")

FORMATS = tuple(TARGETS)


def make_noise(directory: Path, lengths: tuple[int, ...] = (12, 7)) -> EpisodeSet:
    """Write episodes of noise, the hardest to compress, with irregular time and labels of full precision."""
    rng = np.random.default_rng(3)
    writer = EpisodeWriter(directory)
    for number, length in enumerate(lengths):
        meta = EpisodeMeta("expert", 0.05, vehicle="bicycle", renderer="warp", seed=5 + number, extra={"road": "a"})
        time_s = np.cumsum(rng.choice([0.05, 0.05, 0.1, 0.0421], length))
        with writer.episode(meta) as recording:
            for step in range(length):
                frame = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
                steering = float(np.float32(rng.uniform(-1, 1)))
                recording.append(frame, steering, time_s[step], speed_mps=np.float32(rng.uniform(0, 3)))
    return load_episodes(directory)


@pytest.mark.parametrize("to", FORMATS)
def test_round_trips_are_without_loss(tmp_path, to):
    before = make_noise(tmp_path / "set")
    made = convert(before, tmp_path / "out", to)
    assert (made.episodes, made.frames, made.bad, made.resumed) == (2, 19, 0, 0)
    after = load_episodes(tmp_path / "out")
    assert after.warnings == []
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.frames(), old.frames())
        np.testing.assert_array_equal(new.frames(3, 5), old.frames(3, 5))
        np.testing.assert_array_equal(new.steering, old.steering)
        np.testing.assert_allclose(new.time_s - new.time_s[0], old.time_s - old.time_s[0], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(new.extras["speed_mps"], old.extras["speed_mps"])
        if to != "donkeycar":
            assert (new.meta.seed, new.meta.vehicle, new.meta.renderer) == (old.meta.seed, "bicycle", "warp")
            assert new.meta.nominal_period_s == old.meta.nominal_period_s
            assert new.meta.extra["road"] == "a"
    assert not any(path.name.startswith(".") for path in (tmp_path / "out").iterdir())


class Torn:
    """A frame source of which some pictures cannot be decoded."""

    def __init__(self, source: Any, torn: tuple[int, ...]) -> None:
        self.source, self.torn = source, torn

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        frames, good = self.source.read(start, stop)
        return frames, good & ~np.isin(np.arange(start, stop), self.torn)


@pytest.mark.parametrize("to", FORMATS)
def test_where_a_picture_is_left_out_so_are_its_label_and_its_time(tmp_path, to):
    before = make_noise(tmp_path / "set")
    first, kept = before[0], [0, 1, 2, 4, 5, 8, 9, 10, 11]
    torn = replace(first, source=Torn(first.source, (3, 6, 7)))
    made = convert(replace(before, episodes=(torn, before[1])), tmp_path / "out", to)
    assert (made.frames, made.bad) == (16, 3)
    after = load_episodes(tmp_path / "out")
    assert sum(len(one) for one in after) == 16
    steering = np.concatenate([one.steering for one in after])[:9]
    np.testing.assert_array_equal(steering, first.steering[kept])
    np.testing.assert_array_equal(np.concatenate([one.frames() for one in after])[:9], first.frames()[kept])
    np.testing.assert_array_equal(
        np.concatenate([one.extras["speed_mps"] for one in after])[:9], first.extras["speed_mps"][kept]
    )


def test_figures_of_a_lerobot_set_are_those_of_all_its_frames(tmp_path):
    before = make_noise(tmp_path / "set")
    convert(before, tmp_path / "out", "lerobot")
    stats = json.loads((tmp_path / "out" / "meta" / "stats.json").read_text())
    labels = np.concatenate([one.steering for one in before]).astype(float)
    frames = np.concatenate([one.frames() for one in before]) / 255
    for name, values, axes in (("action", labels[:, None], 0), ("observation.images.front", frames, (0, 1, 2))):
        found = {key: np.ravel(figure) for key, figure in stats[name].items()}
        for key in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(
                found[key], getattr(np, key)(values, axis=axes), atol=1e-6, err_msg=f"{name} {key}"
            )
        assert found["count"] == [19]


def test_elapsed_times_of_a_minari_set_count_in_nominal_periods(tmp_path):
    h5py = pytest.importorskip("h5py")
    before = make_noise(tmp_path / "set", (12,))
    convert(before, tmp_path / "out", "minari")
    with h5py.File(tmp_path / "out" / "data" / "main_data.hdf5", "r") as file:
        elapsed = np.ravel(file["episode_0"]["observations"]["elapsed"])
    np.testing.assert_allclose(elapsed, [1.0, *np.diff(before[0].time_s) / 0.05, 1.0], rtol=1e-5)


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_converts_from_pictures_and_in_small(tmp_path, to):
    make_tub(tmp_path / "tub", count=25)
    tub = load_episodes(tmp_path / "tub")
    convert(tub, tmp_path / "out", to, exact=False)
    back = load_episodes(tmp_path / "out")
    np.testing.assert_array_equal(back[0].steering, tub[0].steering)
    assert np.abs(back[0].frames().astype(int) - tub[0].frames()).mean() < 12


def test_pictures_of_a_tub_are_copied_as_they_are(tmp_path):
    make_log(tmp_path / "log", count=5)
    log = load_episodes(tmp_path / "log")
    convert(log, tmp_path / "tub", "donkeycar")
    contents = {path.read_bytes() for path in (tmp_path / "tub" / "images").iterdir()}
    assert contents == {path.read_bytes() for path in log[0].source.paths}


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_a_stopped_conversion_goes_on_by_the_same_call_and_gives_the_same(tmp_path, to, stop_at, monkeypatch):
    before = make_noise(tmp_path / "set", (6, 5, 4))
    calls = 0
    original = TARGETS[to].write

    def stopping(self: Any, number: int, *rest: Any) -> Any:
        nonlocal calls
        if number == stop_at and calls == 0:
            calls += 1
            raise KeyboardInterrupt
        return original(self, number, *rest)

    monkeypatch.setattr(TARGETS[to], "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        convert(before, tmp_path / "out", to)
    assert (tmp_path / "out" / MARK).is_file()
    made = convert(before, tmp_path / "out", to)
    assert (made.resumed, made.episodes, made.frames) == (stop_at, 3, 15)
    after = load_episodes(tmp_path / "out")
    assert [len(episode) for episode in after] == [6, 5, 4]
    np.testing.assert_array_equal(after[2].frames(), before[2].frames())


def test_a_conversion_of_something_else_and_foreign_directories_are_refused(tmp_path, monkeypatch):
    before = make_noise(tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr(NativeTarget, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            convert(before, tmp_path / "out")
    with pytest.raises(ValueError, match="conversion of other recordings") as error:
        convert(before[:1], tmp_path / "out")
    one_line(error)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    for place in (tmp_path / "mine", tmp_path / "set"):
        with pytest.raises(ValueError, match="is not empty"):
            convert(before, place)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_kill_before_the_first_mark_is_no_dead_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = make_noise(tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: os._exit(9))
        patch.setattr(os, "replace", lambda *_: os._exit(9))
        child = os.fork()
        if child == 0:
            convert(before, tmp_path / "out")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [entry.name.startswith(".") for entry in (tmp_path / "out").iterdir()] == [True]
    convert(before, tmp_path / "out")
    assert not any(entry.name.startswith(".") for entry in (tmp_path / "out").iterdir())


def version_2(directory: Path, episodes: EpisodeSet) -> None:
    """Turn a converted set into one of version 2.1: a file an episode, episodes in JSON lines."""
    info = json.loads((directory / "meta" / "info.json").read_text())
    info["codebase_version"] = "v2.1"
    info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    (directory / "meta" / "info.json").write_text(json.dumps(info))
    key = "observation.images.front"
    films = directory / "videos" / "chunk-000" / key
    films.mkdir(parents=True)
    for number in range(len(episodes)):
        data = directory / "data" / "chunk-000" / f"file-{number:03d}.parquet"
        data.rename(data.with_name(f"episode_{number:06d}.parquet"))
        (directory / "videos" / key / "chunk-000" / f"file-{number:03d}.mp4").rename(
            films / f"episode_{number:06d}.mp4"
        )


def test_lerobot_2_1_is_read(tmp_path):
    before = make_noise(tmp_path / "set")
    convert(before, tmp_path / "out", "lerobot")
    version_2(tmp_path / "out", before)
    # A chunk holds as many episodes as the set says, here one.
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    (tmp_path / "out/meta/info.json").write_text(json.dumps({**info, "chunks_size": 1}))
    key = "observation.images.front"
    (tmp_path / f"out/videos/chunk-001/{key}").mkdir(parents=True)
    film = f"{key}/episode_000001.mp4"
    (tmp_path / f"out/videos/chunk-000/{film}").rename(tmp_path / f"out/videos/chunk-001/{film}")
    after = load_episodes(tmp_path / "out")
    assert after.skipped == {}
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.frames(), old.frames())
        np.testing.assert_array_equal(new.steering, old.steering)


def test_lerobot_films_of_several_episodes_are_entered_at_the_right_frame(tmp_path):
    """One film and one data file for all episodes, as other writers make them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    before = make_noise(tmp_path / "set", (40,))
    convert(before, tmp_path / "out", "lerobot")
    out = tmp_path / "out"
    table = pq.read_table(out / "data/chunk-000/file-000.parquet")
    episode, frame = np.repeat([0, 1], [25, 15]), np.concatenate([np.arange(25), np.arange(15)])
    for name, values in (("episode_index", episode), ("frame_index", frame)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table.drop_columns(["time_s"]), out / "data/chunk-000/file-000.parquet")
    place = out / "meta/episodes/chunk-000/file-000.parquet"
    row = pq.read_table(place).to_pylist()[0]
    key = "videos/observation.images.front/from_timestamp"
    pq.write_table(pa.Table.from_pylist([row, {**row, "episode_index": 1, key: 25 / 20}]), place)
    info = json.loads((out / "meta/info.json").read_text())
    del info["features"]["time_s"]
    info["features"]["action"]["names"] = {"motors": ["steering"]}
    (out / "meta/info.json").write_text(json.dumps(info))
    (out / "meta/wormwheel.json").unlink()
    after = load_episodes(out)
    assert [len(e) for e in after] == [25, 15]
    np.testing.assert_array_equal(after[1].frames(), before[0].frames(25, 40))
    np.testing.assert_array_equal(after[1].steering, before[0].steering[25:])
    np.testing.assert_allclose(after[1].elapsed(), 1, rtol=1e-5)
    assert "taken to go left" in after.warnings[0]
    np.testing.assert_array_equal(load_episodes(out, positive="right")[1].steering, -after[1].steering)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["heading_angle", "Steering_Angle_Normalized", "gas"], 1),
        (["steering_rate", "gas", "steer"], 2),
        (["wheel_angle", "yaw_angle", "gas"], 0),
        (["front_steering", "gas", "rear_steering"], 0),
        (["steering", "gas", "steering_wheel"], "any of action.steering, action.steering_wheel.*--steering-column"),
        (["gas", "steering_angle_rad", "brake"], "radians.*--degrees"),
    ],
)
def test_lerobot_steering_among_other_angles(tmp_path, names, expected):
    three_actions(tmp_path, names)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected) as error:
            load_episodes(tmp_path / "out")
        one_line(error)
    else:
        np.testing.assert_allclose(load_episodes(tmp_path / "out")[0].steering, ACTIONS[expected], rtol=1e-6)


@pytest.mark.parametrize("names", [None, [], {}])
def test_lerobot_dimensions_without_names_go_by_their_number(tmp_path, names):
    three_actions(tmp_path, names)
    for column, message in (
        (None, "dimensions: action.0., action.1., action.2., .*Name it"),
        ("action", "could be any of"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load_episodes(tmp_path / "out", steering_column=column)
        one_line(error)
    for number in range(3):
        (episode,) = load_episodes(tmp_path / "out", steering_column=f"action[{number}]")
        np.testing.assert_allclose(episode.steering, ACTIONS[number], rtol=1e-6)


ACTIONS = [0.1, 0.2, 0.3]


def three_actions(tmp_path: Path, names: Any) -> None:
    """Write a set of which every step has the same three actions, called so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    convert(make_noise(tmp_path / "set", (5,)), tmp_path / "out", "lerobot")
    data = tmp_path / "out/data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", pa.array([ACTIONS] * 5)), data)
    place = tmp_path / "out" / "meta" / "info.json"
    info = json.loads(place.read_text())
    info["features"]["action"] |= {"names": names, "shape": [3]}
    place.write_text(json.dumps(info))


@pytest.mark.parametrize("fps", [15, 30, 24])
def test_lerobot_rate_that_is_not_the_films_is_refused(tmp_path, fps):
    convert(make_noise(tmp_path / "set", (12,)), tmp_path / "out", "lerobot")
    place = tmp_path / "out" / "meta" / "info.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "fps": fps}))
    with pytest.raises(ValueError, match=f"(says {fps} a second: one of them is wrong|does not show all 12)") as error:
        load_episodes(tmp_path / "out")
    one_line(error)


def test_lerobot_label_that_is_not_there_is_counted(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    before = make_noise(tmp_path / "set", (6,))
    convert(before, tmp_path / "out", "lerobot")
    data = tmp_path / "out/data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    cells = [None if i == 3 else [float(s)] for i, s in enumerate(before[0].steering)]
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", pa.array(cells)), data)
    after = load_episodes(tmp_path / "out")
    assert after.skipped == {"steering not a number": 1}
    found = np.concatenate([episode.steering for episode in after])
    np.testing.assert_allclose(found, np.delete(before[0].steering, 3), rtol=1e-6)


def test_lerobot_camera_that_looks_ahead(tmp_path):
    convert(make_noise(tmp_path / "set", (5,)), tmp_path / "out", "lerobot")
    place = tmp_path / "out" / "meta" / "info.json"
    info = json.loads(place.read_text())
    film = info["features"].pop("observation.images.front")
    info["features"] = {"observation.images.rear": film, "observation.images.cam": film, **info["features"]}
    place.write_text(json.dumps(info))
    with pytest.raises(ValueError, match="of its cameras .*rear, .*cam observation.images.cam counts"):
        load_episodes(tmp_path / "out")  # its film is not there


def test_lerobot_without_steering_names_what_there_is(tmp_path):
    convert(make_noise(tmp_path / "set"), tmp_path / "out", "lerobot")
    place = tmp_path / "out" / "meta" / "info.json"
    info = json.loads(place.read_text())
    info["features"]["action"] |= {"names": ["gas", "brake"], "shape": [2]}
    place.write_text(json.dumps(info))
    with pytest.raises(
        ValueError, match="no steering among its dimensions: action.gas, action.brake.*--steering"
    ) as error:
        load_episodes(tmp_path / "out")
    one_line(error)


def test_minari_packed_pictures_and_several_actions(tmp_path):
    import cv2
    import h5py

    (tmp_path / "data").mkdir()
    frames = np.full((6, 16, 16, 3), 80, np.uint8)
    frames[..., 0] = 200
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        packed = group.create_dataset("observations/image", (6,), h5py.vlen_dtype(np.uint8))
        for index, frame in enumerate(frames):
            packed[index] = cv2.imencode(".jpg", frame[..., ::-1])[1].ravel()
        group["actions"] = np.stack([np.linspace(-0.5, 0.5, 5), np.ones(5)], axis=1)
    with pytest.raises(ValueError, match="2 actions a step.*--steering-column"):
        load_episodes(tmp_path)
    episodes = load_episodes(tmp_path, steering_column="0")
    np.testing.assert_allclose(episodes[0].steering, np.linspace(-0.5, 0.5, 5), rtol=1e-6)
    assert episodes[0].frames().shape == (5, 16, 16, 3)
    assert abs(int(episodes[0].frames()[2, 8, 8, 0]) - 200) < 8
    assert "nothing tells the time" in episodes.warnings[0]
    assert "taken to go left" in episodes.warnings[1]
    space = json.dumps({"type": "Discrete", "n": 5})
    (tmp_path / "data" / "metadata.json").write_text(json.dumps({"action_space": space}))
    with pytest.raises(ValueError, match="discrete actions") as error:
        load_episodes(tmp_path, steering_column="0")
    one_line(error)


def test_minari_whole_actions_are_no_steering_and_its_clock_is_its_own(tmp_path):
    import h5py

    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        group["observations"], group["actions"] = np.zeros((6, 16, 16, 3), np.uint8), np.array([0, 1, 0, 1, 1])
        group["infos/time_s"] = 0.1 * np.arange(6)
    with pytest.raises(ValueError, match="actions that are int64, which are choices") as error:
        load_episodes(tmp_path)
    one_line(error)
    with h5py.File(tmp_path / "main_data.hdf5", "r+") as file:
        del file["episode_0/actions"]
        file["episode_0/actions"] = np.linspace(-0.5, 0.5, 5)
    episode = load_episodes(tmp_path)[0]
    assert episode.meta.nominal_period_s == pytest.approx(0.1)
    np.testing.assert_allclose(episode.elapsed(), 1, rtol=1e-6)


def test_minari_actions_by_name(tmp_path):
    import h5py

    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        group["observations"] = np.zeros((6, 16, 16, 3), np.uint8)
        group["actions/gas"], group["actions/steering"] = np.ones((5, 1)), np.linspace(-0.5, 0.5, 5)[:, None]
        group["actions/turn"] = np.linspace(0.5, -0.5, 5)
    np.testing.assert_allclose(load_episodes(tmp_path)[0].steering, np.linspace(-0.5, 0.5, 5), rtol=1e-6)
    turned = load_episodes(tmp_path, steering_column="turn")
    np.testing.assert_allclose(turned[0].steering, np.linspace(0.5, -0.5, 5), rtol=1e-6)
    with pytest.raises(ValueError, match="has the actions gas, steering, turn: name the one") as error:
        load_episodes(tmp_path, steering_column="wheel")
    one_line(error)


def test_a_tub_has_what_donkeycar_opens_it_by(tmp_path):
    before = make_noise(tmp_path / "set")
    convert(before, tmp_path / "tub", "donkeycar")
    *_, catalogs = map(json.loads, (tmp_path / "tub" / "manifest.json").read_text().splitlines())
    assert catalogs["current_index"] == before.frame_count, "its length, to Donkeycar"
    numbers = []
    for name in catalogs["paths"]:
        content = (tmp_path / "tub" / name).read_bytes()
        index = json.loads((tmp_path / "tub" / f"{name}_manifest").read_text())
        assert (index["start_index"], index["path"]) == (len(numbers), f"{name}_manifest")
        ends = np.cumsum(index["line_lengths"])
        lines = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        assert b"".join(lines) == content and all(line.endswith(b"\n") for line in lines)
        numbers += [json.loads(line)["_index"] for line in lines]
    assert numbers == list(range(before.frame_count))


def test_donkeycar_itself_reads_what_is_written(tmp_path):
    datastore = pytest.importorskip("donkeycar.parts.datastore_v2")
    before = make_noise(tmp_path / "set")
    convert(before, tmp_path / "tub", "donkeycar")
    manifest = datastore.Manifest(str(tmp_path / "tub"), read_only=True)
    records = list(manifest)
    manifest.close()
    assert len(records) == len(manifest) == before.frame_count
    assert [-record["user/angle"] for record in records[:3]] == [float(one) for one in before[0].steering[:3]]


def test_minari_itself_reads_what_is_written(tmp_path):
    minari = pytest.importorskip("minari")
    before = make_noise(tmp_path / "set")
    convert(before, tmp_path / "out", "minari")
    found = minari.MinariDataset(tmp_path / "out" / "data")
    assert (found.total_episodes, found.total_steps) == (2, 19)
    np.testing.assert_array_equal(found[1].observations["camera"][:-1], before[1].frames())
    np.testing.assert_array_equal(found[1].actions[:, 0], before[1].steering)


def test_lerobots_tasks_are_a_table_that_pandas_reads(tmp_path):
    pandas = pytest.importorskip("pandas")
    convert(make_noise(tmp_path / "set"), tmp_path / "out", "lerobot")
    tasks = pandas.read_parquet(tmp_path / "out" / "meta" / "tasks.parquet")
    assert list(tasks.index) == ["keep the lane"] and tasks["task_index"].tolist() == [0]


def test_lerobot_itself_reads_what_is_written(tmp_path):
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    before = make_noise(tmp_path / "set")
    convert(before, tmp_path / "out", "lerobot")
    found = lerobot.LeRobotDataset("me/set", root=tmp_path / "out")
    assert (len(found), found.num_episodes, found.fps) == (19, 2, 20)
    assert list(found.meta.tasks.index) == ["keep the lane"]
    assert float(found.hf_dataset[13]["action"]) == before[1].steering[1]
    try:
        import torchcodec.decoders  # noqa: F401 - needs FFmpeg's libraries
    except (ImportError, OSError, RuntimeError):
        return  # LeRobot cannot decode any film here; that ours can be decoded is tested above
    assert float(found[13]["action"]) == before[1].steering[1]


@pytest.mark.parametrize("to", ["native", "lerobot", "minari"])
def test_side_cameras_stay_beside_the_centre_on_the_time_line(tmp_path, to):
    """Else a copy would be trained on at moments that are held out, through a side camera."""
    make_log(tmp_path / "log", count=60)
    rows = (tmp_path / "log" / "driving_log.csv").read_text().splitlines()
    (tmp_path / "log" / "driving_log.csv").write_text("\n".join(rows[:20] + rows[40:]))  # two episodes a camera
    convert(load_episodes(tmp_path / "log", side_cameras=True), tmp_path / "one", to)
    convert(load_episodes(tmp_path / "one"), tmp_path / "two", "native")
    for copy in ("one", "two"):
        episodes = load_episodes(tmp_path / copy)
        starts = {e.meta.extra["camera"]: [] for e in episodes}
        for e in episodes:
            starts[e.meta.extra["camera"]].append(round(e.meta.start_s, 6))
        assert starts["left"] == starts["right"] == starts["centre"] and len(starts["left"]) == 2
        for rest, held in cut_into_blocks(episodes, 3, 0.0):
            held_s, trained_s = (
                {round(e.meta.start_s + t - e.time_s[0], 4) for e in part for t in e.time_s} for part in (held, rest)
            )
            assert held_s and not held_s & trained_s


@pytest.mark.parametrize(("to", "field"), [("lerobot", "observation.wheel_kmh"), ("minari", "wheel_kmh")])
def test_the_speed_is_taken_from_what_is_named(tmp_path, to, field):
    with EpisodeWriter(tmp_path / "set").episode(EpisodeMeta("a")) as recording:
        for step in range(6):
            recording.append(np.full((16, 24, 3), 9 * step, np.uint8), 0.1, 0.05 * step, wheel_kmh=3.6 * step)
    convert(load_episodes(tmp_path / "set"), tmp_path / "out", to)
    found = load_episodes(tmp_path / "out", speed_column=field)[0].extras["speed_mps"]
    np.testing.assert_allclose(found, np.arange(6), rtol=1e-6)
    for option in ({"speed_column": "pace"}, {"time_column": "pace"}):
        with pytest.raises(ValueError, match="has no .*'pace'.*it has: .*wheel_kmh") as error:
            load_episodes(tmp_path / "out", **option)
        one_line(error)


def test_a_conversion_is_not_finished_with_other_columns(tmp_path):
    before = make_noise(tmp_path / "set")

    class Stopped(Exception):
        pass

    def stop(frames: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        convert(before, tmp_path / "out", "native", on_progress=stop)
    faster = tuple(replace(one, extras={"speed_mps": 2 * one.extras["speed_mps"]}) for one in before)
    fewer = tuple(replace(one, extras={}) for one in before)
    for other in (faster, fewer):
        with pytest.raises(ValueError, match="a conversion of other recordings, or with other options"):
            convert(replace(before, episodes=other), tmp_path / "out", "native")
    assert convert(before, tmp_path / "out", "native").episodes == 2


@pytest.mark.parametrize("to", ["lerobot", "minari"])
def test_a_unit_that_one_episode_shows_is_that_of_all(tmp_path, to):
    """On a straight way angles stay below 1: they would pass for shares of full lock, and bends count as damage."""
    before = make_noise(tmp_path / "set", (30, 30))
    degrees = [replace(before[0], steering=0.02 * before[0].steering), before[1]]
    convert(replace(before, episodes=tuple(degrees)), tmp_path / "out", to)
    turn_into_degrees(tmp_path / "out", to)
    with pytest.raises(ValueError, match="degrees") as error:
        load_episodes(tmp_path / "out")
    one_line(error)
    both = load_episodes(tmp_path / "out", degrees=25.0)
    for one, wanted in zip(both, degrees, strict=True):
        np.testing.assert_allclose(one.steering, wanted.steering, atol=1e-6)


def turn_into_degrees(directory: Path, to: str) -> None:
    """Multiply all labels of a set by 25."""
    if to == "minari":
        import h5py

        with h5py.File(directory / "data" / "main_data.hdf5", "r+") as file:
            for episode in file.values():
                episode["actions"][:] = 25 * episode["actions"][:]
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    for place in (directory / "data").glob("*/*.parquet"):
        table = pq.read_table(place)
        action = pa.array(25 * table.column("action").to_numpy(), pa.float32())
        pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", action), place)
