"""The file that drives alone: its parts, its clock, its watchdog."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.export import car_driver
from policies.export.car_driver import DonkeyPilot, Driver, Fit, Program
from policies.preprocessing import Preprocessing

PERIOD_S = 0.05


class Clock:
    """Seconds that stand still until told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def write_program(folder: Path, state_size: int = 1) -> None:
    """Write a driver whose steering is the mean brightness of the frame, less a half, and whose state is `elapsed`."""
    nodes = [
        {"op": "Cast", "inputs": ["frame"], "outputs": ["pixels"], "attributes": {"to": 1}},
        {"op": "ReduceMean", "inputs": ["pixels", "axes"], "outputs": ["mean"], "attributes": {"keepdims": 0}},
        {"op": "Reshape", "inputs": ["mean", "shape"], "outputs": ["flat"], "attributes": {}},
        {"op": "Div", "inputs": ["flat", "white"], "outputs": ["share"], "attributes": {}},
        {"op": "Sub", "inputs": ["share", "half"], "outputs": ["around"], "attributes": {}},
        {"op": "Mul", "inputs": ["around", "gain"], "outputs": ["motors"], "attributes": {}},
        {"op": "Identity", "inputs": ["elapsed"], "outputs": ["next_state"], "attributes": {}},
    ]
    config = {
        "format": car_driver.FORMAT,
        "preprocessing": Preprocessing(4, 6, height=4, width=6).__dict__,
        "period_s": PERIOD_S,
        "state_size": state_size,
        "motors": 1,
        "nodes": nodes,
    }
    np.savez(
        folder / "driver.npz",
        axes=np.array([1, 2, 3]),
        shape=np.array([1, 1]),
        white=np.float32(255),
        half=np.float32(0.5),
        gain=np.float32(1),
        config=np.frombuffer(json.dumps(config).encode(), np.uint8),
    )


def image(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def driver(tmp_path: Path, clock: Clock) -> Driver:
    write_program(tmp_path)
    return Driver(tmp_path, clock=clock)


def test_the_file_stands_alone_and_is_python_3_10():
    source = Path(car_driver.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 10))
    names = {alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    names |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_it_drives_where_nothing_else_is_installed(tmp_path: Path):
    write_program(tmp_path)
    (tmp_path / "driver.py").write_bytes(Path(car_driver.__file__).read_bytes())
    np.save(tmp_path / "frames.npy", np.stack([image(0), image(255)]))
    block = (
        "import sys, runpy\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'policies', 'envs', 'agents', 'onnxruntime', 'onnx'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "sys.argv = ['driver.py', '--numpy', '--frames', 'frames.npy']\n"
        "runpy.run_path('driver.py', run_name='__main__')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [float(line) for line in ran.stdout.split()] == pytest.approx([-0.5, 0.5])


def test_steering_is_to_the_left_and_a_donkey_turns_right(driver: Driver, tmp_path: Path, clock: Clock):
    assert driver.drive(image(255)) == (pytest.approx(0.5), None, None)
    pilot = DonkeyPilot(tmp_path, throttle=0.3, clock=clock)
    assert pilot.run(image(255)) == (pytest.approx(-0.5), 0.3)
    assert pilot.run(None) == (pytest.approx(-0.5), 0.0)


def test_elapsed_is_counted_in_periods_from_the_frames_time(driver: Driver, clock: Clock):
    heard = []
    for passed_s, level in ((0.0, 1), (0.05, 2), (0.1, 3), (1e-6, 4), (3.0, 5)):
        clock.now_s += passed_s
        driver.drive(image(level))
        heard.append(float(driver.state[0, 0]))
    assert heard == pytest.approx([1.0, 1.0, 2.0, 0.01, 10.0], rel=1e-4)
    driver.reset()
    heard = []
    for taken_s, late_s, level in ((100.0, 0.0, 1), (100.05, 0.03, 2), (100.15, 0.01, 3)):
        clock.now_s = taken_s + late_s
        driver.drive(image(level), time_s=taken_s)
        heard.append(float(driver.state[0, 0]))
    assert heard == pytest.approx([1.0, 1.0, 2.0], rel=1e-4), "by when frames were taken, not by when they came"
    driver.reset()
    clock.now_s += 1.0
    driver.drive(image(6))
    assert float(driver.state[0, 0]) == 1.0


def test_a_picture_that_stands_still_is_stale_and_the_wheel_fades_to_straight(driver: Driver, clock: Clock):
    assert driver.drive(image(255)).fault is None
    faults, steering = [], []
    for _ in range(24):
        clock.now_s += PERIOD_S
        command = driver.drive(image(255))  # equal content, another array: a camera that repeats itself
        faults.append(command.fault)
        steering.append(command.steering)
        assert command.throttle is None if command.fault is None else command.throttle == 0.0
    assert faults[:9] == [None] * 9 and faults[10:] == ["stale"] * 14  # half a second is ten periods, to rounding
    assert steering[10] == pytest.approx(0.5, abs=0.11) and steering[-1] == 0.0
    assert all(a >= b for a, b in zip(steering, steering[1:], strict=False))
    assert {event.kind for event in driver.events} == {"stale"}
    clock.now_s += PERIOD_S
    assert driver.drive(image(250)).fault is None


def test_a_fault_that_lasts_is_told_as_it_begins_and_every_second(
    driver: Driver, clock: Clock, caplog: pytest.LogCaptureFixture
):
    driver.drive(image(1))
    for _ in range(round(2.5 / PERIOD_S)):
        clock.now_s += PERIOD_S
        assert driver.drive(None).fault == "stale"
    assert len(driver.events) == len(caplog.records) == 3
    assert np.diff([event.time_s for event in driver.events]) == pytest.approx(1.0, abs=1.01 * PERIOD_S)
    driver.drive(image(2))
    driver.drive(None)
    assert len(driver.events) == 4, "another fault, though no second has gone by"


def test_a_frame_with_an_old_stamp_is_stale(driver: Driver, clock: Clock):
    assert driver.drive(image(9), time_s=clock.now_s - 0.4).fault is None
    assert driver.drive(image(10), time_s=clock.now_s - 0.6).fault == "stale"


def test_no_frame_is_stale_at_once(driver: Driver):
    assert driver.drive(None) == (0.0, 0.0, "stale")


def test_what_is_not_finite_never_reaches_the_wheel(driver: Driver, clock: Clock, caplog: pytest.LogCaptureFixture):
    driver.drive(image(255))
    driver._run = lambda *_: (np.array([[np.nan]], np.float32), np.array([[np.nan]], np.float32))
    clock.now_s += PERIOD_S
    command = driver.drive(image(254))
    assert command.fault == "not finite" and command.steering == pytest.approx(0.45) and command.throttle == 0.0
    assert np.isfinite(driver.state).all()  # the next frame does not suffer
    assert "not finite" in caplog.text
    driver._run = lambda *_: (np.zeros((1, 1), np.float32), np.array([[np.inf]], np.float32))
    assert driver.drive(image(253)).fault == "not finite"


def test_an_answer_after_its_period_is_not_used(driver: Driver, clock: Clock):
    inner = driver._run

    def slow(*given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clock.now_s += 0.06
        return inner(*given)

    driver._run = slow
    command = driver.drive(image(255))
    assert command.fault == "late" and command.steering == 0.0
    assert [event.kind for event in driver.events] == ["late"] and "60 ms" in driver.events[0].detail


def test_frames_of_another_kind_are_refused(driver: Driver):
    with pytest.raises(ValueError, match=r"\(4, 6, 3\), got uint8 \(6, 4, 3\)"):
        driver.drive(np.zeros((6, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        driver.step(np.zeros((4, 6, 3)))


@pytest.mark.parametrize(
    "fit",
    [
        Preprocessing(120, 160, crop_top=40, height=48, width=96),
        Preprocessing(97, 131, crop_left=7, crop_right=2, crop_bottom=9, height=40, width=53),
        Preprocessing(20, 30, height=48, width=96),
        Preprocessing(48, 96),
        Preprocessing(48, 96, crop_top=1, height=47, width=96),
        Preprocessing(120, 160, crop_top=17, crop_bottom=49, crop_left=-7, crop_right=-7, height=48, width=96),
        Preprocessing(60, 80, crop_top=-5, crop_bottom=-11, crop_left=3, height=48, width=96),
        Preprocessing(60, 80, crop_top=20, crop_bottom=-11, crop_left=-4, crop_horizon=18, height=48, width=96),
        Preprocessing(26, 69, crop_bottom=-4, crop_left=8, crop_right=11, crop_horizon=20, height=30, width=50),
        Preprocessing(26, 69, crop_bottom=-4, crop_horizon=26, height=30, width=69),
    ],
)
def test_frames_are_cut_and_scaled_as_in_training(fit: Preprocessing):
    frames = np.random.default_rng(0).integers(0, 256, (6, fit.source_height, fit.source_width, 3), np.uint8)
    frames[3:] = frames[3:] // 200 * 255  # sharp edges
    expected = fit(torch.from_numpy(frames)).numpy()
    prepare = Fit(fit.__dict__)
    for frame, wanted in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(prepare(frame), wanted)


def test_an_unknown_operator_is_named():
    with pytest.raises(ValueError, match="Frobnicate"):
        Program([{"op": "Frobnicate", "inputs": [], "outputs": [], "attributes": {}}], {})


def test_a_folder_without_a_driver_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="--numpy"):
        Driver(tmp_path)
    (tmp_path / "driver.npz").write_bytes(b"")
    np.savez(tmp_path / "driver.npz", x=np.zeros(1))
    with pytest.raises(ValueError, match="wormwheel export"):
        Driver(tmp_path, "numpy")
    with pytest.raises(ValueError, match="engine"):
        Driver(tmp_path, "tpu")
