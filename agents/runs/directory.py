"""One directory for everything that a run makes, and for nothing else.

`config.json` (the resolved options, the command, versions), `metrics.jsonl` (one JSON object a line), TensorBoard
events, and the policy. `config.json` is written first: it marks the directory as the run's own. Files are written
beside and moved into place.

    with open_run(Path("runs/a"), "train imitation", options) as directory:
        directory.log(epoch=1, loss=0.1)
"""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.runs.files import (
    PARTIAL,
    clear_leftovers,
    make_directory,
    remove,
    write_bytes,
    write_json,
    write_text,
)
from agents.runs.lock import LOCK, locked
from agents.runs.reading import DamagedFile, parse_json, read_bytes, read_json, read_object
from agents.runs.sockets import clear_dead_sockets

MARKER = "config.json"
"""Name of the file by which a directory belongs to a run."""
LEDGER = "made.json"
"""Name of the file that lists what a run has put into its directory, for verbs that replace it."""
RESULTS = ("policy", "last", "last-1", "baseline", "results.json")
"""Names in a training run's directory that are worth keeping."""
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
    """Return the command line that is running, as a person would type it: it runs as it is pasted.

    Where Python was started with `-m`, the file that it runs is no command: the module is named, or `wormwheel` where
    that is what it stands for.
    """
    module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "")
    if module in ("experiments.cli", "wormwheel"):
        begin = ["wormwheel"]
    elif module.startswith("experiments."):
        begin = ["python", "-m", module]
    else:
        begin = [Path(sys.argv[0]).name]
    return shlex.join([*begin, *sys.argv[1:]])


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

    def __init__(
        self,
        path: str | Path,
        verb: str,
        options: Any,
        resume: bool = False,
        fingerprint: str | None = None,
    ):
        """Make the folder and write `config.json`; see `open_run` for a folder that is claimed and locked as well.

        Args:
            path: the folder.
            verb: what runs, as in `train imitation`.
            options: dataclass of resolved options.
            resume: keep the metrics of the run that is there.
            fingerprint: of the data that the run works on, if that must not change.

        Raises:
            ValueError: if the folder holds what no run of this verb has made, and the run is not resumed.
            OSError: if the folder cannot be made or written.
        """
        if not resume:
            check_directory(Path(path), verb, results=())
        self.path = make_directory(path)
        self.policy = self.path / "policy"
        self.last = self.path / "last"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.begun = False
        record = {
            "verb": verb,
            "command": command(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "options": to_json(options),
            "versions": versions(),
            **({"fingerprint": fingerprint} if fingerprint is not None else {}),
        }
        write_json(self.path / MARKER, record)
        if not resume:
            self.metrics.unlink(missing_ok=True)
            shutil.rmtree(self.tensorboard, ignore_errors=True)

    def begin(self) -> None:
        """Say that work has begun: from here on a failure leaves the folder as it is."""
        self.begun = True

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """Return the complete lines of `metrics.jsonl`; none when it is not there."""
        try:
            content = read_bytes(self.metrics).decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        lines = [parse_json(line, self.metrics) for line in content.splitlines(keepends=True) if line.endswith("\n")]
        if not all(isinstance(line, dict) for line in lines):
            raise DamagedFile(f"{self.metrics} should hold a JSON object a line; restore a copy or train again.")
        return lines

    def rewrite_log(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Put the lines of a checkpoint in place of what a killed run has logged, which may be one more or less."""
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))


def check_directory(path: Path, verb: str, resume: bool = False, results: Sequence[str] = RESULTS) -> None:
    """Check that a run may write to a directory: that it is new, empty, or its own; nothing is changed.

    A directory belongs to a run by its marker, a `config.json` that names the verb. One in which a run of the same verb
    was killed before it had any result counts as new.

    Args:
        path: the directory; need not exist.
        verb: what is to run.
        resume: whether to continue the run that is there.
        results: names in it, or patterns, of what is worth keeping.

    Raises:
        ValueError: if it holds something else, or results that are not to be resumed, or nothing to resume.
    """
    if not path.exists():
        if resume:
            raise ValueError(f"{path} holds no run to resume: it does not exist. Leave out --resume to start one.")
        return
    if not path.is_dir():
        raise ValueError(f"{path} is a file; give --out the name of a directory.")
    owner = owner_of(path)
    if owner != verb:
        foreign = [entry.name for entry in sorted(path.iterdir()) if not is_leftover(entry)]
        if foreign:
            what = f"a run of `{owner}`" if owner else f"{foreign[0]}, which is of no run of `{verb}`"
            what = f"no run to resume but {what}" if resume else what
            raise ValueError(f"{path} holds {what}; it is not written over: give --out a new or an empty directory.")
    elif not resume and any(any(path.glob(name)) for name in results):
        raise ValueError(
            f"{path} already holds results, which are not written over: give another --out, or --resume to continue."
        )


@contextmanager
def open_run(
    path: Path,
    verb: str,
    options: Any,
    resume: bool = False,
    results: Sequence[str] = RESULTS,
    fingerprint: str | None = None,
) -> Iterator[RunDirectory]:
    """Claim a directory for a run, be its only writer, and clear what a killed run left half-made in it.

    Args:
        path: the directory.
        verb: what runs.
        options: dataclass of resolved options.
        resume: continue the run that is there.
        results: as for `check_directory`.
        fingerprint: of the data that the run works on.

    Yields:
        The directory. When the block fails before `RunDirectory.begin`, what was made for it is removed again.

    Raises:
        ValueError: as `check_directory`; or another process writes there, or the data are not those of the first run.
        OSError: if nothing can be written there.
    """
    check_directory(path, verb, resume, results)
    if resume and fingerprint is not None and (saved := _read(path).get("fingerprint")) not in (None, fingerprint):
        raise ValueError(
            f"{path} was started with other data: their fingerprint was {saved} and is {fingerprint} now; resume with "
            "the same recordings or road files, or start a run of its own."
        )
    made = [place for place in (path, *path.parents) if not place.exists()]
    make_directory(path)
    try:
        with locked(path):
            check_directory(path, verb, resume, results)  # Again: somebody may have been faster.
            clear_leftovers(path)
            clear_dead_sockets()
            before = {entry.name for entry in path.iterdir()}
            mark = (path / MARKER).read_bytes() if MARKER in before else None
            directory = RunDirectory(path, verb, options, resume, fingerprint)
            try:
                yield directory
            except Exception:
                if not directory.begun:
                    _undo(path, before, mark)
                raise
    except Exception:
        for place in made:
            with suppress(OSError):  # Where something is in it, it stays.
                place.rmdir()
        raise


@contextmanager
def claim(path: Path, verb: str, options: Any) -> Iterator[RunDirectory]:
    """Open a run that the same command resumes: its directory is new, empty, or its own. Work begins at once.

    Args:
        path: the directory.
        verb: what runs.
        options: dataclass of resolved options.

    Yields:
        The directory.

    Raises:
        ValueError: if something else is in it, or another process writes there.
        OSError: if nothing can be written there.
    """
    with open_run(path, verb, options, resume=owner_of(path) == verb, results=()) as directory:
        directory.begin()
        yield directory


def _undo(path: Path, before: set[str], mark: bytes | None) -> None:
    """Remove from a directory what is new in it, and put its mark back."""
    for entry in path.iterdir():
        if entry.name not in before:
            remove(entry)
    if mark is not None:
        write_bytes(path / MARKER, mark)


def record_made(path: Path, source: Path, names: Sequence[str]) -> None:
    """Note in a directory which files a run is about to put there, so that a later run may replace them.

    Args:
        path: the run's directory.
        source: where the files are now.
        names: of files and directories in it.
    """
    made = _made(path) | {str(file.relative_to(source)) for name in names for file in _files(source / name)}
    write_json(path / LEDGER, sorted(made))


def check_made(path: Path, names: Sequence[str]) -> None:
    """Check that what a run is to replace in its directory was put there by an earlier run of its kind.

    Raises:
        ValueError: if there is a file of somebody else's.
    """
    made = _made(path)
    for file in (file for name in names for file in _files(path / name)):
        if str(file.relative_to(path)) not in made:
            raise ValueError(
                f"{file} was not made by an earlier run there and would be lost: move it, or give another --out."
            )


def _made(path: Path) -> set[str]:
    try:
        return {str(name) for name in read_json(path / LEDGER)}
    except (OSError, ValueError, TypeError):
        return set()


def _files(path: Path) -> list[Path]:
    """Return a file, or all files below a directory; none if it is not there."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if not file.is_dir()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path / MARKER)
    except (OSError, ValueError):
        return {}


def owner_of(path: Path) -> str | None:
    """Return the verb of the run that a directory belongs to."""
    verb = _read(path).get("verb")
    return verb if isinstance(verb, str) else None


def is_leftover(entry: Path) -> bool:
    """Whether something in a directory is what a killed process left: half-made, or its lock."""
    return entry.name == LOCK or (entry.name.startswith(".") and PARTIAL in entry.name)
