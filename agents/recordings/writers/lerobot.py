"""LeRobot data sets, version 3.0, as a target of `convert`: one data file and one film an episode."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode
from agents.recordings.lerobot import OWN_META, dump
from agents.recordings.reading.parquet import parquet
from agents.recordings.writers.target import Progress, Target, Written, runs_of
from agents.runs.files import replacing, write_json, write_text

CAMERA = "observation.images.front"
"""Name of the camera's feature."""
TASK = "keep the lane"
"""The one task, in words."""
CHUNK = 1000
"""Files in a folder."""


class LeRobotTarget(Target):
    """Exact films are H.264 in RGB without loss, which every FFmpeg decodes; else H.264 as browsers play it.

    `action` is the steering, positive left. Time is the frame's number over fps and, as it was, the feature `time_s`.
    """

    def write(self, number: int, episode: Episode, progress: Progress) -> Written:
        """See `Target`."""
        film = self._film(number)
        film.parent.mkdir(parents=True, exist_ok=True)
        fps = rate(episode)
        kept: list[NDArray[np.int64]] = []
        sums = _PixelSums()
        with replacing(film) as partial:
            with _Encoder(partial, fps, episode.meta.height, episode.meta.width, self.exact) as encoder:
                for steps, pictures, passed in runs_of(episode):
                    for picture in pictures:
                        encoder.add(picture)
                    sums.add(pictures)
                    kept.append(steps)
                    progress(passed)
            rows = np.concatenate(kept)
            if len(rows) == 0:
                partial.touch()
        if len(rows) == 0:
            film.unlink()
            return Written(0, len(episode))
        columns = _columns(episode, rows, number, fps)
        place = self._data(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        stats = {name: _stats(values) for name, values in columns.items()} | {CAMERA: sums.stats()}
        write_json(self._side(number), {"stats": stats, "frames": len(rows)})
        with replacing(place) as partial:
            parquet().write_table(_table(columns), partial)
        return Written(len(rows), len(episode) - len(rows))

    def finish(self, episodes: list[tuple[int, Episode, Written]]) -> None:
        """See `Target`; `index`, which counts through the whole set, is filled in here."""
        pq = parquet()
        import pyarrow as pa

        meta = self.directory / "meta"
        (meta / "episodes" / "chunk-000").mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = []
        total = 0
        sides = {number: json.loads(self._side(number).read_text()) for number, _, _ in episodes}
        fps = rate(episodes[0][1])
        for position, (number, _, written) in enumerate(episodes):
            table = pq.read_table(self._data(number))
            renumbered = {
                "index": np.arange(total, total + written.frames),
                "episode_index": [position] * written.frames,
            }
            for name, values in renumbered.items():
                place = table.schema.get_field_index(name)
                table = table.set_column(place, name, pa.array(values, pa.int64()))
            target = self._data(position)
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as partial:
                pq.write_table(table, partial)
            if position != number:
                self._film(position).parent.mkdir(parents=True, exist_ok=True)
                self._film(number).replace(self._film(position))
                self._data(number).unlink()
            chunk, file = divmod(position, CHUNK)
            row: dict[str, Any] = {
                "episode_index": position,
                "tasks": [TASK],
                "length": written.frames,
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": total,
                "dataset_to_index": total + written.frames,
                f"videos/{CAMERA}/chunk_index": chunk,
                f"videos/{CAMERA}/file_index": file,
                f"videos/{CAMERA}/from_timestamp": 0.0,
                f"videos/{CAMERA}/to_timestamp": written.frames / fps,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
            for feature, figures in sides[number]["stats"].items():
                row |= {f"stats/{feature}/{key}": value for key, value in figures.items()}
            rows.append(row)
            total += written.frames
        with replacing(meta / "episodes" / "chunk-000" / "file-000.parquet") as partial:
            pq.write_table(pa.Table.from_pylist(rows), partial)
        tasks = pa.table({"task_index": pa.array([0], pa.int64()), "__index_level_0__": [TASK]})
        # pandas, by which LeRobot reads this, wants each column described.
        kinds = (("task_index", "task_index", "int64", "int64"), (None, "__index_level_0__", "unicode", "object"))
        keys = ("name", "field_name", "pandas_type", "numpy_type")
        columns = [{**dict(zip(keys, kind, strict=True)), "metadata": None} for kind in kinds]
        names = {**dict.fromkeys(keys[:2]), "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        index = {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [names],
            "columns": columns,
            "pandas_version": "2.0.0",
        }
        with replacing(meta / "tasks.parquet") as partial:
            pq.write_table(tasks.replace_schema_metadata({"pandas": json.dumps(index)}), partial)
        features = _features(episodes[0][1], fps, self.exact)
        write_text(meta / "stats.json", dump(_merge([sides[number]["stats"] for number, _, _ in episodes])))
        own = {str(position): episode.meta.to_json() for position, (_, episode, _) in enumerate(episodes)}
        write_json(self.directory / OWN_META, {"episodes": json.loads(json.dumps(own, default=str))})
        info = {
            "codebase_version": "v3.0",
            "robot_type": episodes[0][1].meta.vehicle or "car",
            "total_episodes": len(episodes),
            "total_frames": total,
            "total_tasks": 1,
            "chunks_size": CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": {"train": f"0:{len(episodes)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            "features": features,
        }
        write_text(meta / "info.json", dump(info))

    def _film(self, number: int) -> Path:
        chunk, file = divmod(number, CHUNK)
        return self.directory / "videos" / CAMERA / f"chunk-{chunk:03d}" / f"file-{file:03d}.mp4"

    def _data(self, number: int) -> Path:
        chunk, file = divmod(number, CHUNK)
        return self.directory / "data" / f"chunk-{chunk:03d}" / f"file-{file:03d}.parquet"

    def _side(self, number: int) -> Path:
        """Return where the figures of an episode are kept until all are there."""
        folder = self.parts
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number}.json"


def rate(episode: Episode) -> int:
    """Return the whole number of frames a second that the format asks for."""
    return max(1, round(1 / episode.meta.nominal_period_s))


class _Encoder:
    """Writes an H.264 film with a key frame every ten frames, so that loaders can enter it anywhere."""

    def __init__(self, path: Path, fps: int, height: int, width: int, exact: bool) -> None:
        self._container = av.open(str(path), "w", format="mp4")
        stream: Any = self._container.add_stream("libx264rgb" if exact else "libx264", rate=Fraction(fps))
        stream.width, stream.height = width, height
        # Halved colours need even sides.
        stream.pix_fmt = "rgb24" if exact else "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
        stream.options = {"crf": "0" if exact else "20", "preset": "veryfast", "g": "10", "bf": "0"}
        self._stream = stream

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append one frame."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _columns(episode: Episode, rows: NDArray[np.int64], number: int, fps: int) -> dict[str, NDArray[Any]]:
    """Return the columns of a data file."""
    count = len(rows)
    extras = {f"observation.{name}": np.asarray(values)[rows] for name, values in episode.extras.items()}
    return {
        "action": episode.steering[rows],
        "time_s": episode.time_s[rows],
        **extras,
        "timestamp": (np.arange(count) / fps).astype(np.float32),
        "frame_index": np.arange(count),
        "episode_index": np.full(count, number),
        "index": np.arange(count),
        "task_index": np.zeros(count, np.int64),
    }


def _table(columns: dict[str, NDArray[Any]]) -> Any:
    """Return an arrow table; arrays of more dimensions become lists."""
    import pyarrow as pa

    return pa.table(
        {
            name: pa.array(values) if values.ndim == 1 else pa.array(values.reshape(len(values), -1).tolist())
            for name, values in columns.items()
        }
    )


def _features(episode: Episode, fps: int, exact: bool) -> dict[str, Any]:
    """Describe the columns and the film."""
    height, width = episode.meta.height, episode.meta.width
    video = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "gbrp" if exact else "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    features: dict[str, Any] = {
        CAMERA: {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": video,
        },
        "action": {"dtype": "float32", "shape": [1], "names": ["steering"]},
        "time_s": {"dtype": "float64", "shape": [1], "names": None},
    }
    for name, values in episode.extras.items():
        shape = list(np.shape(values)[1:]) or [1]
        features[f"observation.{name}"] = {"dtype": str(np.asarray(values).dtype), "shape": shape, "names": None}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return features


def _stats(values: NDArray[Any]) -> dict[str, list[Any]]:
    """Return the figures that loaders normalise by."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    figures = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
    return {**{name: np.nan_to_num(figure).tolist() for name, figure in figures.items()}, "count": [len(values)]}


class _PixelSums:
    """Sums over the pixels of a film, by channel, as shares of white."""

    def __init__(self) -> None:
        self.count, self.frames = 0, 0
        self.sums, self.squares = np.zeros(3), np.zeros(3)
        self.least, self.most = np.ones(3), np.zeros(3)

    def add(self, pictures: NDArray[np.uint8]) -> None:
        """Count some frames."""
        if len(pictures) == 0:
            return
        self.frames += len(pictures)
        values = pictures.reshape(-1, 3)
        self.count += len(values)
        self.least = np.minimum(self.least, values.min(0) / 255)
        self.most = np.maximum(self.most, values.max(0) / 255)
        for channel in range(3):
            times = np.bincount(values[:, channel], minlength=256)
            levels = np.arange(256) / 255
            self.sums[channel] += times @ levels
            self.squares[channel] += times @ levels**2

    def stats(self) -> dict[str, Any]:
        """Return the figures as the format has them for pictures, shape `[3, 1, 1]`."""
        mean = self.sums / max(self.count, 1)
        std = np.sqrt(np.maximum(self.squares / max(self.count, 1) - mean**2, 0))
        figures = {"min": self.least, "max": self.most, "mean": mean, "std": std}
        return {**{k: v.reshape(3, 1, 1).tolist() for k, v in figures.items()}, "count": [self.frames]}


def _merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge the figures of several episodes into those of all."""
    merged: dict[str, Any] = {}
    for name in parts[0]:
        one = [part[name] for part in parts if name in part]
        counts = np.asarray([figures["count"][0] for figures in one], np.float64)
        stacked = {key: np.asarray([figures[key] for figures in one]) for key in ("min", "max", "mean", "std")}
        weights = (counts / counts.sum()).reshape(-1, *[1] * (stacked["mean"].ndim - 1))
        mean = (weights * stacked["mean"]).sum(0)
        spread = (weights * (stacked["std"] ** 2 + stacked["mean"] ** 2)).sum(0) - mean**2
        figures = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean}
        figures["std"] = np.sqrt(np.maximum(spread, 0))
        merged[name] = {**{k: v.tolist() for k, v in figures.items()}, "count": [int(counts.sum())]}
    return merged
