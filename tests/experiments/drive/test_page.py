"""The page of `wormwheel drive`: who may talk to it, and what a person does on it, in a real browser."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.recordings import load_episodes
from experiments.drive.guard import refusal
from experiments.drive.keeping import HUMAN, POLICY
from experiments.drive.messages import parse_message
from tests.experiments.drive.test_session import session
from tests.experiments.verbs import wormwheel

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
client = pytest.importorskip("websockets.sync.client")
TOKEN = "a-token-of-the-test"


class Served:
    """A session behind a server of its own."""

    def __init__(self, out: Path, core: str = ""):
        from experiments.drive.app import Hub, make_app

        place = socket.create_server(("127.0.0.1", 0))
        self.out, self.port = out, place.getsockname()[1]
        self.session = session(out, core)
        self.hub = Hub(self.session)
        config = uvicorn.Config(
            make_app(self.hub, TOKEN, self.port),
            log_level="warning",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.hub.on_end = lambda: setattr(self.server, "should_exit", True)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [place]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def get(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        """Ask as anybody might; `host` and `origin` may be lies."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        line.putrequest("GET", path, skip_host=True)
        for name, value in {"host": f"127.0.0.1:{self.port}", **headers}.items():
            line.putheader(name, value)
        line.endheaders()
        answer = line.getresponse()
        found = answer.status, answer.read().decode(), dict(answer.headers)
        line.close()
        return found

    def talk(self, origin: str | None, token: str = TOKEN) -> Any:
        return client.connect(f"ws://127.0.0.1:{self.port}/drive?token={token}", origin=origin, open_timeout=10)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("served"))
    yield one
    one.stop()


def test_strangers_are_refused(served: Served):
    port = served.port
    assert served.get(f"/?token={TOKEN}")[0] == 200
    assert served.get(f"/?token={TOKEN}", host=f"localhost:{port}", origin=f"http://localhost:{port}")[0] == 200
    for path in ("/", "/?token=", "/?token=another", f"/?token={TOKEN}x", f"/?token=x&token={TOKEN}", "/drive"):
        status, text, _ = served.get(path)
        assert status == 403 and "token" in text and TOKEN not in text
    foreign = ({"host": f"evil.example:{port}"}, {"host": "127.0.0.1"}, {"host": f"127.0.0.1:{port + 1}"})
    for headers in (*foreign, {"origin": "https://evil.example"}, {"origin": "null"}):
        assert served.get(f"/?token={TOKEN}", **headers)[0] == 403
    assert served.get(f"/elsewhere?token={TOKEN}")[0] == 404
    _, text, headers = served.get(f"/?token={TOKEN}")
    assert "frame-ancestors 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    assert TOKEN not in text  # a page that is saved gives nothing away


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1:1", "http://localhost"])
def test_a_socket_from_another_page_is_refused(served: Served, origin: str | None):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"):
        served.talk(origin)


def test_a_socket_without_the_token_is_refused(served: Served):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"):
        served.talk(f"http://127.0.0.1:{served.port}", "wrong")


def test_every_part_of_a_request_is_looked_at():
    host, origin = (b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000")
    scope: dict[str, Any] = {"type": "websocket", "query_string": b"token=t", "headers": [host, origin]}
    assert refusal(scope, "t", 8000) == ""
    assert refusal({**scope, "headers": [host, host, origin]}, "t", 8000)
    assert refusal({**scope, "headers": [host, origin, origin]}, "t", 8000)
    assert refusal({**scope, "headers": [host, (b"origin", b"http://localhost:8000")]}, "t", 8000)
    page = {**scope, "type": "http", "method": "GET", "headers": [host]}
    assert refusal(page, "t", 8000) == "" and refusal({**page, "method": "POST"}, "t", 8000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"kind": "leave"}',
        '{"kind": "turn", "steering": 1.5}',
        '{"kind": "turn", "steering": NaN}',
        '{"kind": "turn", "steering": "0"}',
        '{"kind": "record", "on": true, "out": "/etc"}',
        '{"kind": "perturb", "severities": {"weather": ["fog", 9]}}',
    ],
)
def test_what_is_no_message_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_message(text)


def test_nonsense_ends_the_conversation_and_not_the_drive(served: Served):
    from websockets.exceptions import ConnectionClosed

    for nonsense in ('{"kind": "leave"}', b"\x00"):
        with served.talk(f"http://127.0.0.1:{served.port}") as line:
            line.send(nonsense)
            with pytest.raises(ConnectionClosed):
                while True:
                    line.recv(timeout=10)
    origin = f"http://127.0.0.1:{served.port}"
    with served.talk(origin) as first, served.talk(origin) as line:
        with pytest.raises(ConnectionClosed, match="another window"):
            while True:
                first.recv(timeout=10)
        assert len(line.recv(timeout=10)) > 1000  # frames go on, to the newer window
        line.send('{"kind": "ping", "at_ms": 5.0}')
        said = line.recv(timeout=10)
        while isinstance(said, bytes):
            said = line.recv(timeout=10)
        assert json.loads(said)["pong"] == 5.0


def test_a_window_that_shows_nothing_gets_two_frames_and_no_more(served: Served):
    with served.talk(f"http://127.0.0.1:{served.port}") as line:
        assert [isinstance(line.recv(timeout=10), bytes) for _ in range(2)] == [True, True]
        with pytest.raises(TimeoutError):
            line.recv(timeout=0.4)


def test_a_person_drives_on_the_page(tmp_path: Path):
    from tests.experiments.devtools import Chromium

    window = Chromium(tmp_path / "profile")
    served = Served(tmp_path / "out", "ltc")
    one = served.session
    try:
        window.open(served.address)
        window.until("document.getElementById('status')?.textContent.startsWith('You drive')")
        one.set_speed(0.15)  # time enough for a slow machine
        window.key("r", True)
        window.key("r", False)
        window.until("document.getElementById('status').textContent.endsWith('recording')")
        _until(lambda: one.keeper.pending > 60)
        before = one._lane.vehicle_state.yaw
        window.key("ArrowLeft", True)
        _until(lambda: one._steering > 0.15)
        window.key("ArrowLeft", False)
        _until(lambda: one._steering == 0.0)
        assert one._lane.vehicle_state.yaw > before
        bright = float(one._observation["camera"].mean())
        window.value(
            "(function () { var box = document.querySelector('[data-family=light]');"
            "var slider = box.querySelector('input'); box.querySelector('select').value = 'darkness'; slider.value = 5;"
            "slider.dispatchEvent(new Event('change')); })()"
        )
        window.until("document.getElementById('acting').textContent.includes('darkness:5')")
        _until(lambda: float(one._observation["camera"].mean()) < 0.4 * bright)
        assert window.value("document.querySelector('[data-family=light] output').textContent").startswith("5 of 5")
        window.value("document.getElementById('clear').click()")
        window.until("document.getElementById('acting').textContent.startsWith('Nothing')")
        window.key(" ", True)
        window.key(" ", False)
        window.until("document.getElementById('status').textContent.startsWith('tiny drives')")
        assert one.who == POLICY
        window.until("document.getElementById('tau').textContent.includes('ms')")
        middle = window.value(
            "(function () { var box = document.getElementById('view').getBoundingClientRect();"
            "return [box.left + 0.4 * box.width, box.top + 0.5 * box.height]; })()"
        )
        window.mouse("mousePressed", *middle)  # the mouse takes the wheel back
        _until(lambda: one.who == HUMAN and abs(one.wheel.steering - 0.25) < 0.02)
        window.mouse("mouseReleased", *middle)
        window.until("document.getElementById('age').textContent.includes('ms')")
        assert window.value("document.documentElement.scrollWidth <= innerWidth")
        window.look(390, 844)
        assert window.value("document.documentElement.scrollWidth") == 390
        assert not window.errors
        window.value("document.getElementById('end').click()")
        served.thread.join(20)
        assert not served.thread.is_alive()
    finally:
        window.close()
        served.stop()
    assert one.take_overs == 1 and len(served.hub.ages_ms) > 20 and np.median(served.hub.ages_ms) > 0
    kept = load_episodes([tmp_path / "out" / HUMAN])
    assert max(float(episode.steering.max()) for episode in kept) > 0.15
    assert served.hub.stepper.failure is None


def _until(condition: Any) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.02)


def test_bad_options_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    ran = wormwheel(capsys, "drive", "--out", tmp_path / "a", "--port", port, "--no-browser", "--vehicle", "bicycle")
    taken.close()
    assert ran.code == 2 and f"port {port}" in ran.complaint and not (tmp_path / "a").exists()
    ran = wormwheel(capsys, "drive", "--throttle")
    assert ran.code == 2 and "--throttle" in ran.complaint
    ran = wormwheel(capsys, "drive", "--port", 70000)
    assert ran.code == 2 and "port" in ran.complaint
