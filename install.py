"""Install Wormwheel into the environment that runs this file: `.venv/bin/python install.py demo`.

On Linux, pip takes a build of PyTorch that brings some 3 GB of CUDA libraries, GPU or not. Where no NVIDIA GPU shows,
the CPU build is installed first: by pip if its settings lead to one, else by uv, which knows where PyTorch keeps it.
Where neither can be reached, pip's choice stands, and a line says so.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = {"demo": "rl,robustness", "dev": "dev"}
"""What is installed beside the package itself: for the README's commands, and to work on it."""


def main(purpose: str) -> None:
    """Install the package for a purpose, a key of `EXTRAS`."""
    torch = next(line.split(";")[0].strip() for line in _constraints() if line.startswith("torch=="))
    if not has_torch() and not has_gpu() and platform.system() == "Linux" and pip_would_take_cuda(torch):
        install_cpu_torch(torch)
    # Python compiles what is imported when it is imported; compiling everything takes two thirds of an install.
    options = ("--quiet", "--no-compile", "--constraint", "constraints.txt")
    run("install", *options, "--editable", f".[{EXTRAS[purpose]}]")


def has_torch() -> bool:
    """Whether some build of torch is there already."""
    return run("show", "--quiet", "torch", check=False) == 0


def has_gpu() -> bool:
    """Whether an NVIDIA GPU shows: its driver's folder, or the driver's own program."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def pip_would_take_cuda(torch: str) -> bool:
    """Whether the build that pip's own settings lead to is not a CPU build."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        if run("install", "--quiet", "--dry-run", "--no-deps", "--report", str(report), torch, check=False):
            return True
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return not any(item["metadata"]["version"].endswith("+cpu") for item in found)


def install_cpu_torch(torch: str) -> None:
    """Install the CPU build of torch by uv; say so when it cannot be had."""
    print(f"No NVIDIA GPU shows: installing the CPU build of {torch}.", flush=True)
    arguments = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--torch-backend", "cpu", torch]
    if run("install", "--quiet", "uv", check=False) or subprocess.run([sys.executable, "-m", *arguments]).returncode:
        print("The CPU build could not be reached; pip's default build takes its place (some 3 GB).", flush=True)


def run(*arguments: str, check: bool = True) -> int:
    """Run pip; returns its exit code."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    code = subprocess.run(command, cwd=HERE).returncode
    if check and code:
        sys.exit(code)
    return code


def _constraints() -> list[str]:
    return (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in EXTRAS):
        sys.exit(f"usage: install.py {'|'.join(EXTRAS)}, got {' '.join(sys.argv[1:]) or 'nothing'}.")
    main(sys.argv[1])
