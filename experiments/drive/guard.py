"""Who may talk to the page: its own browser window, with the token, under the address it was opened at.

The server listens on 127.0.0.1 alone. That keeps other computers out, but not other pages in the same browser, nor
other users of the same computer: hence a token that only the command's output knows, a Host header that must be this
address (a foreign name that was made to point here is refused), and an Origin that must be this page's.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
"""What the page may be called in its address."""


class Guard:
    """Lets through what `refusal` has nothing against."""

    def __init__(self, app: App, token: str, port: int):
        """Guard an ASGI application."""
        self._app, self._token, self._port = app, token, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or let the application answer."""
        reason = refusal(scope, self._token, self._port) if scope["type"] in ("http", "websocket") else ""
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            body = f"{reason}\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def refusal(scope: Scope, token: str, port: int) -> str:
    """Say why a request is refused; "" where it is not.

    Args:
        scope: of ASGI, "http" or "websocket".
        token: that the address must hold.
        port: that the server listens at.
    """
    hosts = [value.decode("latin1").lower() for name, value in scope["headers"] if name.lower() == b"host"]
    if len(hosts) != 1 or hosts[0] not in {f"{name}:{port}" for name in NAMES}:
        return "the Host header is not this page's address"
    origins = [value.decode("latin1").lower() for name, value in scope["headers"] if name.lower() == b"origin"]
    if origins != [f"http://{hosts[0]}"] and (origins or scope["type"] == "websocket"):
        return "the request comes from another page"
    given = parse_qs(scope["query_string"].decode("latin1")).get("token", [])
    if len(given) != 1 or not hmac.compare_digest(given[0].encode(), token.encode()):
        return "the token is missing or wrong: open the address that the command has printed"
    if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
        return "only GET is answered"
    return ""
