"""The clock of a drive: a thread that steps a session at its rate and takes commands between two steps.

    stepper = Stepper(session, publish)     # publish(seen) is called in that thread
    stepper.start()
    stepper.do(lambda: session.wheel.hold(1))
    stepper.stop()

It does not step while nobody looks: a person who sees no frames cannot drive.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from experiments.drive.session import DriveSession, Seen

PATIENCE_S = 1.0
"""Time without a frame that was shown after which the drive pauses, s."""


class Stepper:
    """Steps a session in real time.

    Attributes:
        paused: whether the person stopped the drive.
        late: steps that began more than a period late; simulated time is behind the clock by so many periods.
        failure: what ended the thread; None while it is well.
    """

    def __init__(
        self, session: DriveSession, publish: Callable[[Seen], None], on_failure: Callable[[], None] | None = None
    ):
        """Take a session; `start` sets it going.

        Args:
            session: from here on touched by this thread alone.
            publish: takes each frame.
            on_failure: called when an error has ended the thread.
        """
        self.session, self._publish, self._on_failure = session, publish, on_failure
        self.paused, self.late = False, 0
        self.failure: Exception | None = None
        self._shown_s = -PATIENCE_S
        self._commands: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="drive", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def do(self, command: Callable[[], Any]) -> None:
        """Run something between two steps."""
        self._commands.put(command)

    def shown(self) -> None:
        """Say that a frame has been looked at."""
        self._shown_s = time.monotonic()

    def stop(self) -> None:
        """End the thread and complete what is kept."""
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def waits(self) -> bool:
        """Whether the drive stands still, because the person stopped it or nobody looks."""
        return self.paused or time.monotonic() - self._shown_s > PATIENCE_S

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self.failure = error
        try:
            self.session.close()
        except Exception as error:
            self.failure = self.failure or error
        if self.failure is not None and self._on_failure is not None:
            self._on_failure()

    def _loop(self) -> None:
        period_s = self.session.period_s
        next_s = time.monotonic()
        while True:
            while not self._commands.empty():
                command = self._commands.get()
                if command is None:
                    return
                command()
            if self.waits:
                next_s = time.monotonic() + period_s  # commands are taken meanwhile
            else:
                self._publish(self.session.step())
                next_s += self.session.step_s
                self.session.look(late=time.monotonic() > next_s - period_s / 2)
            now_s = time.monotonic()
            if now_s - next_s > period_s:
                self.late += 1
                next_s = now_s
            time.sleep(max(0.0, next_s - now_s))
