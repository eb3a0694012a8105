"""Compiled code on disk: where it lies, who may have written it, and what becomes of a damaged one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from policies.kernels import jit

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """No place to keep anything; returns a path that cannot be made."""
    (tmp_path / "file").write_text("not a folder")
    blocked = str(tmp_path / "file" / "below")
    monkeypatch.setattr(jit._config, "CACHE_DIR", "")
    monkeypatch.setattr(jit, "_beside", lambda: Path(blocked))
    monkeypatch.setenv("XDG_CACHE_HOME", blocked)
    monkeypatch.setattr(jit.tempfile, "gettempdir", lambda: blocked)
    return blocked


def test_compiled_code_is_kept_where_it_can_be_written(nowhere, monkeypatch, tmp_path: Path, caplog) -> None:
    assert jit.cache_folder() is None and "every process compiles them again" in caplog.text
    monkeypatch.setattr(jit.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    assert jit.cache_folder().parent.parent == tmp_path / "temporary"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert jit.cache_folder().parent == tmp_path / "user" / "wormwheel"
    monkeypatch.setattr(jit, "_beside", lambda: tmp_path / "beside")
    assert jit.cache_folder().parent == tmp_path / "beside"
    monkeypatch.setattr(jit._config, "CACHE_DIR", str(tmp_path / "numba"))
    folder = jit.cache_folder()
    assert folder.parent == tmp_path / "numba" and folder.stat().st_mode & 0o777 == 0o700


def test_without_a_place_the_code_is_compiled_in_memory(monkeypatch) -> None:
    monkeypatch.setattr(jit, "_FOLDER", None)
    assert jit.compiled(lambda x: x + 1)(1) == 2


@pytest.mark.parametrize("how", ["writable", "link", "owner", "writable place", "owner of the place"])
def test_a_folder_that_another_may_have_filled_is_not_used(how: str, nowhere, monkeypatch, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "wormwheel"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = jit.cache_folder()
    assert folder is not None and folder.parent == place
    if how == "writable":
        folder.chmod(0o777)
    elif how == "writable place":
        place.chmod(0o777)
    elif how == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        if os.getuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(folder if how == "owner" else place, 12345, -1)
    assert jit.cache_folder() is None


def test_a_folder_that_others_may_read_becomes_the_users_own(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jit._config, "CACHE_DIR", str(tmp_path))
    folder = jit.cache_folder()
    folder.chmod(0o755)
    assert jit.cache_folder() == folder and folder.stat().st_mode & 0o777 == 0o700


def test_changed_kernels_get_another_folder(monkeypatch, tmp_path: Path) -> None:
    before = jit.cache_folder()
    here = Path(jit.__file__).parent
    shutil.copytree(here, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))
    assert jit.cache_folder().name == before.name
    (tmp_path / "ltc" / "cpu" / "forward.py").write_text("# another")
    assert jit.cache_folder().name != before.name


def test_the_same_kernels_elsewhere_find_the_code_and_others_do_not(monkeypatch, tmp_path: Path) -> None:
    """A second checkout, an installed wheel: other paths and other times, but the same contents."""
    monkeypatch.setattr(jit, "_FOLDER", tmp_path / "code")
    hits = []
    for place, body, age_s in (("one", "x + 1", 0), ("two", "x + 1", 100), ("three", "x + 2", 0)):
        file = tmp_path / place / "kernel.py"
        file.parent.mkdir()
        file.write_text(f"def kernel(x):\n    return {body}\n")
        os.utime(file, (1_600_000_000 - age_s,) * 2)
        found: dict = {}
        exec(compile(file.read_text(), str(file), "exec"), found)
        kernel = jit.compiled(found["kernel"])
        assert kernel(1) == (3 if place == "three" else 2)
        hits.append(sum(kernel.stats.cache_hits.values()))
    assert hits == [0, 1, 0]


def test_no_home_is_no_matter(nowhere, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    assert jit.cache_folder() is None and not (tmp_path / "gone").exists()

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(jit.Path, "home", homeless)
    assert jit.cache_folder() is None


def twice(x):
    return 2 * x


@pytest.mark.parametrize("suffix", ["nbc", "nbi"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "emptied", "another pickle"])
def test_damaged_code_is_compiled_again(suffix: str, damage: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jit, "_FOLDER", tmp_path)
    assert jit.compiled(twice)(21) == 42
    (path,) = tmp_path.rglob(f"*.{suffix}")
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 255
    content = {
        "truncated": whole[: len(whole) // 2],
        "altered": bytes(altered),
        "emptied": b"",
        "another pickle": b"cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.",
    }[damage]
    path.write_bytes(content)
    again = jit.compiled(twice)
    assert again(21) == 42 and not (tmp_path / "ran").exists()
    assert again.stats.cache_misses and not again.stats.cache_hits
    third = jit.compiled(twice)
    assert third(21) == 42 and third.stats.cache_hits  # it was written whole again


def test_a_full_disk_ends_the_keeping_not_the_work(monkeypatch, tmp_path: Path, caplog) -> None:
    monkeypatch.setattr(jit, "_FOLDER", tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit._CheckedFile, "_write", full)
    assert jit.compiled(twice)(21) == 42
    assert "cannot be kept" in caplog.text


def test_with_jit_switched_off_the_reference_runs() -> None:
    code = (
        "import torch, logging; logging.basicConfig(level=logging.INFO)\n"
        "from policies.cores import make_core\n"
        "for name in ('ltc', 'ctrnn'):\n"
        "    outputs, _ = make_core(name, 3, 1)(torch.zeros(2, 4, 3))\n"
        "    assert outputs.shape == (2, 4, 1)\n"
        "    try: make_core(name, 3, 1, {'kernel': 'cpu'})(torch.zeros(2, 4, 3))\n"
        "    except ModuleNotFoundError as error: assert 'NUMBA_DISABLE_JIT' in str(error), error\n"
        "    else: raise SystemExit('no error')\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NUMBA_DISABLE_JIT" in done.stderr  # the choice is logged with its reason


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_compiles_what_its_parent_has_not(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jit, "_FOLDER", tmp_path)
    function = jit.compiled(twice)
    child = os.fork()
    if child == 0:
        os._exit(0 if function(21) == 42 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert function(21) == 42 and function.stats.cache_hits, "the parent finds what its child has stored"


@pytest.mark.thorough
def test_two_processes_do_not_compile_the_same_function(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(
        "from policies.kernels.jit import compiled\n"
        "def f(x):\n"
        + "".join(f"    for i{k} in range(3):\n        x = x * x + i{k} / (1 + abs(x))\n" for k in range(10))
        + "    return x\n"
        "f = compiled(f)\n"
        "f(1.0)\n"
        "print(sum(f.stats.cache_hits.values()), sum(f.stats.cache_misses.values()))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    (tmp_path / "cache").mkdir(mode=0o700)
    command = [sys.executable, str(tmp_path / "kernel.py")]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate()[0].split() for process in running) == [["0", "1"], ["1", "0"]]
