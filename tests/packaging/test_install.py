"""What `install.py` asks of uv: that it looks where pip was told to look, and takes no CUDA where no GPU shows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "install.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_uv_looks_where_pip_looks(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "kept")
    settings = (
        ":env:.find-links='/env/wheels'\n"
        "global.cert='/certs.pem'\n"
        "global.constraint='/caps.txt'\n"
        "global.extra-index-url='https://a/simple file:///b/simple'\n"
        "global.find-links='/global/wheels'\n"
        "global.index-url='https://global/simple'\n"
        "global.timeout='60'\n"
        "install.index-url='https://install/simple'\n"
        "install.no-index='false'\n"
        "download.index-url='https://download/simple'\n"
    )
    options = install.as_in_pip(settings)
    pairs = list(zip(options[::2], options[1::2], strict=True))
    assert pairs == [
        ("--index-strategy", "unsafe-best-match"),
        ("--default-index", "https://install/simple"),
        ("--index", "https://a/simple"),
        ("--index", "file:///b/simple"),
        ("--find-links", "/env/wheels"),
        ("--constraint", "/caps.txt"),
    ]


def test_without_an_index_none_is_asked(install: ModuleType) -> None:
    assert install.as_in_pip("global.no-index='true'\n")[-1] == "--no-index"
    assert "--no-index" not in install.as_in_pip("")


def test_certificates_are_those_of_pip(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")
    install.as_in_pip("global.cert='/certs.pem'\n")
    assert install.os.environ["SSL_CERT_FILE"] == "/certs.pem"


@pytest.mark.parametrize(
    ("found", "taken"),
    [(" + torch==1.2.3\n", True), (" + torch==1.2.3+cpu\n", False), ("Would make no changes\n", False)],
)
def test_cuda_is_not_brought_where_no_gpu_shows(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, found: str, taken: bool
) -> None:
    """Torch's default build is replaced before anything is installed; a CPU build, or what is there, stays."""
    ran: list[tuple[str, ...]] = []
    done = subprocess.CompletedProcess([], 0, stdout="", stderr=found)
    monkeypatch.setattr(install.subprocess, "run", lambda command, **_: ran.append(tuple(command)) or done)
    install.avoid_cuda(["--find-links", "/wheels"])
    assert "--dry-run" in ran[0] and "/wheels" in ran[0]
    assert [command[-3:-1] for command in ran[1:]] == ([("--torch-backend", "cpu")] if taken else [])


def test_pip_takes_over_aloud(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "run", lambda *arguments: ran.append(arguments) or int("uv" in arguments))
    with pytest.raises(SystemExit) as end:
        install.main("dev")
    assert end.value.code == 0
    assert ran[-1][:3] == ("-m", "pip", "install") and ran[-1][-1] == ".[dev]"
    assert "pip takes its place" in capsys.readouterr().out


def test_a_word_that_is_no_purpose_is_refused() -> None:
    done = subprocess.run([sys.executable, "install.py", "all"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "demo|dev|WHEEL, got all" in done.stderr
