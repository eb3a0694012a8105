"""A run's directory: whose it is, who writes to it, and what a kill or a refusal leaves in it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.runs.checkpoints import DamagedCheckpoint, damage, new_checkpoint, newest_whole
from agents.runs.directory import RunDirectory, check_directory, check_made, command, open_run, record_made
from agents.runs.events import cut_back
from agents.runs.files import ASIDE, PARTIAL, clear_leftovers, private_directory, replacing_directory
from agents.runs.lock import LOCK, DirectoryInUse, locked
from tests.experiments.verbs import tree


def make(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", ["notes.txt", "policy/model.safetensors", "metrics.jsonl", "config.json", ".hidden"])
@pytest.mark.parametrize("resume", [False, True])
def test_what_no_run_has_made_is_not_touched(tmp_path: Path, name: str, resume: bool):
    make(tmp_path / "out" / name, "{}")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="out holds .*not written over: give --out a new or an empty"):
        with open_run(tmp_path / "out", "train x", {}, resume):
            raise AssertionError("work has started")
    assert tree(tmp_path) == before


def test_the_logs_of_others_are_not_removed(tmp_path: Path):
    make(tmp_path / "tensorboard" / "events.out.tfevents.1")
    make(tmp_path / "metrics.jsonl")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="not written over"):
        RunDirectory(tmp_path, "tasks x", {})
    assert tree(tmp_path) == before


def test_another_verbs_directory_is_not_touched(tmp_path: Path):
    with open_run(tmp_path, "train y", {}) as directory:
        directory.begin()
    with pytest.raises(ValueError, match="holds a run of `train y`"):
        check_directory(tmp_path, "train x")


def test_results_are_kept_unless_resumed_and_a_run_without_any_starts_again(tmp_path: Path):
    out = tmp_path / "out"
    with open_run(out, "train x", {"a": 1}) as directory:
        directory.log(step=1)
    check_directory(out, "train x")  # Killed before it had a result: the same command starts again.
    with open_run(out, "train x", {"a": 1}) as directory:
        assert directory.read_log() == []
        make(directory.last / "model")
    with pytest.raises(ValueError, match="already holds results"):
        check_directory(out, "train x")
    with open_run(out, "train x", {"a": 1}, resume=True) as directory:
        assert (directory.last / "model").exists()
    with pytest.raises(ValueError, match="holds no run to resume: it does not exist"):
        check_directory(tmp_path / "nowhere", "train x", resume=True)


def test_a_kill_before_the_mark_leaves_no_dead_end(tmp_path: Path):
    make(tmp_path / f".config{PARTIAL}0123abcd.json", "{")
    make(tmp_path / LOCK, json.dumps({"pid": 1, "host": "elsewhere", "since": "long ago"}))
    for resume in (False, True):
        check_directory(tmp_path, "train x", resume)
    with open_run(tmp_path, "train x", {}, resume=True) as directory:
        assert sorted(path.name for path in directory.path.iterdir()) == [LOCK, "config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_refused_run_leaves_nothing_behind(tmp_path: Path):
    out = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="too little"), open_run(out, "train x", {}) as directory:
        make(directory.path / "frames" / "dataset.json")
        raise ValueError("too little driving")
    assert list(tmp_path.iterdir()) == []
    with open_run(tmp_path / "c", "train x", {"a": 1}) as directory:
        make(directory.last / "model")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="no such"), open_run(tmp_path / "c", "train x", {"a": 2}, resume=True):
        raise ValueError("no such core")
    assert tree(tmp_path) == before
    with pytest.raises(ValueError, match="diverged"), open_run(out, "train x", {}) as directory:
        directory.begin()
        raise ValueError("the loss diverged")
    assert (out / "config.json").exists() and not (out / LOCK).exists()


def test_other_data_are_refused_on_resume(tmp_path: Path):
    with open_run(tmp_path, "train x", {}, fingerprint="one") as directory:
        make(directory.last / "model")
    before = tree(tmp_path)
    with (
        pytest.raises(ValueError, match="started with other data"),
        open_run(tmp_path, "train x", {}, True, fingerprint="two"),
    ):
        pass
    assert tree(tmp_path) == before
    with open_run(tmp_path, "train x", {}, True, fingerprint="one"):
        pass


def hold(path: Path, ready: Any) -> None:
    with locked(path):
        ready.set()
        time.sleep(60)


def test_one_writer_and_a_dead_one_is_none(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready), daemon=True)
    process.start()
    assert ready.wait(30)
    with pytest.raises(DirectoryInUse, match=rf"is being written by process {process.pid} on \S+ since"):
        with locked(tmp_path):
            pass
    make(tmp_path / "config.json", '{"verb": "train x"}')
    with pytest.raises(DirectoryInUse), open_run(tmp_path, "train x", {}):
        raise AssertionError("two write to one directory")
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "config.json"], "what the other one made stays"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path), pytest.raises(DirectoryInUse), locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_directory_set_aside_comes_back_if_its_successor_never_came(tmp_path: Path):
    make(tmp_path / f".policy{ASIDE}0123abcd" / "model", "old")
    make(tmp_path / "deep" / f".last{ASIDE}0123abcd" / "model", "old")
    make(tmp_path / "deep" / "last" / "model", "new")
    make(tmp_path / f".frames{PARTIAL}0123abcd" / f".episode{PARTIAL}77-0123abcd" / "frames.npy")
    make(tmp_path / f".results{PARTIAL}0123abcd.json")
    make(tmp_path / ".config" / "mine")
    make(tmp_path / "notes.partial-1")
    clear_leftovers(tmp_path)
    assert {name: content.decode() for name, content in tree(tmp_path).items()} == {
        "policy/model": "old",
        "deep/last/model": "new",
        ".config/mine": "x",
        "notes.partial-1": "x",
    }


def test_a_kill_while_a_directory_is_replaced_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path / "last" / "model", "old")
    moved = os.rename

    def killed(source: Any, target: Any) -> None:
        if PARTIAL in str(source):
            os._exit(9)
        moved(source, target)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "rename", killed)
        with replacing_directory(tmp_path / "last") as partial:
            make(partial / "model", "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / "last").exists()
    clear_leftovers(tmp_path)
    assert tree(tmp_path) == {"last/model": b"old"}


def save(path: Path, number: int, keep: int = 3) -> None:
    with new_checkpoint(path, keep) as place:
        make(place / "model", f"weights {number}")
        make(place / "state", f"step {number}")


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    last = tmp_path / "last"
    assert newest_whole(last) is None
    for number in range(5):
        save(last, number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "last-1", "last-2"]
    assert newest_whole(last) == last and (last / "state").read_text() == "step 4" and not caplog.text
    (last / "model").write_text("weights 9")
    assert newest_whole(last) == tmp_path / "last-1"
    assert f"{last} is damaged (model is not what was written): resuming from {tmp_path / 'last-1'}" in caplog.text
    (tmp_path / "last-1" / "state").unlink()
    assert newest_whole(last) == tmp_path / "last-2"
    save(last, 5)  # A damaged one does not take a whole one's place.
    assert [(tmp_path / name / "state").read_text() for name in ("last", "last-2")] == ["step 5", "step 2"]
    for name in ("last", "last-1", "last-2"):
        (tmp_path / name / "manifest.json").write_text("[[")
    with pytest.raises(DamagedCheckpoint, match="none before it is kept"):
        newest_whole(last)


def test_a_checkpoint_without_a_manifest_passes_and_what_others_put_there_stays(tmp_path: Path):
    make(tmp_path / "last" / "model.safetensors", "old")
    make(tmp_path / "last" / "notes.txt", "mine")
    assert damage(tmp_path / "last") == "" and newest_whole(tmp_path / "last") == tmp_path / "last"
    save(tmp_path / "last", 1, keep=1)
    save(tmp_path / "last", 2, keep=1)
    assert set(tree(tmp_path / "last")) == {"manifest.json", "model", "state", "notes.txt"}


def test_what_a_run_replaces_it_has_made(tmp_path: Path):
    out, place = tmp_path / "out", tmp_path / "place"
    make(place / "policy" / "model")
    make(out / "policy" / "model")
    with pytest.raises(ValueError, match="policy/model was not made by an earlier run there and would be lost"):
        check_made(out, ["policy"])
    record_made(out, place, ["policy"])
    check_made(out, ["policy", "film.mp4"])
    make(out / "policy" / "notes.txt")
    with pytest.raises(ValueError, match="policy/notes.txt was not made"):
        check_made(out, ["policy"])


def test_events_are_cut_back_to_a_step(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    for first in (0, 6):
        with SummaryWriter(str(tmp_path / "board" / f"from{first}")) as board:
            for step in range(first, first + 6):
                board.add_scalar("loss", 0.5 * step, step)
    (file,) = (tmp_path / "board" / "from0").iterdir()
    file.write_bytes(file.read_bytes()[:-5])  # A kill cut its last record off.
    (tmp_path / "board" / "LiquidPPO_1").mkdir()  # A kill came before its file was made.
    cut_back(tmp_path / "board", lambda tag, step: step <= 3)
    assert [path.name for path in (tmp_path / "board").iterdir()] == ["from0"]
    read = EventAccumulator(str(tmp_path / "board" / "from0")).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(step, 0.5 * step) for step in range(4)]
    cut_back(tmp_path / "nowhere", lambda tag, step: True)


def test_a_cache_is_the_users_own_or_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = private_directory("policies")
    assert place == tmp_path / "wormwheel" / "policies" and place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o777)
    assert private_directory("policies") is None
    (tmp_path / "wormwheel" / "linked").symlink_to(tmp_path)
    assert private_directory("linked") is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert private_directory("policies") is None


@pytest.mark.parametrize(
    ("module", "script", "begins"),
    [
        ("experiments.cli", "/there/experiments/cli.py", "wormwheel"),
        ("experiments.explain.ablation", "/there/ablation.py", "python -m experiments.explain.ablation"),
        ("pytest.__main__", "/there/pytest", "pytest"),
        (None, "/there/bin/wormwheel", "wormwheel"),
    ],
)
def test_the_command_runs_as_it_is_pasted(
    monkeypatch: pytest.MonkeyPatch, module: str | None, script: str, begins: str
):
    spec = None if module is None else SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", [script, "--out", "a b"])
    assert command() == f"{begins} --out 'a b'"
