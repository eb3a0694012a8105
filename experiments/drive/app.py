"""The server of the page: Starlette, one window at a time, never more than two frames on their way.

    hub = Hub(session)
    application = make_app(hub, token, port)     # ASGI

The window that was opened last drives; the one before is told so. A window that falls behind is sent the newest frame
next, never a queue of old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from experiments.drive.guard import App, Guard
from experiments.drive.inside import Accounts
from experiments.drive.messages import End, Pause, Ping, Shown, parse_message
from experiments.drive.page import head, headers, packet, page, pictures
from experiments.drive.session import DriveSession, Seen
from experiments.drive.stepper import Stepper

IN_FLIGHT = 2
"""Frames that may be on their way to the window."""
AGES_KEPT = 100_000
"""Ages of frames that are remembered: more than an hour at 20 Hz."""
ACCOUNT_EVERY = 4
"""Frames between two offers of a moment for an account."""
TAKEN_OVER, BAD_MESSAGE = 4001, 1003
"""Codes that a socket is closed with: another window drives; what came is no message."""


class Hub:
    """Between the thread that drives and the window that shows it.

    Attributes:
        session: the drive.
        stepper: its clock.
        ages_ms: how old each frame was when it was shown.
        skipped: frames that were not sent, since the window had not shown those before.
        on_end: called when the person has finished, or the drive cannot go on (`stepper.failure`).
    """

    def __init__(self, session: DriveSession, accounts: Accounts | None = None):
        """Connect to a session; `make_app` starts its clock."""
        self.session, self.accounts = session, accounts
        self.stepper = Stepper(session, self._publish, self._fail)
        self.ages_ms: deque[float] = deque(maxlen=AGES_KEPT)
        self.skipped = 0
        self.on_end: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: WebSocket | None = None
        self._flying: set[int] = set()
        self._newest: tuple[dict[str, Any], bytes, bytes] | None = None
        self._arrived = asyncio.Event()
        self._due: dict[str, Any] = {}
        self._drive = 0

    def begin(self) -> None:
        """Start the clock, from inside the event loop."""
        self._loop = asyncio.get_running_loop()
        self.stepper.start()

    async def end(self) -> None:
        """Stop the clock and complete what is kept."""
        await asyncio.to_thread(self.stepper.stop)

    async def serve(self, socket: WebSocket) -> None:
        """Talk with a window until it goes."""
        before, self._socket = self._socket, socket
        if before is not None:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await before.close(TAKEN_OVER, "another window drives now")
        await socket.accept()
        self._flying.clear()
        self._drive = 0  # the new window has no road yet
        self.stepper.shown()
        sending = asyncio.create_task(self._send(socket))
        try:
            while self._socket is socket:
                await self._receive(socket, await socket.receive_text())
        except (WebSocketDisconnect, KeyError):
            pass  # the window was closed, or sent bytes
        except ValueError:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(BAD_MESSAGE, "this is no message that the page sends")
        finally:
            sending.cancel()
            if self._socket is socket:
                self._socket = None
                self.stepper.do(lambda: self.session.wheel.hold(0))

    async def _receive(self, socket: WebSocket, text: str) -> None:
        """Do what a message asks for.

        Raises:
            ValueError: if it is no message.
        """
        message = parse_message(text)
        if isinstance(message, Shown):
            self._flying = {number for number in self._flying if number > message.number}
            self.stepper.shown()
            if message.age_ms is not None:
                self.ages_ms.append(message.age_ms)
            self._arrived.set()
        elif isinstance(message, Ping):
            await socket.send_text(json.dumps({"pong": message.at_ms, "clock_ms": 1000.0 * time.time()}))
        elif isinstance(message, Pause):
            self.stepper.paused = message.on
            self.stepper.shown()
        elif isinstance(message, End):
            self.on_end()
        else:
            self.stepper.do(lambda: self._apply(message))

    def _apply(self, command: Any) -> None:
        """Do something between two steps; what cannot be done is said on the page."""
        try:
            command.apply(self.session)
        except ValueError as error:
            self.session.notice = str(error)

    def _publish(self, seen: Seen) -> None:
        """Take a frame from the thread that drives."""
        said = head(self.session, seen)
        due: dict[str, Any] = {}
        if seen.drive != self._drive:
            self._drive = seen.drive
            due["road"] = np.round(self.session.outline, 2).tolist()
        account = self._account(seen)
        if account is not None:
            due["account"] = account
        coded = pictures(seen)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
                self._loop.call_soon_threadsafe(self._arrive, said, coded, due)

    def _account(self, seen: Seen) -> dict[str, Any] | None:
        """Return an account that has become ready, and begin the next one."""
        if self.accounts is None or self.session.inside is None:
            return None
        try:
            found = self.accounts.take()
            if seen.number % ACCOUNT_EVERY == 0 and not seen.ended:
                self.accounts.offer(self.session.inside, float(seen.info["time_s"]), seen.drive)
        except Exception as error:  # of another process: the drive goes on without accounts, and says so
            self.accounts, self.session.notice = None, f"no more accounts: {error}"
            return None
        return found

    def _fail(self) -> None:
        """The thread that drives has ended by an error."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.on_end)

    def _arrive(self, said: dict[str, Any], coded: tuple[bytes, bytes], due: dict[str, Any]) -> None:
        if self._newest is not None:
            self.skipped += 1
        self._newest = said, *coded
        self._due |= due
        self._arrived.set()

    async def _send(self, socket: WebSocket) -> None:
        """Send the newest frame whenever there is one and the window has shown those before."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                if self._newest is None or len(self._flying) >= IN_FLIGHT:
                    continue
                (said, large, own), self._newest = self._newest, None
                due, self._due = self._due, {}
                self._flying.add(said["n"])
                await socket.send_bytes(packet({**said, **due}, large, own))


def make_app(hub: Hub, token: str, port: int) -> App:
    """Make the ASGI application; its clock starts and ends with it.

    Args:
        hub: of the session.
        token: that the address must hold.
        port: that the server listens at.
    """

    async def show(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(page(hub.session, nonce), headers=headers(nonce, port))

    @contextlib.asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        hub.begin()
        try:
            yield
        finally:
            await hub.end()

    routes = [Route("/", show), WebSocketRoute("/drive", hub.serve)]
    return Guard(Starlette(routes=routes, lifespan=lifespan), token, port)
