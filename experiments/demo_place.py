"""Where a demonstration is made, and how it gets to where it is looked for: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.files import PARTIAL, make_directory, replacing_directory


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """Give an empty directory inside `out` to work in; it is removed at the end, whatever happens."""
    for entry in out.glob(f".demo{PARTIAL}*"):
        owner = entry.name.removeprefix(f".demo{PARTIAL}")
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(entry, ignore_errors=True)
    place = make_directory(out / f".demo{PARTIAL}{os.getpid()}")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(place: Path, out: Path) -> None:
    """Move what was made to where it is looked for, the report last."""
    for name in ("policy", "training"):
        with replacing_directory(out / name) as partial:
            partial.rmdir()
            os.rename(place / name, partial)
    for name in ("drive.mp4", "results.json", "report.html"):
        os.replace(place / name, out / name)
