"""A fuzzer over every reader but those of recordings: policies, learners, runs, roads, wirings, spaces, ONNX.

    python -m tests.reliability.fuzz_readers --count 10000 --seed 0

Each case damages one file as `tests.reliability.fuzz_recordings` does, JSON inside safetensors among it, then reads it
as a verb would. A faultless damaged file (a blank more, a note changed) may be read; whatever else happens must be a
ValueError or OSError of one line that names the file or its directory, within 5 s and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import shutil
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.reliability.fuzz_recordings import examine_by, replace_file
from tests.reliability.mutations import mutate


@dataclass(frozen=True)
class Reader:
    """A kind of file or directory, and what reads it."""

    make: Callable[[Path], None]
    """Puts a whole specimen into a directory."""
    read: Callable[[Path], Any]
    """Reads the specimen in that directory as a verb would."""
    damaged: tuple[str, ...] = ("*",)
    """Patterns of the files that are damaged."""
    needs: tuple[str, ...] = ()
    """Packages without which it cannot be read."""


def _policy(place: Path, core: str = "gru", **options: Any) -> Path:
    from policies.checkpoint import save_policy
    from policies.policy import DrivingPolicy, PolicyConfig
    from policies.preprocessing import Preprocessing

    torch.manual_seed(0)
    fit = Preprocessing(source_height=24, source_width=48, height=24, width=48)
    config = PolicyConfig(core=core, core_options=options, preprocessing=fit)
    return save_policy(DrivingPolicy.create(config), place / "policy", {"data": "made up"})


def _gru(place: Path) -> None:
    _policy(place)


def _cfc(place: Path) -> None:
    _policy(place, "cfc")


def _read_policy(place: Path) -> None:
    from experiments.policy_paths import find_policy, world_of
    from policies.checkpoint import load_policy

    directory = find_policy(place / "policy")
    world_of(directory)
    policy = load_policy(directory)
    policy(
        torch.zeros(
            1,
            2,
            policy.config.preprocessing.source_height,
            policy.config.preprocessing.source_width,
            3,
            dtype=torch.uint8,
        )
    )


def _checkpoint(place: Path) -> None:
    from agents.runs.checkpoints import sign

    sign(_policy(place))


def _read_checkpoint(place: Path) -> None:
    from agents.runs.checkpoints import newest_whole

    found = newest_whole(place / "policy")
    if found is not None:
        _read_policy(place)


def _learner(place: Path) -> None:
    from agents.ppo.algorithm import LiquidPPO

    model = LiquidPPO("gru", "CartPole-v1", seed=0, n_steps=16, chunk=8, batch_size=16, n_epochs=1)
    model.record["env"] = "CartPole-v1"
    model.learn(16)
    model.save(place / "policy")


def _read_learner(place: Path) -> None:
    from agents.ppo.algorithm import LiquidPPO
    from experiments.policy_paths import find_policy, world_of

    world_of(find_policy(place / "policy", frameless=True))
    LiquidPPO.load(place / "policy")


def _training_state(place: Path) -> None:
    from agents.runs.training_state import save_training_state

    model, optimizer, generator = _trained()
    save_training_state(place / "training.safetensors", model, optimizer, generator, {"epoch": 1, "step": 3})


def _trained() -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.Generator]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, torch.Generator().manual_seed(0)


def _read_training_state(place: Path) -> None:
    from agents.runs.training_state import load_training_state

    model, optimizer, generator = _trained()
    load_training_state(place / "training.safetensors", model, optimizer, generator)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()


def _run_directory(place: Path) -> None:
    from agents.runs.directory import open_run

    with open_run(place / "run", "train imitation", {"epochs": 2}) as directory:
        directory.begin()
        directory.log(epoch=1, loss=0.5)
        directory.log(epoch=2, loss=0.25)
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(directory.tensorboard))
        for step in range(4):
            board.add_scalar("loss", 1.0 / (step + 1), step)
        board.close()


def _read_run_directory(place: Path) -> None:
    from agents.runs.directory import open_run
    from agents.runs.events import cut_back

    with open_run(place / "run", "train imitation", {"epochs": 2}, resume=True) as directory:
        directory.begin()
        directory.read_log()
        cut_back(directory.tensorboard, lambda tag, step: step < 3)


def _options(place: Path) -> None:
    from agents.runs.directory import RunDirectory
    from experiments.train_imitation import TrainOptions

    RunDirectory(place / "run", "train imitation", TrainOptions(data=(Path("x"),)))


def _read_options(place: Path) -> None:
    from experiments.options import check_resume
    from experiments.train_imitation import FREE, TrainOptions

    check_resume(place / "run", TrainOptions(data=(Path("x"),)), FREE)


def _robustness(place: Path) -> None:
    from experiments.robustness.jobs import JobResult
    from experiments.robustness.store import Store
    from tests.experiments.robustness.made_up_drives import drive_row

    rows = (drive_row("mine", 0, "fog:2", 1000),)
    Store(place / "run", _PLAN).save(JobResult("mine/0/fog-2", rows, 1.0, "abc"))


_PLAN = {
    **{"format": "wormwheel-robustness", "format_version": 1, "wormwheel": "0.1.0", "perturbations": ["fog:2"]},
    **{"policies": [{"driver": "mine", "run": 0, "fingerprint": "abc"}], "code": {"env": "abc"}, "roads": 2},
}


def _read_robustness(place: Path) -> None:
    from experiments.robustness.jobs import DriveRow
    from experiments.robustness.store import Store, make_table

    found, _ = Store(place / "run", _PLAN).finished({"mine/0/fog-2": "abc"})
    make_table([row for result in found.values() for row in result.rows], DriveRow)


def _text(name: str, content: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        (place / name).write_text(content, encoding="utf-8")

    return make


def _read_suite(place: Path) -> None:
    from experiments.robustness.suites import choose_suite

    choose_suite(str(place / "suite.json")).conditions()


def _read_latency(place: Path) -> None:
    from agents.driving.latency import Latency, read_latency

    Latency(read_latency(place / "latency.json", "torch"))


def _read_space(place: Path) -> None:
    from experiments.sweep import read_space

    read_space(place / "space.toml")


def _summary(place: Path) -> None:
    from agents.runs.files import write_json
    from experiments.console import plain
    from experiments.robustness.publish import _to_json
    from tests.experiments.robustness.made_up_drives import CONDITIONS, block_rows, drive_rows, find_in

    drivers = {"ltc": 0.04, "feedforward": 0.12}
    found = find_in(drive_rows(drivers, 2), block_rows(drivers, 2), CONDITIONS, "feedforward")
    write_json(place / "summary.json", {"format": "wormwheel-robustness-summary", "findings": plain(_to_json(found))})


def _read_summary(place: Path) -> None:
    from experiments.table import read

    for kind in ("ranking", "runs", "families", "conditions"):
        read(place, kind)


def _round(place: Path) -> None:
    met = {"per_km": 3.5, "driven_m": 120.0, "crashes": 1}
    figures = {"round": 1, "frames": 200, "interventions": met, "validation_rmse": 0.1}
    (place / "round.json").write_text(json.dumps(figures), encoding="utf-8")


def _read_round(place: Path) -> None:
    from experiments.train_dagger import _read_round

    _read_round(place / "round.json")


def _sweep(place: Path) -> None:
    import optuna

    from experiments.sweep import JOURNAL, _open_study, read_space

    (place / "space.toml").write_text(SPACE, encoding="utf-8")
    study = _open_study(optuna, place / JOURNAL, read_space(place / "space.toml"))
    for number in range(2):
        trial = study.ask()
        trial.suggest_categorical("core", ['"gru"', '"lstm"'])
        trial.suggest_float("core-learning-rate", 1e-3, 1e-1, log=True)
        trial.suggest_int("batch-size", 8, 16, step=8)
        trial.set_user_attr("directory", f"trial-{number}")
        trial.report(0.5, 1)
        (place / f"trial-{number}").mkdir()
        (place / f"trial-{number}" / "metrics.jsonl").write_text('{"epoch": 1, "validation_rmse": 0.5}\n')
        held_out = {"gru": {"rmse": {"value": 0.5, "low": 0.4, "high": 0.6}}}
        (place / f"trial-{number}" / "results.json").write_text(json.dumps({"figures": {"held_out": held_out}}))
        study.tell(trial, 0.5)


def _read_sweep(place: Path) -> None:
    import optuna

    from experiments.sweep import JOURNAL, _open_study, _requeue, _rows, _show, read_space

    space = read_space(place / "space.toml")
    study = _open_study(optuna, place / JOURNAL, space)
    _requeue(optuna, study)
    _show(_rows(optuna, study, space, place), space)


def _read_fit(place: Path) -> None:
    from agents.driving.driver_options import DriverOptions

    DriverOptions(fit=place / "fit.json").resolved()


def _read_wiring(place: Path) -> None:
    from policies.wiring.read_csv import read_csv

    read_csv(place / "circuit.csv", motors=["m"])


def _read_road(place: Path) -> None:
    from envs.road.files import load_track

    load_track(place / "road.csv")


def _onnx(place: Path) -> None:
    from policies.checkpoint import load_policy
    from policies.export.car import write_car

    write_car(load_policy(_policy(place)), place / "car", True)
    shutil.rmtree(place / "policy")


def _read_onnx(place: Path) -> None:
    from agents.driving.open_driver import open_driver

    open_driver(str(place / "car" / "driver.onnx"))


def _read_numpy(place: Path) -> None:
    import numpy as np

    from policies.export.car_driver import Driver

    Driver(place / "car", "numpy").drive(np.zeros((24, 48, 3), np.uint8))


_POINTS = [(20 * math.cos(a / 10), 20 * math.sin(a / 10)) for a in range(62)]
ROAD = "# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + "".join(f"{x:.3f},{y:.3f},4,4\n" for x, y in _POINTS)
CIRCUIT = "source,target,polarity\ninput:0,a,1\ninput:1,b,-1\na,m,1\nb,m,-1\na,b,1\n"
SUITE = '{"perturbations": ["fog", "rain+latency:1"], "severities": [1, 3, 5], "roads": 4, "episode_s": 20}'
LATENCY = json.dumps(
    {"figures": {"format": "wormwheel-latency", "engines": {"torch": {"samples_ms": [1.0, 2.0, 1.5]}}}}, indent=1
)
FIT = json.dumps({"fit": {"crop_top": 2, "crop_bottom": 0, "crop_left": 0, "crop_right": 1, "steering_gain": 1.25}})
SPACE = """
verb = "train imitation"
trials = 3
[options]
data = ["recording"]
epochs = 1
[space]
core = ["gru", "lstm"]
core-learning-rate = {low = 1e-3, high = 1e-1, log = true}
batch-size = {low = 8, high = 16, step = 8}
"""
_POLICY = ("policy/config.json", "policy/model.safetensors")
READERS: dict[str, Reader] = {
    "policy": Reader(_gru, _read_policy, _POLICY),
    "policy with a circuit": Reader(_cfc, _read_policy, _POLICY),
    "checkpoint": Reader(_checkpoint, _read_checkpoint, ("policy/*",)),
    "learner": Reader(_learner, _read_learner, ("policy/learner.safetensors",), ("stable_baselines3",)),
    "training state": Reader(_training_state, _read_training_state),
    "run directory": Reader(
        _run_directory, _read_run_directory, ("run/config.json", "run/metrics.jsonl", "run/tensorboard/*")
    ),
    "options of a run": Reader(_options, _read_options, ("run/config.json",)),
    "robustness": Reader(
        _robustness, _read_robustness, ("run/plan.json", "run/cells/**/*.json"), ("pandas", "pyarrow")
    ),
    "suite": Reader(_text("suite.json", SUITE), _read_suite),
    "latency": Reader(_text("latency.json", LATENCY), _read_latency),
    "sweep space": Reader(_text("space.toml", SPACE), _read_space, needs=("optuna",)),
    "sweep": Reader(_sweep, _read_sweep, ("trials.log", "trial-*/*"), ("optuna",)),
    "summary": Reader(_summary, _read_summary, needs=("pandas", "pyarrow")),
    "round": Reader(_round, _read_round),
    "fit": Reader(_text("fit.json", FIT), _read_fit),
    "wiring": Reader(_text("circuit.csv", CIRCUIT), _read_wiring),
    "road": Reader(_text("road.csv", ROAD), _read_road),
    "onnx": Reader(_onnx, _read_onnx, ("car/driver.onnx",), ("onnx", "onnxscript", "onnxruntime")),
    "numpy export": Reader(_onnx, _read_numpy, ("car/driver.npz",), ("onnx", "onnxscript")),
}
"""By name."""


def damage(content: bytes, path: Path, rng: random.Random) -> bytes:
    """Damage a file's bytes; inside safetensors often the JSON of the header alone, so that it is reached."""
    if path.suffix == ".safetensors" and len(content) > 8 and rng.random() < 0.6:
        (length,) = struct.unpack("<Q", content[:8])
        head, rest = content[8 : 8 + length], content[8 + length :]
        try:
            described = json.loads(head)
            inner = described["__metadata__"]
            key = rng.choice(sorted(inner))
            inner[key] = mutate(inner[key].encode(), rng).decode("utf-8", "replace")
            head = json.dumps(described).encode()
        except (ValueError, KeyError, IndexError):
            head = mutate(head, rng)
        return struct.pack("<Q", len(head)) + head + rest
    return mutate(content, rng)


def run(names: list[str], count: int, seed: int, directory: Path) -> Iterator[tuple[str, int, str]]:
    """Yield reader, case and fault of every case that ends badly; `count` cases of each."""
    logging.disable()
    try:
        for name in names:
            reader = READERS[name]
            place = directory / name.replace(" ", "-")
            place.mkdir()
            reader.make(place)
            clean = directory / f"{place.name}.clean"
            shutil.copytree(place, clean)
            files = sorted({path for pattern in reader.damaged for path in place.glob(pattern) if path.is_file()})
            assert files, f"{name} has files"
            contents = {path: path.read_bytes() for path in files}
            reader.read(place)  # Modules are imported.
            fault = examine_by(reader.read, place)
            assert fault is None, f"{name} is clean before it is damaged: {fault}"
            for case in range(count):
                rng = random.Random(f"{seed} {name} {case}")
                path = rng.choice(files)
                kind = replace_file(path, partial(damage, contents[path], path), rng)
                fault = examine_by(reader.read, place)
                if fault is not None:
                    yield name, case, f"{path.name} ({kind}): {fault}"
                shutil.rmtree(place)  # A reader may have mended, removed or set aside.
                shutil.copytree(clean, place)
    finally:
        logging.disable(logging.NOTSET)


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="cases in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", nargs="*", default=list(READERS), choices=list(READERS), metavar="NAME")
    options = parser.parse_args()
    each = -(-options.count // len(options.reader))
    faults = 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        for name, case, fault in run(options.reader, each, options.seed, Path(directory)):
            faults += 1
            print(f"FAULT {name} case {case}: {fault}", flush=True)
    print(f"{each * len(options.reader):,} damaged files of {len(options.reader)} kinds: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
