"""The folder on a car: in Donkeycar's own loop, and under ROS's messages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from policies.export import car
from policies.export.ros2_node import LaneKeeper
from policies.policy import DrivingPolicy, PolicyConfig

Exported = Callable[[str], tuple[DrivingPolicy, Path]]

MANAGE = '''
import numpy as np
from donkeycar.vehicle import Vehicle
from car.driver import DonkeyPilot

class Camera:
    """Hands out the frames, one a loop."""
    def __init__(self):
        self.frames, self.number = np.load("frames.npy"), -1
    def run(self):
        self.number += 1
        return self.frames[min(self.number, len(self.frames) - 1)]

class Notes:
    def __init__(self):
        self.rows = []
    def run(self, angle, throttle):
        self.rows.append((angle, throttle))
    def shutdown(self):
        np.save("drive.npy", np.array(self.rows))

V = Vehicle()
V.add(Camera(), outputs=["cam/image_array"])
V.mem["run_pilot"] = True
PILOT
V.add(Notes(), inputs=["pilot/angle", "pilot/throttle"])
V.start(rate_hz=100, max_loop_count=13)
'''


@pytest.fixture(scope="module")
def donkeycar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Donkeycar in a place of its own: its Vehicle loop and what that imports."""
    place = tmp_path_factory.mktemp("donkeycar")
    packages = ["donkeycar==5.2.0", "prettytable", "wcwidth", "pyfiglet"]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place), *packages],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if ran.returncode:
        pytest.skip(f"donkeycar does not install here: {ran.stderr.strip().splitlines()[-1]}")
    return place


@pytest.mark.thorough
def test_the_two_lines_of_the_readme_drive_in_donkeycars_loop(exported: Exported, donkeycar: Path, tmp_path: Path):
    _, folder = exported("ltc")
    (tmp_path / "car").symlink_to(folder)
    lines = [line.strip() for line in (folder / "README.md").read_text(encoding="utf-8").splitlines()]
    (two,) = [line for line in lines if line.startswith("V.add(DonkeyPilot(")]
    assert any(line.endswith("driver import DonkeyPilot") for line in lines)
    (tmp_path / "manage.py").write_text(MANAGE.replace("PILOT", two), encoding="utf-8")
    frames = np.random.default_rng(0).integers(0, 256, (12, 60, 80, 3), np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    ran = subprocess.run(
        [sys.executable, "manage.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(donkeycar), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    drive = np.load(tmp_path / "drive.npy").astype(float)
    assert len(drive) >= 12 and np.ptp(drive[:, 0]) > 0 and (np.abs(drive[:, 0]) <= 1).all()
    # The first angle is that of a fresh policy, to the right where Wormwheel's is to the left.
    from policies.export.car_driver import Driver

    assert drive[0] == pytest.approx([-float(Driver(folder).step(frames[0], start=True)[0]), 0.2], abs=1e-5)


class Recorder:
    """A driver that notes what it is shown and steers half left."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray | None, float | None]] = []

    def drive(self, image: np.ndarray | None, time_s: float | None = None) -> object:
        from policies.export.car_driver import Command

        self.seen.append((image, time_s))
        return Command(0.5, None, None) if image is not None else Command(0.1, 0.0, "stale")


def test_the_ros_node_turns_images_into_ackermann_commands():
    driver = Recorder()
    keeper = LaneKeeper(driver, full_lock_rad=0.4, speed_mps=1.5)
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = np.zeros((2, 12), np.uint8)
    padded[:, :9] = pixels.reshape(2, 9)
    assert keeper.on_image(2, 3, "rgb8", 12, padded.tobytes(), 7.5) == pytest.approx((0.2, 1.5))
    assert keeper.on_image(2, 3, "bgr8", 9, pixels.tobytes(), 7.6) == pytest.approx((0.2, 1.5))
    assert np.array_equal(driver.seen[0][0], pixels) and driver.seen[0][1] == 7.5
    assert np.array_equal(driver.seen[1][0], pixels[..., ::-1])
    assert keeper.on_silence() == pytest.approx((0.04, 0.0))
    with pytest.raises(ValueError, match="rgb8 or bgr8"):
        keeper.on_image(2, 3, "mono8", 3, b"", 0.0)


@pytest.mark.parametrize(
    ("folder", "called"), [("pilot", "here it is called `pilot`"), ("my car", "rename it to `car`")]
)
def test_the_readme_imports_the_folder_by_a_name_that_python_takes(folder: str, called: str):
    text = car._readme(DrivingPolicy.create(PolicyConfig()), folder, numpy=False, ros2=False, notes={})
    package = "pilot" if folder == "pilot" else "car"
    assert called in text and f"    from {package}.driver import DonkeyPilot\n" in text


def test_a_folder_holds_what_it_says(exported: Exported):
    _, folder = exported("ltc")
    names = {entry.name for entry in folder.iterdir()}
    assert names == {"driver.onnx", "driver.npz", "driver.py", "README.md", "ros2_node.py"}
    text = (folder / "README.md").read_text(encoding="utf-8")
    for needed in ("80×60", "48×24", "cut 20 rows at the top", "every 50 ms", "opset 18", "`state` float32 [1, 19]"):
        assert needed in text, needed
