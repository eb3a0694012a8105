"""Ctrl-C ends the command in one line and exit code 130, whenever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments import cli, interrupts
from tests.experiments.verbs import ROAD

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
sys.argv = ["wormwheel", *sys.argv[1:]]
import experiments
print("begun", flush=True)
from experiments.cli import main
sys.exit(main())
"""
"""What the installed command does, with a word when Python itself is up and the first of our modules is loaded."""


def test_ctrl_c_while_it_starts(tmp_path: Path):
    going = []
    for delay_s in (0.05, 0.5, 1.5):
        words = ["record", "--out", str(tmp_path / f"run-{delay_s}"), "--frames", "100000", *ROAD]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        going.append((process, time.monotonic() + delay_s))
    for process, when_s in going:
        time.sleep(max(0.0, when_s - time.monotonic()))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        said = [line for line in err.splitlines() if line.startswith("wormwheel: ")]
        assert said == [f"wormwheel: {interrupts.LINE}"] and "Traceback" not in err and "ignored" not in err, err


def test_ctrl_c_while_a_verb_works_clears_away_and_is_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    cleared = []

    def work(options: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            time.sleep(5)
        finally:
            cleared.append(True)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("experiments.info.run", work)
    assert cli.main(["info", "cores"]) == 130
    assert cleared and signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count(interrupts.LINE) == 1


def test_ctrl_c_that_a_library_takes_for_its_own_failure_is_an_interrupt(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def work(options: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("the export failed") from None

    monkeypatch.setattr("experiments.info.run", work)
    assert cli.main(["info", "cores"]) == 130
    err = capfd.readouterr().err
    assert err.count(interrupts.LINE) == 1 and "the export failed" not in err


class Dropping:
    """Is interrupted where Python drops what is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_that_python_drops_is_raised_again(capfd: pytest.CaptureFixture[str]):
    shown, begun_s = sys.unraisablehook, time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with interrupts.raised():
            Dropping()
            time.sleep(5)
    assert time.monotonic() - begun_s < 2
    assert capfd.readouterr().err == "" and sys.unraisablehook is shown


def test_a_second_ctrl_c_while_the_first_is_being_raised_again_is_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    class Struck(threading.Timer):
        def start(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().start()

    monkeypatch.setattr(threading, "Timer", Struck)
    with pytest.raises(KeyboardInterrupt):
        with interrupts.raised():
            Dropping()
            time.sleep(5)
    assert capfd.readouterr().err == ""


def test_what_else_python_drops_is_shown_as_ever(monkeypatch: pytest.MonkeyPatch):
    class Failing:
        def __del__(self) -> None:
            raise KeyError("a bug")

    shown: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: shown.append(dropped.exc_type))
    with interrupts.raised():
        Failing()
    assert shown == [KeyError]
