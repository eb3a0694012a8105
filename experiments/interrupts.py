"""Ctrl-C at any moment: one line and exit code 130, never a traceback.

While modules are imported and options are read nothing has been written, and an exception could be raised inside
whatever library is being loaded: there Ctrl-C ends the process at once. While a verb works it raises KeyboardInterrupt,
so that what is half made is cleared away; a second one in that time raises it again. Once the verb is left, or the line
has been said, it ends the process at once again.

Only the standard library is imported here: this is the first thing that the command does.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
LINE = "stopped by Ctrl-C; what was complete is kept"
"""What is said."""
AGAIN_S = 0.02
"""Until an interrupt that was dropped is raised again, seconds."""
_said = False


def may_say() -> bool:
    """Whether the line is still to be said; whoever asks says it."""
    global _said
    before, _said = _said, True
    return not before


def is_command() -> bool:
    """Whether this process is the command itself, not a program that imports it."""
    first = os.path.basename(sys.argv[0]) if sys.argv else ""
    return first.split(".")[0] == "wormwheel" or "experiments.cli" in sys.orig_argv[1:4]


def leave_at_once() -> None:
    """From now on end the process at Ctrl-C; only the main thread can ask for it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def at_once(for_good: bool = False) -> Iterator[None]:
    """End the process at Ctrl-C inside the block; `for_good` after it as well."""
    global _said
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _said = False
    before = signal.getsignal(signal.SIGINT)
    leave_at_once()
    try:
        yield
    finally:
        if not for_good:
            signal.signal(signal.SIGINT, before)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C inside the block; afterwards as before.

    A library may take it for a failure of its own, as torch's exporter does, and raise that: it is an interrupt all the
    same. Where Python drops what is raised, in a `__del__` or a callback from C, it is raised again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = soon_again = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        if not soon_again:
            signal.default_int_handler(number, frame)

    def raise_again(dropped: sys.UnraisableHookArgs) -> None:
        nonlocal soon_again
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            shown(dropped)
            return
        soon_again = True  # one that comes meanwhile would be dropped as well
        again = threading.Timer(AGAIN_S, _interrupt_main)  # not here, for the same reason
        again.daemon = True
        try:
            again.start()
        finally:
            soon_again = False

    before, shown = signal.signal(signal.SIGINT, note), sys.unraisablehook
    sys.unraisablehook = raise_again
    try:
        yield
    except Exception:
        if came:
            raise KeyboardInterrupt from None
        raise
    finally:
        sys.unraisablehook = shown
        signal.signal(signal.SIGINT, before)


def _interrupt_main() -> None:
    """Send the main thread what Ctrl-C does; where systems have such signals, a wait ends by it as well."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _leave(number: int, frame: FrameType | None) -> None:
    if may_say():
        try:
            os.write(2, f"wormwheel: {LINE}\n".encode())  # Past all buffers, whatever state they are in.
        except OSError:
            pass
    os._exit(INTERRUPTED)
