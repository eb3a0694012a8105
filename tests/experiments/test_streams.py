"""Printing never fails, and what a verb measured is written whatever becomes of the screen."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli
from experiments.console import table
from experiments.streams import SPELLED, LastingStream, lasting_streams, spell

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys
from pathlib import Path
from experiments import cli
from experiments.console import table, write_results
def work():
    table("errors ± 2², 3 × 4 − 1", ["R²"], [["0.5 −"], ["…"]])
    print("−²")
    sys.stdout.flush()
    write_results(Path(sys.argv[1]), "test", {}, {"figure": 1})
    return 0
sys.exit(cli.guarded("test", work))
"""


def run(results: Path, encoding: str = "utf-8", **streams: object) -> subprocess.CompletedProcess[bytes]:
    """Run a verb that prints what ASCII lacks and then writes its results."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-c", CODE, str(results)], cwd=ROOT, env=environment, **settings)  # type: ignore[call-overload]


def test_results_are_whole_though_the_screen_can_show_ascii_only(tmp_path: Path):
    ran = run(tmp_path / "r.json", "ascii")
    assert ran.returncode == 0, ran.stderr
    shown = ran.stdout.decode("ascii")
    assert "0.5" in shown and "-^2" in shown
    assert json.loads((tmp_path / "r.json").read_text())["figures"] == {"figure": 1}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def test_results_are_whole_whatever_the_screen_can_show(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding))
    monkeypatch.setattr(sys, "argv", ["test", str(tmp_path / "r.json")])
    with pytest.raises(SystemExit) as ended:
        exec(CODE, {})
    assert ended.value.code == 0
    sys.stdout.flush()
    shown = screen.getvalue().decode(encoding)
    assert "0.5" in shown
    assert ("-^2" if encoding == "ascii" else "²") in shown
    assert json.loads((tmp_path / "r.json").read_text())["figures"] == {"figure": 1}


def test_a_pipe_that_nobody_reads_loses_nothing(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        ran = run(tmp_path / "r.json", stdout=closed)
    assert ran.returncode == cli.PIPE_CLOSED and b"Traceback" not in ran.stderr and b"Broken" not in ran.stderr
    assert (tmp_path / "r.json").is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full on this system")
def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path):
    with open("/dev/full", "w") as full:
        ran = run(tmp_path / "r.json", stdout=full)
    assert ran.returncode == 2
    (line,) = [line for line in ran.stderr.decode().splitlines() if line.startswith("test: ")]
    assert "could not be written" in line and "No space left" in line
    assert (tmp_path / "r.json").is_file()


@pytest.mark.parametrize("descriptors", [(1,), (2,), (1, 2)])
def test_streams_that_were_closed_before_the_start(descriptors: tuple[int, ...], tmp_path: Path):
    closing = " ".join(f"{one}>&-" for one in descriptors)
    command = f'exec "$0" -c "$1" "$2" {closing}'
    subprocess.run(["sh", "-c", command, sys.executable, CODE, str(tmp_path / "r.json")], cwd=ROOT, capture_output=True)
    assert (tmp_path / "r.json").is_file()


def test_what_has_no_spelling_becomes_a_question_mark():
    assert spell("R² = 0.5 ± 0.1 字", "ascii") == "R^2 = 0.5 +- 0.1 ?"
    assert spell("±²−", "latin-1") == "±²-"
    for spelt in SPELLED.values():
        spelt.encode("ascii")


def test_the_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), lasting_streams():
        assert isinstance(sys.stdout, LastingStream)
        raise ZeroDivisionError
    assert (sys.stdout, sys.stderr) == before


def test_a_failure_is_kept_and_the_rest_is_dropped():
    stream = LastingStream(io.StringIO())
    stream.write("a")
    stream._stream.close()
    assert stream.write("bcd") == 3 and isinstance(stream.failure, ValueError)
    first = stream.failure
    stream.write("e")
    assert stream.failure is first and not stream.isatty()


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_tables_are_as_wide_as_columns_says(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [["a long name of a driver", "0.123 [0.1, 0.2]", "12,345"], ["b", "0.9", "1"]]
    table("", ["driver", "lane error under shift", "frames"], rows)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    for cell in ("12,345", "0.9"):  # figures are never broken
        assert cell in shown
    assert ("┃" in shown) is (columns >= 60)


def test_no_width_cuts_a_table_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    heads = ["driver", "crashes", "km", "crashes per km [95 %]", "offset, % of lane [95 %]"]
    rows = [["expert (knows the road)", "0 of 4", "0.09", "0.00 (below 32.84)", "0.7 [0.5, 1.1]"]]
    rows.append(["noise 0.2", "2 of 4", "0.06", "35.50 [4.30, 128.25]", "26.6 [17.3, 54.0]"])
    for columns in range(60, 131):
        monkeypatch.setenv("COLUMNS", str(columns))
        table("", heads, rows)
        shown = capsys.readouterr().out
        assert all(cell in shown for row in rows for cell in row[1:]), columns
        assert max(map(len, shown.splitlines())) <= columns and ("┓" in shown) is ("┏" in shown), columns
    assert "│ expert (knows the road) │" in shown


def test_a_pipe_without_columns_gets_eighty(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.delenv("COLUMNS", raising=False)
    table("", ["text"], [["word " * 60]], left=1)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
