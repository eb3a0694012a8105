"""One directory for everything that a verb makes.

`config.json` (the resolved options, the command, versions), `metrics.jsonl` (one JSON object a line), TensorBoard
events, and the policy. Files are written beside and moved into place.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
from dataclasses import asdict, is_dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.runs.files import make_directory, write_json

PACKAGES = ("wormwheel", "torch", "numpy", "gymnasium", "pybullet", "opencv-python-headless", "numba")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def command() -> str:
    """Return the command line that is running, as a person would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def to_json(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into plain JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, dict):
        return {str(key): to_json(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


class RunDirectory:
    """A run's folder; knows where things go."""

    def __init__(self, path: str | Path, verb: str, options: Any, resume: bool = False):
        """Make the folder and write `config.json`.

        Args:
            path: the folder.
            verb: what runs, as in `train imitation`.
            options: dataclass of resolved options.
            resume: keep the metrics of the run that is there.

        Raises:
            OSError: if the folder cannot be made or written.
        """
        self.path = make_directory(path)
        self.policy = self.path / "policy"
        self.last = self.path / "last"
        self.training_state = self.path / "last" / "training.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        if not resume:
            self.metrics.unlink(missing_ok=True)
        record = {
            "verb": verb,
            "command": command(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "options": to_json(options),
            "versions": versions(),
        }
        write_json(self.path / "config.json", record)

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
