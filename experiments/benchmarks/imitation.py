"""How fast imitation learns, beside the bare policy in the same run; what loaders deliver; how much memory it takes.

    python -m experiments.benchmarks.imitation --json imitation.json

Rates are frames a second of wall-clock time, on as many threads as torch is given. Bare: forward, loss and backward of
the policy on one batch that lies in memory, nothing else. Imitation: `train_imitation` on a data set on disk, with
reading, augmentation, clipping, optimizer, averaged weights and logs. Loaders: windows of the same shape, by this
project from its cache of fitted frames, by a plain torch `DataLoader` over JPEG files, and by LeRobot's data set where
the package `lerobot` is installed. Memory
is the peak of a process of its own that trains for some steps on 1, 4 and 16 times the frames; small sets are held in
memory, large ones read from disk. Contestants take turns; nothing is printed before the loaders have shown the same
pictures.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from agents.imitation.augmentation import AugmentationConfig
from agents.imitation.batches import Windows
from agents.imitation.train import ImitationConfig, Progress, head_in_bfloat16, train_imitation, weighted_squared_error
from agents.recordings import load_episodes
from agents.recordings.cache import held_in_memory
from agents.recordings.convert import convert
from agents.recordings.episodes import EpisodeMeta, EpisodeSet
from agents.recordings.writer import EpisodeWriter
from agents.runs.directory import RunDirectory
from experiments.cli import run_script
from experiments.console import check_json, write_results
from experiments.peak_memory import peak_mib
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

SOURCE = (120, 160)
"""Rows and columns of the pictures."""
FIT = Preprocessing(source_height=120, source_width=160, crop_top=40, height=48, width=96)
"""What the policy sees of them."""
QUALITY = 90
"""Of the JPEG files."""
SIZES = (1, 4, 16)
"""Times the frames that memory is measured at."""


@dataclass(frozen=True)
class ImitationBenchmark:
    """What to measure."""

    frames: int = 2000
    """Pictures in the data set."""
    rounds: int = 5
    """Turns that each contestant takes."""
    seconds: float = 4.0
    """Length of a turn, seconds."""
    core: str = "ltc"
    """Core of the policy."""
    batch_size: int = 16
    """B, windows side by side."""
    window: int = 20
    """T, frames in a window."""
    bfloat16: Literal["auto", "on", "off"] = "auto"
    """As `train imitation` has it."""
    memory: bool = True
    """Measure memory as well."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON; nowhere when left out."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if min(self.frames - 2 * self.window, self.rounds, self.batch_size, self.window - 4) < 1:
            raise ValueError("frames, rounds, batch_size and window are too small to measure anything.")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}.")


class Enough(Exception):
    """The turn is over."""


def main(config: ImitationBenchmark) -> dict[str, Any]:
    """Measure and print; returns what goes into the JSON file."""
    check_json(config.json)
    learning, policy = learner(config.core, config.batch_size, config.window, config.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        jpegs = write_jpegs(place / "jpeg", config.frames)
        fitted = held_in_memory(write_fitted(place / "fitted", jpegs))
        loaders = {
            "windows of fitted frames": lambda: own_batches(fitted, config),
            "torch DataLoader over JPEGs": lambda: jpeg_batches(jpegs, config, 0),
            "torch DataLoader over JPEGs, 2 workers": lambda: jpeg_batches(jpegs, config, 2),
        }
        if (lerobot := lerobot_batches(place / "lerobot", fitted, config)) is not None:
            loaders["LeRobot"] = lerobot
        check_alike(fitted, jpegs)
        bare = bare_step(learning, policy, fitted)
        train_for(learning, policy, fitted, 0.0, steps=3)  # compiles
        rates: dict[str, list[float]] = {"bare policy": [], "imitation": [], **{name: [] for name in loaders}}
        for _ in range(config.rounds):
            rates["bare policy"].append(rate_of(iter(bare, None), config.seconds))
            rates["imitation"].append(train_for(learning, policy, fitted, config.seconds))
            for name, batches in loaders.items():
                rates[name].append(rate_of(batches(), config.seconds / 2))
        figures = summary(rates)
        figures["threads"] = torch.get_num_threads()
        figures["bfloat16"] = head_in_bfloat16(learning, "cpu")
        print_summary(figures)
        if config.memory:
            figures["memory_mib"] = measure_memory(place, config)
            sizes = ", ".join(f"{name} {value:.0f} MiB" for name, value in figures["memory_mib"].items())
            print(f"peak memory of a training: {sizes}")
    write_results(config.json, "benchmark imitation", config, figures)
    return figures


def learner(core: str, batch_size: int, window: int, bfloat16: str) -> tuple[ImitationConfig, PolicyConfig]:
    """Return how it is learnt and by what."""
    learning = ImitationConfig(
        epochs=1000,
        batch_size=batch_size,
        window=window,
        stride=4,
        bfloat16=bfloat16,  # type: ignore[arg-type]
        augmentation=AugmentationConfig(flip=0.5, shift=0.05),
    )
    return learning, PolicyConfig(core=core, preprocessing=FIT)


def print_peak(data: str, core: str, bfloat16: str) -> None:
    """Train for some steps on a data set and print the peak of the memory, MiB."""
    learning, policy = learner(core, 16, 20, bfloat16)
    train_for(learning, policy, held_in_memory(load_episodes(data)), 0.0, steps=30)
    print(peak_mib())


def road(index: int) -> NDArray[np.uint8]:
    """Draw a picture uint8 `[120, 160, 3]` with some detail: a wandering line on rough ground."""
    rng = np.random.default_rng(index)
    ground = cv2.resize(rng.integers(60, 160, (30, 40, 3)).astype(np.uint8), (160, 120), interpolation=cv2.INTER_LINEAR)
    ground = np.clip(ground + rng.normal(0, 6, ground.shape), 0, 255).astype(np.uint8)
    bend = steering_at(index)
    points = np.asarray([[80 - 60 * bend * (1 - y / 120) ** 2, y] for y in range(40, 120, 4)], np.int32)
    cv2.polylines(ground, [points.reshape(-1, 1, 2)], False, (240, 220, 80), 4)
    return ground


def steering_at(index: int) -> float:
    """Steering of a frame, in [−1, 1]."""
    return float(0.8 * np.sin(index / 40))


def write_jpegs(place: Path, count: int) -> list[Path]:
    """Write pictures as JPEG files."""
    place.mkdir()
    paths = [place / f"{index:06d}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), cv2.cvtColor(road(index), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def read_fitted(path: Path) -> NDArray[np.uint8]:
    """Decode, crop and resize one picture."""
    picture = np.asarray(cv2.imread(str(path)))[..., ::-1].copy()
    return FIT(torch.from_numpy(picture)).numpy()


def write_fitted(place: Path, jpegs: list[Path], times: int = 1) -> EpisodeSet:
    """Write what the policy sees of the pictures as a data set, over and over."""
    frames = [read_fitted(path) for path in jpegs]
    writer = EpisodeWriter(place)
    for turn in range(times):
        with writer.episode(EpisodeMeta("benchmark", 0.05, start_s=turn * len(jpegs) * 0.05)) as recording:
            for index, frame in enumerate(frames):
                recording.append(frame, steering_at(index), 0.05 * index)
            recording.finish()
    return load_episodes(place)


def bare_step(learning: ImitationConfig, config: PolicyConfig, episodes: EpisodeSet) -> Callable[[], int]:
    """Return a function that takes one batch forward and back and returns its number of frames."""
    policy = DrivingPolicy.create(config)
    batch = next(iter(Windows(episodes, learning.window, learning.burn_in, None, learning.batch_size, prefetch=0)))
    frames, steering, valid = (torch.from_numpy(array) for array in (batch.frames, batch.steering, batch.valid))
    elapsed, starts = torch.from_numpy(batch.elapsed), torch.from_numpy(batch.starts)
    half = head_in_bfloat16(learning, "cpu")

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            predicted, _ = policy.motors(frames, None, elapsed, starts, preprocessed=True)
        loss = weighted_squared_error(predicted[..., 0], steering, valid.float(), 0.0)
        policy.zero_grad(set_to_none=True)
        loss.backward()
        return int(batch.steering.size)

    step()
    return step


def train_for(
    learning: ImitationConfig,
    config: PolicyConfig,
    episodes: EpisodeSet,
    seconds: float,
    steps: int = 0,
    device: torch.device | str = "cpu",
) -> float:
    """Train for so many seconds, or steps, of a run; returns frames a second, those of the first two steps left out."""
    count, started_s = 0, 0.0

    def on_step(state: Progress, total: int, loss: float) -> None:
        nonlocal count, started_s
        count += 1
        if count == 2:
            started_s = time.perf_counter()
        if count > 2 and (count >= steps if steps else time.perf_counter() - started_s > seconds):
            raise Enough

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run", "benchmark", learning)
        try:
            train_imitation(learning, config, episodes, episodes[:1], run, on_step=on_step, device=device)
        except Enough:
            pass
    return (count - 2) * learning.batch_size * learning.window / (time.perf_counter() - started_s)


def own_batches(episodes: EpisodeSet, config: ImitationBenchmark) -> Iterator[int]:
    """Read batches as training does; yields their numbers of frames."""
    windows = Windows(episodes, config.window, 4, 4, config.batch_size)
    while True:
        for batch in windows:
            yield int(batch.steering.size)


class JpegWindows(torch.utils.data.Dataset[torch.Tensor]):
    """Windows of JPEG files, decoded when they are asked for: what one writes first."""

    def __init__(self, paths: list[Path], window: int) -> None:
        self.paths, self.window = paths, window

    def __len__(self) -> int:
        return (len(self.paths) - self.window) // 4

    def __getitem__(self, index: int) -> torch.Tensor:
        start = 4 * index
        return torch.from_numpy(np.stack([read_fitted(path) for path in self.paths[start : start + self.window]]))


def jpeg_batches(paths: list[Path], config: ImitationBenchmark, workers: int) -> Iterator[int]:
    """Read batches by torch's loader; yields their numbers of frames."""
    dataset = JpegWindows(paths, config.window)
    loader = torch.utils.data.DataLoader(
        dataset, config.batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    while True:
        for batch in loader:
            yield batch.shape[0] * batch.shape[1]


def lerobot_batches(
    place: Path, episodes: EpisodeSet, config: ImitationBenchmark
) -> Callable[[], Iterator[int]] | None:
    """Read batches by LeRobot's own data set, from the same frames; None where the package is not installed."""
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError:
        return None
    convert(episodes, place, "lerobot", exact=False)
    info = json.loads((place / "meta" / "info.json").read_text(encoding="utf-8"))
    key = next(name for name, feature in info["features"].items() if feature["dtype"] == "video")
    steps = [(step - config.window + 1) / info["fps"] for step in range(config.window)]
    dataset = LeRobotDataset("benchmark/benchmark", root=place, delta_timestamps={key: steps})
    loader = torch.utils.data.DataLoader(dataset, config.batch_size, shuffle=True, drop_last=True)

    def batches() -> Iterator[int]:
        while True:
            for batch in loader:
                yield batch[key].shape[0] * batch[key].shape[1]

    return batches


def check_alike(fitted: EpisodeSet, jpegs: list[Path]) -> None:
    """Check that both loaders show the same pictures.

    Raises:
        RuntimeError: if they do not.
    """
    steps = range(0, len(jpegs), max(1, len(jpegs) // 7))
    if any((fitted[0].frames(step, step + 1)[0] != read_fitted(jpegs[step])).any() for step in steps):
        raise RuntimeError("the loaders show different pictures: no speed is reported.")


def rate_of(batches: Iterator[int], seconds: float) -> float:
    """Return frames a second; the first batch does not count."""
    next(batches)
    started_s, frames = time.perf_counter(), 0
    while (passed := time.perf_counter() - started_s) < seconds:
        frames += next(batches)
    return frames / passed


def measure_memory(place: Path, config: ImitationBenchmark) -> dict[str, float]:
    """Return the peak memory of trainings on larger and larger sets, MiB by times the frames."""
    jpegs = sorted((place / "jpeg").glob("*.jpg"))
    found = {}
    for times in SIZES:
        data = place / f"times-{times}"
        write_fitted(data, jpegs, times)
        code = f"from {__package__}.imitation import print_peak; print_peak({str(data)!r}, "
        code += f"{config.core!r}, {config.bfloat16!r})"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if answer.returncode:
            raise RuntimeError(f"the training on {times} times the frames failed: {answer.stderr[-300:]}")
        found[f"{times}x"] = float(answer.stdout.split()[-1])
    return found


def summary(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and ranges, and imitation as a share of the bare policy within each round."""
    shares = [a / b for a, b in zip(rates["imitation"], rates["bare policy"], strict=True)]
    return {
        "frames_per_s": {name: _spread(values) for name, values in rates.items()},
        "imitation_of_bare": _spread(shares),
    }


def print_summary(figures: dict[str, Any]) -> None:
    """A table for people."""
    print(f"frames a second, {figures['threads']} threads, bfloat16 {'on' if figures['bfloat16'] else 'off'}")
    for name, value in figures["frames_per_s"].items():
        print(f"  {name:40s} {value['median']:8.0f}  ({value['low']:.0f} to {value['high']:.0f})")
    share = figures["imitation_of_bare"]
    print(f"  imitation / bare policy {share['median']:24.2f}  ({share['low']:.2f} to {share['high']:.2f})")


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    run_script(ImitationBenchmark, main)
