"""A headless Chromium for tests of pages: what a page says about itself once it has been looked at.

The page is served on this machine with a script added that watches for errors, plays every film, measures widths and
sends back what it found.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""What the browser may be called."""
PATIENCE_S = 60
"""Time that a page may take."""

WATCH = """<script>
window.seen = { errors: [] };
addEventListener("error", function (event) { seen.errors.push(String(event.message || event.target.src)); }, true);
addEventListener("unhandledrejection", function (event) { seen.errors.push(String(event.reason)); });
["error", "warn"].forEach(function (kind) {
  var usual = console[kind];
  console[kind] = function () { seen.errors.push([].join.call(arguments, " ")); usual.apply(console, arguments); };
});
</script>"""

LOOK = """<script>
addEventListener("load", async function () {
  var wait = function (ms) { return new Promise(function (done) { setTimeout(done, ms); }); };
  document.querySelectorAll("details").forEach(function (one) { one.open = true; });
  seen.outside = performance.getEntriesByType("resource").map(function (one) { return one.name; });
  seen.films = [];
  for (const film of document.querySelectorAll("video")) {
    film.currentTime = 0;
    await film.play();
    var begun = performance.now();
    while (film.currentTime < 0.2 && performance.now() - begun < 20000) { await wait(20); }
    seen.films.push({ time: film.currentTime, width: film.videoWidth, seconds: film.duration });
    film.pause();
  }
  seen.window = document.documentElement.clientWidth;
  seen.page = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  scrollTo(9999, 0);
  seen.scrolled = scrollX;
  seen.sorted = [];
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var heads = Array.from(table.tHead.rows[0].cells);
    var column = heads.findIndex(function (head) { return head.querySelector("button"); });
    var values = function () {
      return Array.from(table.tBodies[0].rows).map(function (row) { return row.cells[column].dataset.value; });
    };
    heads[column].querySelector("button").click();
    var up = values();
    heads[column].querySelector("button").click();
    seen.sorted.push([up, values()]);
  });
  seen.background = getComputedStyle(document.body).backgroundColor;
  await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
});
</script>"""


def look(page: Path, width: int, profile: Path, dark: bool = False) -> dict[str, Any]:
    """Open a page in a window of so many pixels and return what it found; skips the test without a browser."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    content = page.read_text(encoding="utf-8")
    content = content.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{LOOK}</body>", 1)
    found: list[dict[str, Any]] = []
    done = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Server, content.encode(), found, done))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--autoplay-policy=no-user-gesture-required", "--hide-scrollbars", f"--user-data-dir={profile}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},900"]
    # Chromium's window is at least 500 pixels wide; a frame of the wanted width shows what a phone would.
    address = f"http://127.0.0.1:{server.server_port}/frame?{width}"
    browser = subprocess.Popen([*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert done.wait(PATIENCE_S), "the page did not answer"
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
        server.server_close()
        thread.join()
    return found[0]


class _Server(BaseHTTPRequestHandler):
    """Serves the page in a frame, and takes what it found."""

    def __init__(self, content: bytes, found: list[dict[str, Any]], done: threading.Event, *arguments: Any):
        self.content, self.found, self.done = content, found, done
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path.startswith("/frame?"):
            width = int(self.path.partition("?")[2])
            frame = f'<iframe src="/page" style="border:0;width:{width}px;height:880px" allow="autoplay"></iframe>'
            body = f'<!DOCTYPE html><link rel="icon" href="data:,"><body style="margin:0">{frame}</body>'.encode()
        else:
            body = self.content if self.path == "/page" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""
