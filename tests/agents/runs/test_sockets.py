"""Sockets of killed processes are removed, those of others are let be."""

from __future__ import annotations

import multiprocessing.util
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agents.runs import sockets
from agents.runs.sockets import MARK, clear_dead_sockets, mark_socket_directory
from agents.runs.workers import run_jobs

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # short: the name of a socket has 108 characters at most
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["rm", "-r", place], check=True)


def left_behind(place: Path, name: str, *files: str) -> Path:
    """Make a directory with a socket that nobody listens at."""
    directory = place / name
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "listener-x"))
    for file in files:
        (directory / file).touch()
    return directory


def test_only_what_a_dead_process_of_ours_left_is_removed(temporary: Path):
    dead = left_behind(temporary, "pymp-dead", MARK)
    foreign = left_behind(temporary, "pymp-foreign")
    fuller = left_behind(temporary, "pymp-fuller", MARK, "notes.txt")
    alive = left_behind(temporary, "pymp-alive", MARK)
    with (alive / MARK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        clear_dead_sockets()
    assert not dead.exists()
    assert all((kept / "listener-x").exists() for kept in (foreign, fuller, alive))
    clear_dead_sockets()
    assert not alive.exists(), "its process has ended"


def test_who_has_started_workers_keeps_its_directory(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    """Its server of workers may have ended: it is started again when it is needed."""
    monkeypatch.setattr(sockets, "_held", {})
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", lambda: str(left))
    left = left_behind(temporary, "pymp-ours")
    mark_socket_directory()
    code = "from agents.runs.sockets import clear_dead_sockets as clear; clear()"
    elsewhere = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", code], env=elsewhere, check=True)
    assert (left / "listener-x").exists()
    os.close(sockets._held[left])
    subprocess.run([sys.executable, "-c", code], env=elsewhere, check=True)
    assert not left.exists()


@pytest.mark.usefixtures("light_server")
def test_starting_workers_marks_the_directory(monkeypatch: pytest.MonkeyPatch):
    marked = []
    monkeypatch.setattr("agents.runs.workers.mark_socket_directory", lambda: marked.append(True))
    run_jobs(_pass_on, [1, 2], 2, lambda news: None)
    assert marked


def _pass_on(jobs, report) -> None:
    for job in jobs:
        report(job)
