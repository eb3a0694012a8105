"""Minari data sets: HDF5 files of Gymnasium rollouts (h5py; `pip install -e '.[minari]'` from a checkout).

    SET/data/main_data.hdf5    episode_N/{observations, actions, infos, ...}
             metadata.json

Observations are one more than actions; the last one has no action and is left out. The camera is the array of uint8
pictures among the observations; pictures that Minari packed as JPEG are decoded. Steering is the only action, or the
one named by its number from 0.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from agents.recordings.native import PickedFrames
from agents.recordings.options import COLUMNS, STEERING, ReadOptions
from agents.recordings.reading.assemble import cut_rows
from agents.recordings.reading.clock import read_clock
from agents.recordings.reading.columns import speed_scale, unit_of
from agents.recordings.reading.files import DamagedFile, check_fetched, number, one_line
from agents.recordings.reading.labels import UnitNotTold, steering_fractions
from agents.recordings.reading.line import Line
from agents.recordings.reading.pictures import MOST_PIXELS, decode_picture

EXPECTS = "a Minari data set (a directory with data/main_data.hdf5, or that file)"
"""What a path of this format looks like."""
TAKES = STEERING | COLUMNS | {"max_gap_s"}
"""Options that mean something in this format; see `agents.recordings.READERS`."""
USUAL_PERIOD_S = 0.05
"""Where nothing tells the time between frames."""

_MOST_VALUES = 50_000_000
_DISCRETE = re.compile(r'"action_space":\s*"?\{\s*"type":\s*"(Multi)?(Discrete|Binary)"')


def h5() -> Any:
    """Return h5py, or say how to get it."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Minari data sets need h5py", name="h5py") from error
    return h5py


def recognises(path: Path) -> bool:
    """Say whether a path is such a data set."""
    return _file(path) is not None


def _file(path: Path) -> Path | None:
    for place in (path / "data" / "main_data.hdf5", path / "main_data.hdf5"):
        if place.is_file():
            return place
    return path if path.suffix.lower() in (".hdf5", ".h5") and path.is_file() else None


def read(path: Path, options: ReadOptions) -> EpisodeSet:
    """Read a data set.

    Args:
        path: Its directory or its HDF5 file.
        options: Names of the camera and of the action, sides, clock.

    Returns:
        Its episodes. Those that are damaged are counted and left out.

    Raises:
        ValueError: if the file is no HDF5 file, or it cannot be told which observation is the camera or which action
            the steering.
    """
    file = _file(path)
    assert file is not None, "recognises() has seen it"
    check_fetched(file)
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    episodes: list[Episode] = []
    line = Line()
    try:
        content = h5().File(file, "r")
        names = sorted((name for name in content if name.startswith("episode_")), key=_numeral)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # h5py lets out OSError, RuntimeError, KeyError, UnicodeDecodeError, ...
        raise DamagedFile(f"{file} cannot be read as HDF5 ({one_line(error)}); copy it again.") from None
    with content:
        if not names:
            inside = ", ".join(map(repr, list(content)[:8])) or "nothing"
            raise DamagedFile(f"{file} holds no episode_0, episode_1, ... and is no Minari data set; in it: {inside}.")
        for name in names:
            try:
                found = _episode(content[name], file, path, name, line, options, skipped, notices)
            except (_NotTold, UnitNotTold, ModuleNotFoundError):
                raise
            except Exception as error:
                skipped["episode with damaged data"] += 1
                notices.append(f"{name} left out: {one_line(error)}")
                continue
            episodes += found
    result = EpisodeSet(tuple(episodes), {k: n for k, n in skipped.items() if n}, tuple(dict.fromkeys(notices)))
    if episodes:
        _ = result.frame_size
    return result


class _NotTold(ValueError):
    """The set does not say what is what; this concerns all episodes."""


def _episode(
    group: Any,
    file: Path,
    path: Path,
    name: str,
    line: Line,
    options: ReadOptions,
    skipped: Counter[str],
    notices: list[str],
) -> list[Episode]:
    """Read one episode."""
    camera = _camera(group["observations"], path, options)
    stored = _actions(group["actions"], path, options)
    if stored.dtype.kind not in "f":
        raise _NotTold(
            f"{path} has actions that are {stored.dtype}, which are choices and no steering; record it with continuous "
            "ones."
        )
    actions = np.asarray(_small(stored), np.float64)
    steps = len(actions)
    steering_raw = _steering(actions, path, options)
    frames = HdfFrames(file, camera.name, steps)
    if len(camera) < steps:
        raise DamagedFile(f"{len(camera)} observations for {steps} actions")
    infos = group.get("infos") or {}
    known = _meta(group)
    car_racing = "CarRacing" in _env_of(file)
    steering = steering_fractions(
        steering_raw, options, skipped, notices, name=path, usual_side="right" if car_racing else "left"
    )
    period_s = options.period_s or (known.nominal_period_s if known is not None else USUAL_PERIOD_S)
    timed = options.time_column is not None or "time_s" in infos
    if options.time_column is not None and options.time_column not in infos:
        raise _NotTold(f"{path} has no {options.time_column!r} among its infos; it has: {', '.join(infos) or 'none'}.")
    if timed:
        stamps_s = np.asarray(_small(infos[options.time_column or "time_s"])[:steps], np.float64).reshape(-1)
    elif isinstance(group["observations"], h5().Group) and "elapsed" in group["observations"]:
        elapsed = np.asarray(_small(group["observations"]["elapsed"])[:steps], np.float64).reshape(-1)
        stamps_s = np.concatenate([[0.0], np.cumsum(elapsed[1:] * period_s)])
    else:
        stamps_s = np.arange(steps, dtype=np.float64) * period_s
        if options.period_s is None:
            notices.append(
                f"nothing tells the time between frames: {1000 * period_s:g} ms is taken; see --nominal-rate"
            )
    if known is None and not car_racing and options.positive == "auto":
        notices.append("positive steering is taken to go left; --positive right turns it round")
    clock = read_clock(stamps_s, np.arange(steps), np.zeros(steps, bool), period_s, options)
    if timed and known is None and options.period_s is None:
        period_s = clock.period_s
    extras = {
        key: _small(infos[key])[:steps]
        for key in infos
        if key != "time_s" and hasattr(infos[key], "dtype") and infos[key].dtype.kind in "fiub"
    }
    start_s = line.begin(known)
    if options.speed_column is not None:
        if options.speed_column not in extras:
            known_names = ", ".join(extras) or "none"
            raise _NotTold(f"{path} has no numbers {options.speed_column!r} among its infos; it has: {known_names}.")
        speed = np.asarray(extras[options.speed_column], np.float64).reshape(steps)
        extras["speed_mps"] = (speed_scale(unit_of(options.speed_column)) * speed).astype(np.float32)
    episodes = []
    for rows in cut_rows(np.flatnonzero(np.isfinite(steering)), clock):
        meta = EpisodeMeta(
            source=str(path),
            nominal_period_s=period_s,
            height=frames.height,
            width=frames.width,
            vehicle=known.vehicle if known else "",
            renderer=known.renderer if known else "",
            seed=known.seed if known else None,
            start_s=start_s + float(clock.line_s[rows[0]]),
            extra={**(known.extra if known else {}), "episode": name},
        )
        chosen = {key: values[rows] for key, values in extras.items()}
        episodes.append(
            Episode(
                steering[rows].astype(np.float32), clock.time_s[rows], meta, PickedFrames(frames, rows), extras=chosen
            )
        )
    if episodes:
        line.end(known, start_s, episodes[-1].meta.start_s + episodes[-1].duration_s)
    return episodes


def _camera(observations: Any, path: Path, options: ReadOptions) -> Any:
    """Return the data set of pictures."""
    found: list[Any] = []

    def visit(_: str, item: Any) -> None:
        if hasattr(item, "shape") and (
            (item.dtype == np.uint8 and len(item.shape) == 4 and item.shape[3] in (1, 3))
            or (item.dtype.kind == "O" and len(item.shape) == 1)
        ):
            found.append(item)

    if hasattr(observations, "visititems"):
        observations.visititems(visit)
    else:
        visit("", observations)
    if options.frame_column is not None:
        found = [item for item in found if options.frame_column in (item.name.rsplit("/", 1)[-1], item.name)]
    if len(found) != 1:
        listed = ", ".join(item.name for item in found) or "none"
        raise _NotTold(
            f"{path} should have one array of pictures among its observations, it has: {listed}. "
            "Name it by --frame-column."
        )
    return found[0]


def _actions(actions: Any, path: Path, options: ReadOptions) -> Any:
    """Return the array with the steering; of several by name, the one that is named so."""
    if hasattr(actions, "dtype"):
        return actions
    names = [name for name in actions if hasattr(actions[name], "dtype")]
    wanted = options.steering_column
    found = [name for name in names if (name == wanted if wanted is not None else "steer" in name.lower())]
    if len(found) != 1:
        raise _NotTold(
            f"{path} has the actions {', '.join(names) or 'none'}: name the one that steers by --steering-column."
        )
    return actions[found[0]]


def _steering(actions: NDArray[np.float64], path: Path, options: ReadOptions) -> NDArray[np.float64]:
    flat = actions.reshape(len(actions), -1)
    if _DISCRETE.search(_env_of(_file(path) or path).replace("\\", "")):
        raise _NotTold(
            f"{path} has discrete actions, which are choices and no steering; record it with continuous ones."
        )
    if options.steering_column is not None and not (flat.shape[1] == 1 and not options.steering_column.isdigit()):
        column = number(options.steering_column)
        if not (column == column and 0 <= column < flat.shape[1]):
            raise _NotTold(
                f"{path} has {flat.shape[1]} actions a step; --steering-column takes their number, from 0 to "
                f"{flat.shape[1] - 1}, got {options.steering_column!r}."
            )
        return flat[:, int(column)]
    if flat.shape[1] == 1 or "CarRacing" in _env_of(_file(path) or path):
        return flat[:, 0]
    raise _NotTold(
        f"{path} has {flat.shape[1]} actions a step and does not say which one steers: give its number from 0 by "
        "--steering-column."
    )


def _small(values: Any) -> Any:
    """Read an array of numbers after checking that it is not one of pictures."""
    if int(np.prod(values.shape, dtype=np.float64)) > _MOST_VALUES:
        raise DamagedFile(f"{values.name} promises {list(values.shape)} values")
    return values[()]


def _meta(group: Any) -> EpisodeMeta | None:
    """Return what `convert` kept of an episode; None where others made it."""
    text = group.attrs.get("wormwheel")
    if not isinstance(text, str):
        return None
    return EpisodeMeta.from_json(json.loads(text))


def _env_of(file: Path) -> str:
    """Return what the set says of its env."""
    place = file.parent / "metadata.json"
    try:
        return place.read_text(encoding="utf-8", errors="replace")[:1_000_000] if place.is_file() else ""
    except OSError:
        return ""


def _numeral(name: str) -> tuple[int, str]:
    digits = name.removeprefix("episode_")
    return (int(digits) if digits.isdigit() and len(digits) < 16 else 1 << 60, name)


class HdfFrames:
    """A `FrameSource` over an array of an HDF5 file, opened for each read.

    Args:
        file: The file.
        name: Of the array: uint8 `[T + 1, H, W, 3]`, or bytes of packed pictures `[T + 1]`.
        steps: T; frames after them have no action.
    """

    def __init__(self, file: Path, name: str, steps: int) -> None:
        self.file, self.name, self.steps = file, name, steps
        with h5().File(file, "r") as content:
            first = self._decoded(content[name][0:1])
        if first is None or first.shape[1] * first.shape[2] > MOST_PIXELS:
            raise DamagedFile(f"{name} holds no picture")
        self.height, self.width = first.shape[1:3]

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a run of frames."""
        try:
            with h5().File(self.file, "r") as content:
                frames = self._decoded(content[self.name][start:stop])
        except Exception as error:  # h5py lets out OSError, RuntimeError, KeyError, ValueError, ...
            text = f"{self.file}: {self.name} cannot be read from frame {start} to {stop} ({one_line(error)})"
            raise DamagedFile(f"{text}; copy it again.") from None
        if frames is None or frames.shape[:3] != (stop - start, self.height, self.width):
            raise DamagedFile(
                f"{self.file}: {self.name} cannot be decoded from frame {start} to {stop}; copy it again."
            )
        return frames, np.ones(stop - start, bool)

    def _decoded(self, values: Any) -> NDArray[np.uint8] | None:
        if values.dtype.kind == "O":
            pictures = [decode_picture(np.asarray(value, np.uint8).tobytes()) for value in values]
            known = [picture for picture in pictures if picture is not None]
            if not known or len(known) < len(pictures) or len({picture.shape for picture in known}) > 1:
                return None
            return np.stack(known)
        return np.repeat(values, 3, axis=3) if values.shape[3] == 1 else values
