"""A headless Chromium that is driven through its DevTools: keys, clicks, what the page knows, pictures of it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.experiments.browser import NAMES, PATIENCE_S


class Chromium:
    """One window.

    Attributes:
        errors: what the page complained of.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900):
        """Start it; skips the test without a browser."""
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            pytest.skip("there is no Chromium on this machine")
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        try:
            place = profile / "DevToolsActivePort"
            self._wait(lambda: place.exists() and place.read_text().count("\n"), "no DevTools")
            port = place.read_text().split("\n")[0]
            pages: list[dict[str, Any]] = []

            def found() -> bool:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                    pages[:] = [one for one in json.load(answer) if one["type"] == "page"]
                return bool(pages)

            self._wait(found, "no page")
            self._stack = contextlib.ExitStack()
            self._socket = self._stack.enter_context(connect(pages[0]["webSocketDebuggerUrl"], max_size=None))
        except BaseException:
            self._process.kill()
            self._process.wait(20)
            raise
        self.do("Page.enable")
        self.do("Runtime.enable")
        self.do("Log.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(answer["params"]["exceptionDetails"].get("exception", answer["params"])))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])

    def open(self, address: str) -> None:
        """Go to a page."""
        self.do("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true on the page, and return it."""
        return self._wait(lambda: self.value(expression), f"never true: {expression}")

    def key(self, key: str, down: bool) -> None:
        """Press or release a key, by the name that pages know it by."""
        text = {"text": key} if down and len(key) == 1 else {}
        self.do("Input.dispatchKeyEvent", type="keyDown" if down else "keyUp", key=key, **text)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move, press or release the mouse: "mouseMoved", "mousePressed", "mouseReleased"."""
        self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, width: int, height: int, dark: bool = False, scale: float = 1.0) -> None:
        """Make the window of another size, light or dark."""
        mobile = width < 600
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, whole: bool = True) -> bytes:
        """A PNG of the page."""
        return base64.b64decode(self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def close(self) -> None:
        """End it."""
        self._stack.close()
        self._process.terminate()
        self._process.wait(20)

    @staticmethod
    def _wait(condition: Any, complaint: str) -> Any:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(complaint)
