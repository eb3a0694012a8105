"""Commands by the thousand: a process that has imported everything forks, and the child runs one command.

Starting Python with torch takes seconds, a fork milliseconds. The child is a session of its own, so whatever it starts
can be found; it works in a directory of its own, temporary files included.

    import_verbs(("record",))
    ended = run_child(["record", "--out", "data"], Place(Path("/tmp/trial")), Strike(kill_after_s=0.1))
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
"""Flags of an opening that may change a file."""
OPERATIONS = {
    **{"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.link": 2},
    **{"os.symlink": 2, "os.chmod": 1, "os.utime": 1},
}
"""Audit events that change what is on the disk, and how many of their arguments are paths."""
NEEDS_SPACE = ("open", "os.mkdir", "os.symlink", "os.link")
"""Those that a full disk refuses."""
_RANDOM = (
    (re.compile(r"partial-[0-9a-zA-Z_-]{8}"), "partial-*"),
    (re.compile(r"\btmp[0-9a-z_]{8}"), "tmp*"),
    (re.compile(r"\btmp/[0-9a-z_]{8}$"), "tmp/*"),
    (re.compile(r"wormwheel-[0-9a-z_]{8}"), "wormwheel-*"),
    (re.compile(r"pymp-[0-9a-z_]{8}"), "pymp-*"),
    (re.compile(r"listener-[0-9a-z_]{8}"), "listener-*"),
    (re.compile(r"(events\.out\.tfevents)[^/\"]*"), r"\1"),
    (re.compile(r"trials\.log\.[^/]*"), "trials.log.*"),
)


def import_verbs(names: Sequence[str]) -> None:
    """Import the modules of verbs and what they import late; one thread, so that children can be forked."""
    import cv2
    import torch

    from experiments.cli import VERBS

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for name in names:
        importlib.import_module(VERBS[name].module)
    for name in ("tyro", "tensorboard", "torch.utils.tensorboard", "agents.runs.events", "rich.progress", "numba"):
        importlib.import_module(name)
    if {"robustness", "gate"} & set(names):
        importlib.import_module("pandas")
        importlib.import_module("pyarrow.parquet")
        importlib.import_module("experiments.robustness.analysis")
    if "sweep" in names:
        importlib.import_module("optuna")
        importlib.import_module("experiments.train_imitation")
    if "export" in names:
        importlib.import_module("onnxruntime")
        importlib.import_module("torch.onnx")
        importlib.import_module("onnxscript")


@dataclass(frozen=True)
class Place:
    """Where a command works."""

    root: Path
    """Its directory; made if needed."""

    @property
    def work(self) -> Path:
        """The current directory."""
        return self.root / "work"

    @property
    def temporary(self) -> Path:
        """The place of temporary files."""
        return self.root / "tmp"

    def make(self) -> None:
        """Make the directories."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Strike:
    """What befalls a command."""

    kill_after_s: float | None = None
    """SIGKILL after so many seconds."""
    kill_before: str | None = None
    """SIGKILL just before this file operation, as `Ended.operations` names it."""
    full_before: str | None = None
    """The disk is full from this file operation on: whatever needs space fails with ENOSPC."""
    signals: tuple[tuple[float, int], ...] = ()
    """Signals to the command's whole session, as a terminal sends them: seconds from the start, and number."""
    only_the_parent: bool = False
    """Signals and kill reach the command alone, not what it has started."""


@dataclass
class Ended:
    """How a command ended."""

    code: int | None
    """Exit code; None when a signal ended it."""
    signal: int | None
    """The signal that ended it."""
    out: str
    """Standard output."""
    err: str
    """Standard error."""
    seconds: float
    """How long it took."""
    cpu_s: float
    """Time of the processor that it took, s: other work on the machine is not in it."""
    peak_bytes: int
    """The most memory that the child had."""
    timed_out: bool
    """Whether it was killed because it took too long."""
    operations: list[str] = field(default_factory=list)
    """Its file operations, in order, random parts of names replaced."""
    orphans: list[int] = field(default_factory=list)
    """Processes of its session that were alive some seconds after its end."""

    @property
    def complaint(self) -> str:
        """The lines of the command's own on standard error that say how it ended."""
        return "\n".join(line for line in self.err.splitlines() if line.startswith("wormwheel: "))


def run_child(
    words: Sequence[str],
    place: Place,
    strike: Strike = Strike(),  # noqa: B008
    timeout_s: float = 120.0,
    watch: bool = False,
    prepare: Callable[[], None] | None = None,
    orphan_patience_s: float = 8.0,
) -> Ended:
    """Run one command in a fork.

    Args:
        words: what follows `wormwheel`.
        place: where.
        strike: what befalls it.
        timeout_s: it is killed after that.
        watch: note its file operations.
        prepare: called in the child first.
        orphan_patience_s: how long processes that it started may take to end after it.
    """
    place.make()
    log = place.root / "operations"
    log.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    started_s = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(words, place, strike, log if watch else None, prepare)
    status, usage, timed_out = _wait(child, strike, started_s, timeout_s)
    seconds = time.monotonic() - started_s
    orphans = _orphans(child, orphan_patience_s)
    for orphan in orphans:
        with contextlib.suppress(OSError):
            os.kill(orphan, signal.SIGKILL)
    return Ended(
        code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        out=_read(place.root / "out"),
        err=_read(place.root / "err"),
        seconds=seconds,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        timed_out=timed_out,
        operations=_read(log).splitlines() if watch else [],
        orphans=orphans,
    )


def _wait(child: int, strike: Strike, started_s: float, timeout_s: float) -> tuple[int, resource.struct_rusage, bool]:
    """Wait for a child and strike it meanwhile."""
    timed_out = False
    coming = [*strike.signals, *([(strike.kill_after_s, signal.SIGKILL)] if strike.kill_after_s is not None else [])]
    coming = sorted([*coming, (timeout_s, signal.SIGKILL)])
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage, timed_out
        now_s = time.monotonic() - started_s
        while coming and now_s >= coming[0][0]:
            when_s, number = coming.pop(0)
            timed_out |= when_s == timeout_s
            with contextlib.suppress(ProcessLookupError):
                (os.kill if strike.only_the_parent or number == signal.SIGKILL else os.killpg)(child, number)
        time.sleep(0.001)


def _orphans(session: int, patience_s: float) -> list[int]:
    """Return the processes of a session that do not end within some seconds."""
    deadline_s = time.monotonic() + patience_s
    while True:
        alive = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    words = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    if int(words[3]) == session and words[0] != "Z":
                        alive.append(int(entry))
        if not alive or time.monotonic() > deadline_s:
            return alive
        time.sleep(0.05)


def _be_child(
    words: Sequence[str], place: Place, strike: Strike, log: Path | None, prepare: Callable[[], None] | None
) -> None:
    """Run the command and end this process."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((1, "out"), (2, "err")):
            descriptor = os.open(place.root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, number)
            os.close(descriptor)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = ["wormwheel", *words]
        os.chdir(place.work)
        os.environ["TMPDIR"] = str(place.temporary)
        tempfile.tempdir = None
        tempfile.gettempdir()  # Python tries the place by a file of its own; that is no matter of ours.
        if prepare is not None:
            prepare()
        if log is not None or strike.kill_before or strike.full_before:
            sys.addaudithook(_Auditor(place.root, strike, log))
        code = _main()
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _main() -> int:
    """Run the command as the interpreter would: what ends with the process ends here."""
    from multiprocessing import util

    from experiments.cli import main

    try:
        code = main()  # As the program itself: what follows is in `sys.argv`.
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    util._exit_function()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code


class _Auditor:
    """Notes file operations below a directory, kills the process before one, or lets the disk be full from it on."""

    def __init__(self, root: Path, strike: Strike, log: Path | None) -> None:
        self.root, self.strike = str(root), strike
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log is not None else None
        self.full = False
        self.pid = os.getpid()
        self.seen: dict[str, int] = {}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (event not in OPERATIONS and event != "open") or os.getpid() != self.pid:
            return
        name = self.name(event, arguments)
        if name is None:
            return
        self.seen[name] = count = self.seen.get(name, 0) + 1
        numbered = f"{name} #{count}"
        if self.log is not None:
            os.write(self.log, f"{numbered}\n".encode("utf-8", "backslashreplace"))
        if numbered == self.strike.kill_before:
            os.kill(self.pid, signal.SIGKILL)
        self.full |= numbered == self.strike.full_before
        if self.full and event in NEEDS_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])

    def name(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """Name an operation; None for one that changes nothing, or elsewhere."""
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (isinstance(mode, str) and set(mode) & set("wax+")) and not (
                isinstance(flags, int) and flags & WRITING
            ):
                return None
        count = 1 if event == "open" else OPERATIONS[event]
        names = []
        for path in arguments[:count]:
            if not isinstance(path, (str, bytes, os.PathLike)):
                return None
            names.append(os.path.abspath(os.fsdecode(path)))
        if not any(name.startswith(f"{self.root}{os.sep}") for name in names):
            return None
        short = [without_chance(os.path.relpath(name, self.root)) for name in names]
        return f"{event} {' '.join(short)}"


def without_chance(name: str) -> str:
    """Replace the random parts of a name."""
    for pattern, instead in _RANDOM:
        name = pattern.sub(instead, name)
    return name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
