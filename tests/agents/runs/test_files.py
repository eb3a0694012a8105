"""Nothing that exists is lost, whatever goes wrong while something is written."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.runs.files import (
    WriteError,
    make_directory,
    replacing,
    replacing_directory,
    write_bytes,
    write_json,
    write_text,
)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: a true failure of the write call, as a full disk gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    target = tmp_path / "new" / "results.json"
    write_json(target, {"crashes": 1})
    write_json(target, {"crashes": 0, "road": "Åbo"})
    assert json.loads(target.read_text(encoding="utf-8")) == {"crashes": 0, "road": "Åbo"}
    assert names(target.parent) == ["results.json"]


def test_the_mode_of_a_replaced_file_and_the_usual_mode_of_a_new_one_are_kept(tmp_path):
    target, plain = tmp_path / "a.txt", tmp_path / "b.txt"
    target.write_text("old")
    target.chmod(0o600)
    write_text(target, "new")
    assert target.stat().st_mode & 0o777 == 0o600
    plain.write_text("made by open()")
    write_text(tmp_path / "c.txt", "made by us")
    assert (tmp_path / "c.txt").stat().st_mode == plain.stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_the_old_file_survives_a_failing_write(tmp_path):
    target = tmp_path / "results.json"
    target.write_text("old")
    with largest_file(1000), pytest.raises(WriteError, match=r"^cannot write .*results.json: .*kept\.$") as caught:
        write_bytes(target, bytes(5000))
    assert caught.value.errno == errno.EFBIG
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["results.json"]


def test_a_full_device_is_named_as_such():
    with pytest.raises(WriteError, match="the disk is full"):
        write_bytes("/dev/full", b"x")
    assert Path("/dev/full").is_char_device()


def test_the_old_file_survives_an_exception_in_the_block(tmp_path):
    target = tmp_path / "drive.mp4"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as partial:
        assert partial.suffix == ".mp4"
        partial.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert names(tmp_path) == ["drive.mp4"]


def test_content_without_json_form_leaves_the_old_file(tmp_path):
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(TypeError):
        write_json(target, {"a": object()})
    assert target.read_text() == "old"


@pytest.mark.parametrize("write", [lambda path: write_text(path, "x"), make_directory])
def test_a_file_where_a_directory_is_needed_is_a_clear_error(tmp_path, write):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(WriteError, match="file"):
        write(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_directory_where_a_file_is_needed_is_a_clear_error(tmp_path):
    with pytest.raises(WriteError, match="is a directory"):
        write_text(tmp_path, "x")


def test_a_file_without_write_permission_is_not_replaced(tmp_path, monkeypatch):
    target = tmp_path / "results.json"
    target.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # Root may write everywhere, so permission is feigned.
    with pytest.raises(WriteError, match="no permission"):
        write_text(target, "new")
    assert target.read_text() == "old"


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "policy"
    for content in ("first", "second"):
        with replacing_directory(target) as partial:
            (partial / content).write_text(content)
    assert names(target) == ["second"]
    assert names(tmp_path) == ["policy"]


def test_the_old_directory_survives_a_failing_write(tmp_path):
    target = tmp_path / "policy"
    target.mkdir()
    (target / "model").write_text("old")
    with largest_file(1000), pytest.raises(WriteError), replacing_directory(target) as partial:
        (partial / "model").write_bytes(bytes(5000))
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["policy"]


def test_the_old_directory_comes_back_when_the_move_fails(tmp_path, monkeypatch):
    target = tmp_path / "policy"
    target.mkdir()
    (target / "model").write_text("old")
    rename = os.rename

    def failing(source, destination):
        if Path(destination) == target and not (Path(source) / "model").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, destination)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(WriteError, match="disk is full"), replacing_directory(target) as partial:
        (partial / "other").write_text("new")
    assert (target / "model").read_text() == "old"
    assert names(tmp_path) == ["policy"]


def test_make_directory_makes_parents_and_leaves_no_trace(tmp_path):
    assert names(make_directory(tmp_path / "a" / "b")) == []
