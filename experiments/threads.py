"""What goes wrong in threads of libraries, such as TensorBoard's writer on a full disk: told once, by the command.

Python would print a traceback of the thread and go on, and the command would end well with a file that lacks its end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Failures:
    """The first failure of each kind that the command can tell of.

    Attributes:
        first: an OSError or MemoryError that a thread ended with; None while there is none.
    """

    def __init__(self) -> None:
        self.first: OSError | MemoryError | None = None


@contextmanager
def noted() -> Iterator[Failures]:
    """Note threads that end with an OSError or a MemoryError inside the block; other errors are bugs and printed."""
    failures, before = Failures(), threading.excepthook

    def note(ended: threading.ExceptHookArgs) -> None:
        if isinstance(ended.exc_value, (OSError, MemoryError)):
            failures.first = failures.first or ended.exc_value
        else:
            before(ended)

    threading.excepthook = note
    try:
        yield failures
    finally:
        threading.excepthook = before
