"""LeRobot data sets, versions 3.0 and 2.1; pyarrow and PyAV suffice to read them.

    SET/meta/info.json                                 version, fps, features, templates of paths
        meta/episodes/chunk-000/file-000.parquet       3.0: where each episode's rows and film are
        data/chunk-000/file-000.parquet                3.0: many episodes a file;  2.1: episode_000000.parquet
        videos/KEY/chunk-000/file-000.mp4              3.0;  2.1: videos/chunk-000/KEY/episode_000000.mp4

The camera is the first feature of pictures, or the one named; steering is the dimension named so in `action`, or the
only one. Time is the frame's number over fps, unless there is a feature `time_s` (which `convert` writes for irregular
time) or one is named. `meta/wormwheel.json`, where it is, says what the format has no place for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet, FrameSource
from agents.recordings.native import PickedFrames
from agents.recordings.options import COLUMNS, STEERING, ReadOptions
from agents.recordings.reading.assemble import cut_rows
from agents.recordings.reading.clock import read_clock
from agents.recordings.reading.columns import speed_scale, unit_of
from agents.recordings.reading.files import DamagedFile, check_regular, one_line, read_json
from agents.recordings.reading.labels import UnitNotTold, steering_fractions
from agents.recordings.reading.line import Line
from agents.recordings.reading.parquet import ParquetCells, parquet, picture_bytes
from agents.recordings.reading.pictures import MOST_PIXELS, decode_picture
from agents.recordings.reading.video import VideoFile

EXPECTS = "a LeRobot data set, version 3.0 or 2.1 (a directory with meta/info.json)"
"""What a path of this format looks like."""
TAKES = STEERING | COLUMNS | {"max_gap_s"}
"""Options that mean something in this format; see `agents.recordings.READERS`."""
OWN_META = "meta/wormwheel.json"
"""Where `convert` keeps what the format has no place for."""

_STANDARD = {"timestamp", "frame_index", "episode_index", "index", "task_index", "next.done", "next.reward", "action"}
_COUNTING = _STANDARD - {"action"}
_MOST_DIMS = 64
_STEERING = re.compile(r"steer")
_MOST_OFF = 0.1  # of a frame's period, that a film's time stamps may differ from those its rate gives
_ANGLE = re.compile(r"(?<![a-z])angle")
_NOT_IT = re.compile(r"rate|velocity|speed|torque|accel|yaw|heading|pitch|roll|slip|rear|sensor|target|desired|delta")


@dataclass(frozen=True)
class _Layout:
    """What `info.json` says that is needed here."""

    root: Path
    version: int
    fps: float
    chunk_size: int
    features: Mapping[str, Mapping[str, Any]]
    data_path: str
    video_path: str
    camera: str
    steering: tuple[str, int]
    time: str | None
    extras: Mapping[str, str]
    speed: str | None


def recognises(path: Path) -> bool:
    """Say whether a path is such a data set."""
    return (path / "meta" / "info.json").is_file()


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a data set.

    Args:
        path: Its directory.
        options: Names of features or dimensions, sides, clock.

    Returns:
        Its episodes, cut at gaps. Rows with damaged labels and episodes with damaged files are counted and left out.

    Raises:
        ValueError: if `info.json` is damaged or tells of no camera or no steering.
    """
    layout = _layout(path, options)
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    metas = _own_meta(path)
    cameras = [name for name, feature in layout.features.items() if feature.get("dtype") in ("video", "image")]
    if len(cameras) > 1 and options.frame_column is None:
        notices.append(f"of its cameras {', '.join(cameras)} {layout.camera} counts; --frame-column names another")
    if options.positive == "auto" and metas is None:
        notices.append("positive steering is taken to go left; --positive right turns it round")
    places = _places(layout) if layout.version >= 3 else {}
    episodes: list[Episode] = []
    films: dict[Path, VideoFile] = {}
    line = Line()
    for file in sorted((path / "data").glob("*/*.parquet")):
        try:
            columns = _columns(file, layout)
        except DamagedFile as error:
            skipped["data file damaged"] += 1
            notices.append(f"left out: {error}")
            continue
        numbers = columns["episode_index"].astype(np.int64)
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            meta = {} if metas is None else metas.get(int(number), {})
            try:
                found = _episode(
                    layout, int(number), rows, columns, file, places, films, meta, options, skipped, notices, line
                )
            except UnitNotTold:
                raise
            except (DamagedFile, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
                skipped["episode with damaged files"] += 1
                notices.append(f"episode {number} left out: {one_line(error)}")
                continue
            episodes += found
    result = EpisodeSet(tuple(episodes), {k: n for k, n in skipped.items() if n}, tuple(dict.fromkeys(notices)))
    if episodes:
        _ = result.frame_size
    return result


def _layout(path: Path, options: ReadOptions) -> _Layout:
    """Read `info.json` and choose the features."""
    place = path / "meta" / "info.json"
    info = read_json(place)
    try:
        version = int(re.sub(r"\D.*", "", str(info["codebase_version"]).lstrip("v")))
        features: dict[str, Any] = {name: dict(feature) for name, feature in info["features"].items()}
        fps = float(info["fps"])
        chunk_size = max(int(info.get("chunks_size") or 1000), 1)
        data_path, video_path = str(info["data_path"]), str(info.get("video_path") or "")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedFile(
            f"{place} should have codebase_version, fps, features and data_path ({one_line(error)})."
        ) from None
    if version not in (2, 3):
        raise ValueError(f"{place} is of version {info['codebase_version']!r:.20}; 2.1 and 3.0 are read.")
    if not (np.isfinite(fps) and 0 < fps <= 1000):
        raise DamagedFile(f"{place} should have a positive rate, got fps {fps:g}.")
    cameras = [name for name, feature in features.items() if feature.get("dtype") in ("video", "image")]
    if options.frame_column is not None:
        cameras = [name for name in cameras if options.frame_column in (name, name.rsplit(".", 1)[-1])]
    if not cameras:
        raise ValueError(f"{path} has no camera of that name among its features: {', '.join(features)}.")
    # The forward-looking camera of a car with several goes first, one that looks aside last.
    camera = min(
        cameras,
        key=lambda name: (
            not re.search("front|forward|center|centre", name),
            bool(re.search("left|right|rear|back|map|depth|wrist", name)),
            cameras.index(name),
        ),
    )
    return _Layout(
        path,
        version,
        fps,
        chunk_size,
        features,
        data_path,
        video_path,
        camera,
        _steering(path, features, options),
        _time(path, features, options),
        {
            name: name.removeprefix("observation.")
            for name, feature in features.items()
            if name not in _STANDARD
            and name != "time_s"
            and str(feature.get("dtype")).startswith(("float", "int", "bool"))
        },
        None if options.speed_column is None else _feature(path, features, options.speed_column),
    )


def _names(feature: Mapping[str, Any]) -> list[str]:
    """Return the names of a feature's dimensions; older sets nest them in a dict."""
    names = feature.get("names")
    while isinstance(names, dict) and names:
        names = next(iter(names.values()))
    return [str(name) for name in names] if isinstance(names, list) else []


def _dims(name: str, feature: Mapping[str, Any]) -> list[str]:
    """Return what the dimensions of a feature are called: those without names by their number."""
    shape = feature.get("shape") or [1]
    wide = shape[0] if isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int) else 1
    return _names(feature) or ([f"{name}[{i}]" for i in range(wide)] if 1 < wide <= _MOST_DIMS else [name])


def _steering(path: Path, features: Mapping[str, Any], options: ReadOptions) -> tuple[str, int]:
    """Return the feature and the dimension of the steering."""
    vectors = {
        name: feature for name, feature in features.items() if feature.get("dtype") in ("float32", "float64", "int64")
    }
    listed = [
        (name, index, dim.lower() if options.steering_column is None else dim)
        for name, feature in vectors.items()
        for index, dim in enumerate(_dims(name, feature))
    ]
    listed.sort(key=lambda one: not _names(vectors[one[0]]))
    wanted = options.steering_column
    if wanted is not None:
        found = [(n, i) for n, i, dim in listed if wanted in (dim, f"{n}.{dim}", f"{n}[{i}]", n)]
    else:
        plain = [one for one in listed if not _NOT_IT.search(one[2])]
        for pool, word in ((plain, _STEERING), (plain, _ANGLE), (listed, _STEERING)):
            named = [(n, i) for n, i, dim in pool if word.search(dim)]
            found = [place for place in named if place[0].startswith("action")] or named
            if found:
                break
        if not found and "action" in vectors and list(vectors["action"].get("shape", [])) in ([1], []):
            found = [("action", 0)]
    if not found:
        called = [dim if dim.startswith(n) else f"{n}.{dim}" for n, _, dim in listed if n not in _COUNTING]
        dims = ", ".join(called[:20]) or "none"
        raise ValueError(f"{path} names no steering among its dimensions: {dims}. Name it by --steering-column.")
    if len(found) > 1:
        several = ", ".join(
            f"{n}.{_names(features[n])[i]}" if _names(features[n]) else f"{n}[{i}]" for n, i in found[:8]
        )
        raise ValueError(f"{path}: the steering could be any of {several}; name it by --steering-column.")
    return found[0]


def _time(path: Path, features: Mapping[str, Any], options: ReadOptions) -> str | None:
    if options.time_column is None:
        return "time_s" if "time_s" in features else None
    return _feature(path, features, options.time_column)


def _feature(path: Path, features: Mapping[str, Any], name: str) -> str:
    if name not in features:
        raise ValueError(f"{path} has no feature {name!r}; it has: {', '.join(features)}.")
    return name


def _columns(file: Path, layout: _Layout) -> dict[str, NDArray[Any]]:
    """Read the columns of numbers that are needed from one data file."""
    pq = parquet()
    check_regular(file)
    steering, _ = layout.steering
    wanted = ["episode_index", "frame_index", steering, *([layout.time] if layout.time else []), *layout.extras]
    try:
        source = pq.ParquetFile(file)
        present = [name for name in dict.fromkeys(wanted) if name in source.schema_arrow.names]
        table = source.read(columns=present)
        columns = {name: _array(table.column(name)) for name in present}
    # Anything: for a damaged file pyarrow lets out ArrowInvalid, OSError, NotImplementedError, MemoryError, ...
    except Exception as error:
        raise DamagedFile(f"{file} cannot be read as parquet ({one_line(error)})") from None
    missing = {"episode_index", "frame_index", steering, *([layout.time] if layout.time else [])} - columns.keys()
    if missing:
        raise DamagedFile(f"{file} lacks the columns {', '.join(sorted(missing))}")
    count = len(columns["episode_index"])
    for name in ("episode_index", "frame_index"):
        if columns[name].ndim != 1 or not np.issubdtype(columns[name].dtype, np.integer):
            raise DamagedFile(f"{file}: the column {name} should hold whole numbers")
    return {name: values for name, values in columns.items() if len(values) == count}


def _array(column: Any) -> NDArray[Any]:
    """Turn a column of numbers or of lists of numbers into an array."""
    kind = column.type
    if hasattr(kind, "value_type"):
        cells = column.to_pylist()
        width = next((len(cell) for cell in cells if cell is not None), 0)
        return np.asarray([[np.nan] * width if cell is None else cell for cell in cells])
    values = column.to_numpy()
    if values.dtype == object:
        raise ValueError("a column of mixed values")
    return np.asarray(values)


def _places(layout: _Layout) -> dict[int, dict[str, Any]]:
    """Read where each episode's rows and film are (version 3.0)."""
    pq = parquet()
    found: dict[int, dict[str, Any]] = {}
    prefix = f"videos/{layout.camera}/"
    for file in sorted((layout.root / "meta" / "episodes").glob("*/*.parquet")):
        check_regular(file)
        try:
            source = pq.ParquetFile(file)
            names = [n for n in source.schema_arrow.names if n == "episode_index" or n.startswith(prefix)]
            for row in source.read(columns=names).to_pylist():
                found[int(row["episode_index"])] = {k.removeprefix(prefix): v for k, v in row.items()}
        except Exception as error:
            text = f"{file} cannot be read as parquet ({one_line(error)}); copy it again."
            raise DamagedFile(text) from None
    return found


def _episode(
    layout: _Layout,
    number: int,
    rows: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    file: Path,
    places: Mapping[int, Mapping[str, Any]],
    films: dict[Path, VideoFile],
    meta: Mapping[str, Any],
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
    line: Line,
) -> list[Episode]:
    """Read one episode; several where its clock has gaps."""
    rows = rows[np.argsort(columns["frame_index"][rows], kind="stable")]
    index = columns["frame_index"][rows].astype(np.int64)
    fresh = np.concatenate([[True], np.diff(index) > 0])
    skipped["repeat of an earlier record"] += int((~fresh).sum())
    rows, index = rows[fresh], index[fresh]
    name, dimension = layout.steering
    values = columns[name]
    raw = (values if values.ndim == 1 else values[:, dimension])[rows].astype(np.float64)
    dims = _names(layout.features[name])
    unit = unit_of(dims[dimension] if dimension < len(dims) else name)
    steering = steering_fractions(raw, options, skipped, notices, name=layout.root, usual_side="left", unit=unit)
    stamps_s = index / layout.fps
    if layout.time is not None:
        stamps_s = columns[layout.time][rows].astype(np.float64).reshape(len(rows))
    clock = read_clock(stamps_s, index, np.zeros(len(rows), bool), 1 / layout.fps, options)
    if clock.notice:
        notices.append(clock.notice)
    source, height, width = _frames(layout, number, rows, index, file, places, films)
    known = EpisodeMeta.from_json(meta) if meta else EpisodeMeta(renderer="camera")
    period_s = known.nominal_period_s if meta and options.period_s is None else options.period_s or 1 / layout.fps
    if layout.time is not None and not meta and options.period_s is None:
        period_s = clock.period_s  # of the time stamps, which may be another than the film's
    extras = {short: columns[long] for long, short in layout.extras.items() if long in columns and long != name}
    start_s = line.begin(known)
    if layout.speed is not None and layout.speed in columns:
        scale = speed_scale(unit_of(layout.speed))
        extras["speed_mps"] = (scale * columns[layout.speed].reshape(len(columns[layout.speed]))).astype(np.float32)
    episodes = []
    for kept in cut_rows(np.flatnonzero(np.isfinite(steering)), clock):
        about = EpisodeMeta(
            source=str(layout.root),
            nominal_period_s=period_s,
            height=height,
            width=width,
            vehicle=known.vehicle,
            renderer=known.renderer,
            seed=known.seed,
            start_s=start_s + float(clock.line_s[kept[0]]),
            extra={**known.extra, "episode": number},
        )
        time_s = clock.time_s[kept] if layout.time else clock.time_s[kept] - clock.time_s[kept[0]]
        chosen = {short: array[rows[kept]] for short, array in extras.items()}
        frames = PickedFrames(source, kept)
        episodes.append(Episode(steering[kept].astype(np.float32), time_s, about, frames, extras=chosen))
    if episodes:
        line.end(known, start_s, episodes[-1].meta.start_s + episodes[-1].duration_s)
    return episodes


def _frames(
    layout: _Layout,
    number: int,
    rows: NDArray[np.int64],
    index: NDArray[np.int64],
    file: Path,
    places: Mapping[int, Mapping[str, Any]],
    films: dict[Path, VideoFile],
) -> tuple[FrameSource, int, int]:
    """Return where the frames of these rows are, and H and W."""
    if layout.features[layout.camera]["dtype"] == "image":
        pictures = ParquetPictures(file, layout.camera, rows)
        return pictures, pictures.height, pictures.width
    place = places.get(number, {}) if layout.version >= 3 else {}
    if layout.version >= 3 and not place:
        raise DamagedFile(f"meta/episodes does not tell where the film of episode {number} is")
    fields = {
        "video_key": layout.camera,
        "chunk_index": place.get("chunk_index", 0),
        "file_index": place.get("file_index", 0),
        "episode_chunk": number // layout.chunk_size,
        "episode_index": number,
    }
    film = layout.root / fill(layout.video_path, fields)
    if film not in films:
        films[film] = VideoFile(film)
    video = films[film]
    stamps_s = video.stamps_s()
    wanted_s = float(place.get("from_timestamp") or 0.0) + index / layout.fps
    nearest = np.clip(np.searchsorted(stamps_s, wanted_s - 0.5 / layout.fps), 0, len(stamps_s) - 1)
    if (np.abs(stamps_s[nearest] - wanted_s) > 1.0 / layout.fps).any():
        raise DamagedFile(f"{film} does not show all {len(rows)} frames of episode {number}")
    off_s = np.abs(stamps_s[nearest] - wanted_s)
    if (np.diff(nearest) <= 0).any() or np.median(off_s) > _MOST_OFF / layout.fps:
        raise DamagedFile(
            f"{film} shows frames {1000 * float(np.median(np.diff(stamps_s))):.4g} ms apart, and info.json says "
            f"{layout.fps:g} a second: one of them is wrong, and labels would belong to other frames"
        )
    return PickedFrames(video, nearest.astype(np.int64)), video.height, video.width


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """Fill in a template of a path such as "data/chunk-{chunk_index:03d}/…"; nothing but whole names is replaced.

    Raises:
        DamagedFile: if a name is not known or the path would leave the data set.
    """

    def one(match: re.Match[str]) -> str:
        if match[1] not in fields:
            raise DamagedFile(f"the template {template[:80]!r} asks for {match[1][:40]!r}, which is not known")
        value = fields[match[1]]
        return f"{int(value):0{int(match[2])}d}" if match[2] else str(value)

    path = re.sub(r"\{(\w+)(?::0?(\d{1,2})d)?\}", one, template)
    if not path or ".." in path.split("/") or path.startswith("/") or "\0" in path:
        raise DamagedFile(f"the template {template[:80]!r} leads out of the data set")
    return path


class ParquetPictures:
    """A `FrameSource` over pictures that stand in a column of a parquet file; one row group is in memory at a time.

    Args:
        file: The file.
        column: Of structs with `bytes`.
        rows: `[n]` rows of the file, rising.

    Raises:
        ValueError: if the first picture cannot be decoded.
    """

    def __init__(self, file: Path, column: str, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self._cells = ParquetCells(file, column)
        first = self._picture(int(rows[0]))
        if first is None or first.shape[0] * first.shape[1] > MOST_PIXELS:
            raise DamagedFile(f"{file} holds no picture in its column {column}")
        self.height, self.width = first.shape[:2]

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Decode a run of pictures; False where one cannot be decoded and the one before stands in."""
        frames = np.zeros((stop - start, self.height, self.width, 3), np.uint8)
        good = np.zeros(stop - start, bool)
        for position in range(stop - start):
            picture = self._picture(int(self.rows[start + position]))
            if picture is not None and picture.shape == frames.shape[1:]:
                frames[position], good[position] = picture, True
            elif position:
                frames[position] = frames[position - 1]
        return frames, good

    def _picture(self, row: int) -> NDArray[np.uint8] | None:
        content = picture_bytes(self._cells[row])
        return None if content is None else decode_picture(content)


def _own_meta(path: Path) -> dict[int, dict[str, Any]] | None:
    """Return what `convert` kept of each episode; None for sets that others made."""
    if not (path / OWN_META).is_file():
        return None
    content = read_json(path / OWN_META)
    try:
        return {int(number): dict(meta) for number, meta in content["episodes"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedFile(f"{path / OWN_META} should tell of each episode; it is damaged, convert again.") from None


def dump(value: Any) -> str:
    """Return JSON as the format's own files have it."""
    return json.dumps(value, indent=4)
