"""A wheel and an sdist from the tree, installed where no checkout is, run from another directory.

The environment is new and holds the wheel; other packages it sees are those of the tests' own environment, so no index
is asked. `.ci/wheel` does the same with everything from the index, so what runs in the environment is thorough here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("agents", "envs", "experiments", "policies")
pytestmark = [
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("build", "setuptools")),
        reason="building needs build and setuptools, which the extra dev brings",
    ),
]
DEMO = """
import sys
from agents.imitation.train import ImitationConfig
from experiments import cli
from experiments.demo import verb
verb.QUICK = verb.DemoConfig(
    frames=200, episode_s=2.0, variety=0.2, validation=0.2, roads=2, road_s=1.0, noise_variances=(0.0, 0.3), film_s=0.5,
    workers=1, training=ImitationConfig(epochs=1, batch_size=4, window=12, burn_in=4),
)
sys.exit(cli.main(["demo", "--quick", "--vehicle", "bicycle", "--out", "out"]))
"""


def tracked() -> list[Path]:
    """The files of the tree as a clone has them, and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this tree is no git checkout, so what belongs to it is not known")
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for path in tracked():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tree / path)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel and can see the third-party packages of this one."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    ran = subprocess.run(
        [*command, "--quiet", "--no-deps", "--no-index", str(built[1])], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    (site,) = (place / "lib").glob("python*/site-packages")
    # A path in a .pth file is searched after this environment, and .pth files there, such as the one of the checkout's
    # own editable install, are not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([str(python), *command], cwd=place, env=environment, capture_output=True, text=True)


@pytest.mark.thorough
def test_everything_that_modules_need_is_in_the_wheel(built: tuple[Path, Path]):
    with zipfile.ZipFile(built[1]) as wheel:
        packed = {name for name in wheel.namelist() if name.split("/")[0] in ROOMS}
        others = {name for name in wheel.namelist() if ".dist-info/" not in name} - packed
    assert others == {"wormwheel.py"}
    wanted = {
        str(path)
        for path in tracked()
        if path.parts[0] in ROOMS and path.name != "README.md" and path.parts[:2] != ("experiments", "results")
    }
    assert packed == wanted


@pytest.mark.thorough
def test_the_sdist_holds_what_the_wheel_is_made_from(built: tuple[Path, Path]):
    with tarfile.open(built[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= packed
    assert {str(path) for path in tracked() if path.parts[0] in ROOMS and path.suffix == ".py"} <= packed


@pytest.mark.thorough
def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path):
    code = (
        "import agents, envs, experiments, policies as p; print(*(r.__file__ for r in (agents, envs, experiments, p)))"
    )
    ran = run(installed, tmp_path, "-c", code)
    assert ran.returncode == 0, ran.stderr
    assert all(place.startswith(str(installed.parents[1])) for place in ran.stdout.split())


@pytest.mark.thorough
def test_the_command_shows_the_cores_from_another_directory(installed: Path, tmp_path: Path):
    ran = run(installed, tmp_path, str(installed.parent / "wormwheel"), "info", "cores")
    assert ran.returncode == 0, ran.stderr
    assert "liquid time-constant" in " ".join(ran.stdout.split())
    helped = run(installed, tmp_path, str(installed.parent / "wormwheel"), "train", "imitation", "--help")
    assert helped.returncode == 0 and "--data PATH" in helped.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_the_demo_runs_from_another_directory(installed: Path, tmp_path: Path):
    ran = run(installed, tmp_path, "-c", DEMO)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "drive.mp4", "policy", "results.json"} <= made
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
