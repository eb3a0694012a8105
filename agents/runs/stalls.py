"""Processes that have stopped making progress: halted, or waiting for something that never comes.

A process that is asked for an answer and uses no time of the processor for half a minute will not answer. Load does not
look like that: however many others there are, a process that is ready gets its turn now and then. As Linux tells it;
elsewhere nothing is noticed.

    watch = StallWatch()
    while not pipe.poll(watch.EVERY_S):
        if watch.stalled(process.pid):
            ...
"""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE_S = 30.0
"""Time without any progress after which a process counts as stalled, s."""
HALTED = ("T", "t", "Z", "X")
"""States in which a process does nothing: stopped, traced, dead."""


class StallWatch:
    """Looks at processes now and then."""

    EVERY_S = 2.0
    """How often to look, s."""

    def __init__(self, patience_s: float = PATIENCE_S):
        self._patience_s = patience_s
        self._seen: dict[int, tuple[int, float]] = {}

    def stalled(self, pid: int | None) -> bool:
        """Whether a process that should work has made no progress for too long; begins to watch it if it is new."""
        found = _state(pid) if pid is not None else None
        if pid is None or found is None:
            return False
        state, ticks = found
        now_s = time.monotonic()
        before, since_s = self._seen.get(pid, (-1, now_s))
        if ticks != before:
            self._seen[pid] = ticks, now_s
            return False
        waited_s = now_s - since_s
        return waited_s > self._patience_s or (state in HALTED and waited_s > 2 * self.EVERY_S)

    def forget(self, pid: int | None) -> None:
        """Begin again with a process that has given a sign of life, or has nothing to do."""
        self._seen.pop(pid or 0, None)


def is_halted(pid: int | None) -> bool:
    """Whether a process has been stopped, as by SIGSTOP."""
    found = _state(pid) if pid is not None else None
    return found is not None and found[0] in ("T", "t")


def _state(pid: int) -> tuple[str, int] | None:
    """Return a process's state and the time that it and its threads have used, in ticks; None where nobody says."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return words[0], int(words[11]) + int(words[12])
    except (OSError, ValueError, IndexError):
        return None
