"""Code that others wrote: imported by name, and whatever it raises is one line that says where in their file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.foreign_code import ForeignCodeError, foreign_code, foreign_place, is_foreign, load_object, split_object

CODE = """
from __future__ import annotations
import dataclasses, json, sys

@dataclasses.dataclass
class Config:
    size: int = 3

def key():
    return {}["weights"]

def leave():
    sys.exit(0)

def library():
    return json.loads("{")

def ours():
    from envs.actions import checked_action
    return checked_action([1.0, 2.0], 1)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.py"
    path.write_text(CODE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("key", r"reading it failed: KeyError: 'weights' \(theirs.py, line 10\)\. Mend it\."),
        ("leave", r"it ended the program: sys.exit\(0\) \(theirs.py, line 13\)"),
        ("library", r"JSONDecodeError: .*\(theirs.py, line 16\)"),
    ],
)
def test_whatever_it_raises_is_one_line_with_its_place(code: Path, name: str, words: str):
    made = load_object(f"{code}:{name}")
    with pytest.raises(ForeignCodeError, match=words) as caught, foreign_code("reading it", "Mend it."):
        made()
    assert "\n" not in str(caught.value)


def test_memory_missing_packages_and_ctrl_c_are_left_as_they_are():
    for error in (MemoryError(), ModuleNotFoundError("none"), KeyboardInterrupt()):
        with pytest.raises(type(error)), foreign_code("it"):
            raise error


def test_whose_error_it_is_is_told_by_the_innermost_code_that_nobody_installed(code: Path):
    for name, foreign in (("key", True), ("library", True), ("ours", False)):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of any kind
            load_object(f"{code}:{name}")()
        assert is_foreign(caught.value) is foreign
        assert (foreign_place(caught.value) or "").startswith("theirs.py, line ")
    with pytest.raises(ValueError, match="must be module:name") as caught:
        load_object("nothing")
    assert foreign_place(caught.value) is None


def test_a_file_is_a_module_that_its_dataclasses_find(code: Path):
    assert load_object(f"{code}:Config")().size == 3
    with pytest.raises(ValueError, match="no function 'gone'. It has: .*Config"):
        load_object(f"{code}:gone")


def test_files_that_do_not_run_and_modules_that_are_not_there(tmp_path: Path):
    for name, content in (("syntax", b"def make(:"), ("nul", b"\0"), ("bytes", b"x = '\xe9'"), ("stop", b"exit(0)")):
        (tmp_path / f"{name}.py").write_bytes(content)
        with pytest.raises(ForeignCodeError, match=f"importing .*{name}.py failed"):
            load_object(f"{tmp_path}/{name}.py:make")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_object(f"{tmp_path}/gone.py:make")
    with pytest.raises(ValueError, match="there is no module 'gone_module'"):
        load_object("gone_module.inner:make")
    (tmp_path / "needs.py").write_text("import gone_package")
    with pytest.raises(ModuleNotFoundError, match="gone_package"):
        load_object(f"{tmp_path}/needs.py:make")


def test_a_module_in_the_current_directory_is_found_whatever_started_python(tmp_path: Path):
    (tmp_path / "beside.py").write_text("make = 7\n")
    words = (
        "import sys; sys.path.remove(''); from envs.foreign_code import load_object as load; print(load('beside:make'))"
    )
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "7\n", ran.stderr


@pytest.mark.parametrize("text", ["C:", "a/b", ":make", "a:b:c", "x.py", "file.py:not a name", "..:x"])
def test_what_is_no_module_and_name(text: str):
    assert split_object(text) is None


def test_a_neighbour_of_the_same_name_is_not_taken_for_ones_own(tmp_path):
    for folder, model in (("v1", "first_model"), ("v2", "second_model")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own_gain.py").write_text(f"GAIN = {folder!r}\n")
        (tmp_path / folder / f"{model}.py").write_text("from own_gain import GAIN\n")
        (tmp_path / folder / "net.py").write_text(f"import json, {model}\nmake = lambda: {model}.GAIN\n")
    assert load_object(f"{tmp_path}/v1/net.py:make")() == "v1"
    with pytest.raises(ForeignCodeError, match=r"second_model\.py in .*v2 imports own_gain, and got .*v1.own_gain\.py"):
        load_object(f"{tmp_path}/v2/net.py:make")
    (tmp_path / "v2" / "__init__.py").touch()  # a package: `import own_gain` cannot mean the file beside it
    load_object(f"{tmp_path}/v2/net.py:make")


def test_a_file_is_run_once_until_it_changes(tmp_path):
    file = tmp_path / "once.py"
    file.write_text("def make(): return 1\n")
    first = load_object(f"{file}:make")
    assert load_object(f"{file}:make") is first
    file.write_text("def make(): return 22\n")
    assert load_object(f"{file}:make")() == 22
