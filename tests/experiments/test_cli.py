"""The command itself: verbs, help, exit codes, one line for what cannot be done."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from experiments import cli
from experiments.console import duration, expand_tracks, new_directory, plain, progress, table
from experiments.info import attribute_docs
from tests.experiments.verbs import wormwheel

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_the_verbs_without_loading_torch(capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "--help")
    assert ran.code == 0
    for name, verb in cli.VERBS.items():
        assert f"{name} " in ran.out and verb.summary in " ".join(ran.out.split())
    loaded = "print(sorted({'torch', 'cv2'} & {*sys.modules}))"
    code = f"import sys; from experiments import cli; cli.main(['--help']); {loaded}"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.endswith("[]\n"), shown.stdout


def test_without_a_verb_the_verbs_are_shown(capsys: pytest.CaptureFixture[str]):
    assert wormwheel(capsys).code == 2
    group = wormwheel(capsys, "train")
    assert group.code == 2 and "train imitation" in group.out and "evaluate" not in group.out


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_option_of_every_verb_is_explained(name: str, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, *name.split(), "--help")
    assert ran.code == 0 and f"wormwheel {name}" in ran.out
    verb = cli.VERBS[name]
    kind = getattr(importlib.import_module(verb.module), verb.options)
    for option in dataclasses.fields(kind):
        assert attribute_docs(kind)[option.name], f"{kind.__name__}.{option.name} has no docstring"
    assert "--json" in ran.out or name in ("render", "gallery", "table")  # these measure nothing


def test_an_unknown_verb_is_one_line(capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "fly")
    assert ran.code == 2 and "no verb 'fly'" in ran.complaint and "record" in ran.complaint
    ran = wormwheel(capsys, "train", "magic")
    assert ran.code == 2 and "imitation" in ran.complaint


@pytest.mark.parametrize("arguments", [("--frames", "many"), ("--bogus",), ("--frames",)])
def test_wrong_options_exit_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    assert wormwheel(capsys, "record", *arguments).code == 2


def fake_verb(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `wormwheel info` raise something."""

    def run(options: object) -> None:
        raise error

    module = importlib.import_module("experiments.info")
    monkeypatch.setattr(module, "run", run)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too\n  many words"), "wormwheel: too many words"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "wormwheel: a.csv: No such file or directory"),
        (OSError("plain"), "wormwheel: plain"),
        (ModuleNotFoundError("No module named 'sb3'", name="sb3"), "needs the package sb3"),
        (ImportError("install it with pip install 'wormwheel[rl]'"), "pip install -e '"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_2(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fake_verb(monkeypatch, error)
    ran = wormwheel(capsys, "info")
    assert ran.code == 2 and line in ran.complaint
    assert len(ran.err.splitlines()) == 1
    monkeypatch.setenv("WORMWHEEL_TRACEBACK", "1")
    assert "Traceback" in wormwheel(capsys, "info").err


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    fake_verb(monkeypatch, RuntimeError("bug"))
    with pytest.raises(RuntimeError, match="bug"):
        wormwheel(capsys, "info")
    fake_verb(monkeypatch, ModuleNotFoundError("No module named 'agents.gone'", name="agents.gone"))
    with pytest.raises(ModuleNotFoundError, match="gone"):
        wormwheel(capsys, "info")


@pytest.mark.parametrize(
    "error", [MemoryError("1 TiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TiB")]
)
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fake_verb(monkeypatch, error)
    ran = wormwheel(capsys, "info")
    assert ran.code == 2 and "not enough memory for this" in ran.complaint and "1 TiB" in ran.complaint


def test_what_a_thread_of_a_library_could_not_write_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(error: Exception) -> None:
        raise error

    def work(error: Exception) -> None:
        thread = threading.Thread(target=fails, args=(error,))
        thread.start()
        thread.join()

    before = threading.excepthook
    monkeypatch.setattr("experiments.info.run", lambda options: work(OSError(28, "No space left", b"a/events")))
    ran = wormwheel(capsys, "info", "versions")
    assert ran.code == 2 and "a/events: No space left" in ran.complaint and ran.err.count("\n") == 1
    assert threading.excepthook is before
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda ended: printed.append(ended.exc_value))
    monkeypatch.setattr("experiments.info.run", lambda options: work(KeyError("a bug")))
    assert wormwheel(capsys, "info", "versions").code == 0 and len(printed) == 1


def test_ctrl_c_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    fake_verb(monkeypatch, KeyboardInterrupt())
    ran = wormwheel(capsys, "info")
    assert ran.code == 130 and "stopped by Ctrl-C" in ran.complaint


def test_a_closed_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        ran = subprocess.run(
            [sys.executable, "-m", "experiments.cli", "info"],
            cwd=ROOT,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.stderr == "" and ran.returncode == cli.PIPE_CLOSED


def test_packages_of_others_are_refused(tmp_path: Path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    code = f"import sys; sys.path.append({str(ROOT)!r}); from experiments import cli; sys.exit(cli.main(['info']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2
    assert "'agents' should come from" in ran.stderr and "Traceback" not in ran.stderr


def test_check_rooms_sees_what_is_loaded(monkeypatch: pytest.MonkeyPatch):
    cli.check_rooms()
    foreign = types.ModuleType("envs")
    foreign.__spec__ = importlib.machinery.ModuleSpec("envs", None, origin="/elsewhere/envs/__init__.py")
    monkeypatch.setitem(sys.modules, "envs", foreign)
    with pytest.raises(cli.ForeignPackage, match="/elsewhere"):
        cli.check_rooms()


def test_plain_progress_says_how_long_it_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with progress("working", 100, "things") as bar:
        for _ in range(100):
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "working:  10%, 10 of 100 things, about 45 s left"
    assert lines[-1].startswith("working: done, 100 of 100 things, in ")


def test_a_table_keeps_what_looks_like_markup(capsys: pytest.CaptureFixture[str]):
    table("[bold]title", ["[red]a"], [["`[B, T]` [/b]"]])
    shown = capsys.readouterr().out
    assert "[bold]title" in shown and "`[B, T]` [/b]" in shown


def test_durations_read_as_people_say_them():
    assert [duration(s) for s in (0.4, 99, 200, 7500)] == ["0 s", "99 s", "3 min 20 s", "2 h 5 min"]


def test_json_never_holds_nan(tmp_path: Path):
    assert plain({"a": float("nan"), "b": (1, float("inf"), Path("x"))}) == {"a": None, "b": [1, None, "x"]}


def test_directories_of_roads_become_their_files(tmp_path: Path):
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).touch()
    found = expand_tracks((str(tmp_path), "z.csv"))
    assert found == (str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "z.csv")
    assert expand_tracks("random") == "random"
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no .csv file"):
        expand_tracks(str(tmp_path / "none"))


def test_names_of_new_directories_are_free(tmp_path: Path):
    (tmp_path / "runs" / "x").mkdir(parents=True)
    assert new_directory(None, str(tmp_path / "runs" / "x")).name == "x-2"
    assert new_directory(tmp_path / "runs" / "x", "y").name == "x"


def test_info_shows_everything(capsys: pytest.CaptureFixture[str], trained: Path, recording: Path, tmp_path: Path):
    cores = wormwheel(capsys, "info", "cores", "--json", tmp_path / "cores.json")
    assert (
        cores.code == 0 and "liquid time-constant" in cores.out and "substeps" in (tmp_path / "cores.json").read_text()
    )
    assert (tmp_path / "cores.json").is_file()
    policy = wormwheel(capsys, "info", "policy", trained)
    assert policy.code == 0 and "hidden_size=8" in policy.out and "48×24 pixels" in policy.out
    data = wormwheel(capsys, "info", "data", recording)
    assert data.code == 0 and "270" in data.out and "bicycle" in data.out
    world = wormwheel(capsys, "info", "env")
    assert world.code == 0 and "wormwheel/LaneKeeping-v0" in world.out and "variety" in world.out
    versions = wormwheel(capsys, "info")
    assert versions.code == 0 and "torch" in versions.out
    assert wormwheel(capsys, "info", "policy").code == 2
    assert wormwheel(capsys, "info", "cores", recording).code == 2
    assert wormwheel(capsys, "info", "env", recording).code == 2


def test_version(capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "--version")
    assert ran.code == 0 and ran.out.startswith("wormwheel ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["record", "--frames", "many"], "expected --frames INT (greater than 0, at most 1000000000), got 'many'."),
        (["record", "--workers="], "expected --workers INT (at least 1, at most 1024), got ''."),
        (["record", "--frames"], "expected --frames INT (greater than 0, at most 1000000000), got nothing."),
        (
            ["record", "--speed-mps", "1"],
            "expected --speed-mps NUMBER NUMBER (at least 0.01, at most 100.0), got too few",
        ),
        (
            ["record", "--speed-mps", "a", "2"],
            "expected --speed-mps NUMBER NUMBER (at least 0.01, at most 100.0), got 'a' '2'.",
        ),
        (["robustness", "--severities", "a", "2"], "expected --severities INT ..."),
        (["data", "info", "x", "--nominal-rate", "a"], "10000.0), got 'a'."),
        (["record", "--nonsense", "3"], "--nonsense"),
        (
            ["train", "imitation"],
            "this needs --data PATH ... (Recordings to learn from, one or more: data sets of wormwheel",
        ),
        (["train", "imitation", "--data"], "data must have 1 or more values, got 0."),
        (
            ["data", "fix"],
            "this needs PATH (The recording: a data set, a tub, a log, a table, a video with --table, ...) and --out",
        ),
        (["data", "fix", "x"], "this needs --out PATH (Directory of the copy; empty or absent). See"),
        (
            ["info", "coers"],
            "expected WHAT (one of cores, policy, data, env, perturbations, versions), got 'coers'. Did you mean",
        ),
        (["record", "--out", ""], "out must name a file or directory, got nothing"),
        (["record", "--out="], "out must name a file or directory, got nothing"),
        (["data", "info", ""], "must name a file or directory, got nothing"),
        (
            ["record", "--vehicle-params.wheelbase-m", "5e-324"],
            "wheelbase_m must be 0 or a number of a size that means",
        ),
        (["evaluate", "--env", ""], "env must name something, got nothing"),
        (["render", "--policy", "", "--out", "film.mp4"], "policy must name something, got nothing"),
        (["evaluate", "--policy", "nowhere", "--json", ""], "json must name a file or directory, got nothing"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, says, capfd):
    assert cli.main(arguments) == 2
    told = capfd.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith("wormwheel: ") and says in told.err and "--help." in told.err


@dataclass(frozen=True, config={"extra": "forbid"})
class Ranged:
    """A config with declared ranges."""

    seed: Annotated[int, Field(ge=0)] = 0
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def __post_init__(self) -> None:
        """Check what no single field can."""
        if self.seed > 10 * self.rate:
            raise ValueError(f"seed must be at most ten times rate, got {self.seed} and {self.rate}.")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1."),
        ({"rate": math.nan}, "rate must be a finite number, got nan."),
        ({"rate": 0}, "rate must be greater than 0, got 0."),
        ({"seed": "x"}, "seed must be a valid integer, unable to parse string as an integer, got 'x'."),
        ({"seed": 11}, "seed must be at most ten times rate, got 11 and 1.0."),
        ({"speed": 11}, "speed is wrong: Unexpected keyword argument, got 11."),
        ({"seed": -1, "rate": -2}, "seed must be at least 0, got -1. rate must be greater than 0, got -2."),
    ],
)
def test_declared_ranges_are_told_in_one_line(values: dict[str, Any], line: str):
    with pytest.raises(ValidationError) as caught:
        Ranged(**values)
    assert cli.describe(caught.value) == line


OWN = """
class Lost(Exception):
    pass

def steer(frame):
    raise {error}
"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Lost('the way')", "Lost: the way (own.py, line 6)"),
        ("ValueError('no such\\nthing')", "ValueError: no such thing (own.py, line 6)"),
        ("SystemExit(0)", "it ended the program: sys.exit(0) (own.py, line 6)"),
    ],
)
def test_whatever_code_of_others_raises_is_one_line_with_its_place(tmp_path, monkeypatch, capsys, error, words):
    (tmp_path / "own.py").write_text(OWN.format(error=error))
    from envs.foreign_code import load_object

    steer = load_object(f"{tmp_path}/own.py:steer")
    monkeypatch.setattr("experiments.info.run", lambda options: steer(None))
    assert cli.main(["info"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"wormwheel: code that is not Wormwheel's failed: {words}. WORMWHEEL_TRACEBACK=1 shows")
    assert said.count("\n") == 1


def test_what_a_config_inside_the_options_refuses_is_said_in_our_words(capsys):
    for words, says in (
        (["--env-names.period-s", "0"], "period_s must be at least 0.001, got 0.0."),
        (["--env-names.camera", ""], "camera must say where the picture is"),
        (["--camera.hfov-deg", "0", "0"], "hfov_deg.0 must be"),
    ):
        assert cli.main(["evaluate", *words]) == 2
        said = capsys.readouterr().err
        assert says in said and "pydantic" not in said and said.count("\n") == 1
