"""Install Wormwheel into the environment that runs this file: `.venv/bin/python install.py demo`.

uv installs, with pip's settings: in a quarter of pip's time, and at once where its cache has everything. Where uv
cannot be had, pip takes its place, and a line says so.

On Linux, the default build of PyTorch brings some 3 GB of CUDA libraries, GPU or not. Where no NVIDIA GPU shows, the
CPU build is installed first, from where PyTorch keeps it. Where that cannot be reached, the default stands, and a line
says so.
"""

from __future__ import annotations

import ast
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = {"demo": "rl,robustness", "dev": "dev"}
"""What is installed beside the package itself: for the README's commands, and to work on it."""
AS_IN_PIP = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
"""pip's settings that name places, and uv's options for them."""


def main(what: str) -> None:
    """Install the package for a purpose, a key of `EXTRAS`, or a wheel of it."""
    wanted = ["--editable", f".[{EXTRAS[what]}]"] if what in EXTRAS else [what]
    wanted = ["--constraint", "constraints.txt", *wanted]
    if run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv") == 0:
        options = as_in_pip(pip_settings())
        if platform.system() == "Linux" and not has_gpu():
            avoid_cuda(options)
        if run("-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, *options, *wanted) == 0:
            return
    print("uv could not install it; pip takes its place.", flush=True)
    # Python compiles what is imported when it is imported; compiling everything takes two thirds of an install.
    sys.exit(run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", *wanted))


def has_gpu() -> bool:
    """Whether an NVIDIA GPU shows: its driver's folder, or the driver's own program."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def avoid_cuda(options: list[str]) -> None:
    """Install the CPU build of torch, unless uv's options lead to it anyway; say so when it cannot be had."""
    torch = next(line.split(";")[0].strip() for line in _lines("constraints.txt") if line.startswith("torch=="))
    install = ("-m", "uv", "pip", "install", "--python", sys.executable, "--no-deps")
    command = [sys.executable, *install, "--dry-run", *options, torch]
    found = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    changes = [line for line in found.stderr.splitlines() if line.strip().startswith("+ torch==")]
    if not found.returncode and all("+cpu" in line for line in changes):
        return  # there already, or a CPU build lies where pip looks
    print(f"No NVIDIA GPU shows: installing the CPU build of {torch}.", flush=True)
    if run(*install, "--quiet", "--torch-backend", "cpu", torch):
        print("The CPU build could not be reached; the default build takes its place (some 3 GB).", flush=True)


def pip_settings() -> str:
    """What `pip config list` prints: files and variables of the environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def as_in_pip(settings: str) -> list[str]:
    """Return uv's options for the output of `pip config list`: where to look, what to trust, what caps versions.

    A variable of the environment comes before the section `install`, which comes before `global`.
    """
    known: dict[str, tuple[int, str]] = {}
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section)
        if rank is not None and rank >= known.get(key, (0, ""))[0]:
            known[key] = (rank, str(ast.literal_eval(value)))
    options = ["--index-strategy", "unsafe-best-match"]  # as pip: the newest release of all indexes
    for key, option in AS_IN_PIP.items():
        options += [part for place in known.get(key, (0, ""))[1].split() for part in (option, place)]
    if known.get("no-index", (0, "0"))[1].lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    for caps in known.get("constraint", (0, ""))[1].split():
        options += ["--constraint", caps]
    if "cert" in known:
        os.environ.setdefault("SSL_CERT_FILE", known["cert"][1])
    return options


def run(*arguments: str) -> int:
    """Run this Python with arguments; returns the exit code."""
    return subprocess.run([sys.executable, *arguments], cwd=HERE).returncode


def _lines(name: str) -> list[str]:
    return (HERE / name).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (sys.argv[1] in EXTRAS or sys.argv[1].endswith(".whl")):
        usage = f"usage: install.py {'|'.join(EXTRAS)}|WHEEL"
        sys.exit(f"{usage}, got {' '.join(sys.argv[1:]) or 'nothing'}.")
    main(sys.argv[1])
