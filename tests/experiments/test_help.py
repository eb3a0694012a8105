"""Help is read from source: it must say what the command line takes, and come at once."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from experiments import cli
from experiments.help import advice
from experiments.help.declared import read_options
from experiments.help.main_options import MAIN
from experiments.help.page import examples_of, help_page, main_options, plain_words
from tests.experiments.verbs import wormwheel

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [("experiments.benchmarks.env", None), ("experiments.benchmarks.cores", None)]


def by_tyro(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What tyro says about each option of a verb, by the names that it takes."""
    monkeypatch.setenv("COLUMNS", "80")  # one box below the other
    verb = cli.VERBS[name]
    kind = getattr(importlib.import_module(verb.module), verb.options)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"])
    found: dict[str, str] = {}
    names: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines():
        inside = line.strip("│|").rstrip()  # framed or not, as the terminal can
        named = re.match(r" {1,3}(-[^\s─-]?-?[^ ─-].*?)(?:  +(\S.*))?$", inside)
        if named is not None:
            names = re.findall(r"--[\w.-]+", named[1])
            found |= dict.fromkeys(names, named[2] or "")
        elif inside.startswith("     "):
            found |= {one: f"{found[one]} {inside.strip()}".strip() for one in names}
        else:
            names = []
    return {option: about for option, about in found.items() if option != "--help"}


@pytest.mark.parametrize("name", cli.VERBS)
def test_what_is_read_is_what_the_command_line_takes(name: str, monkeypatch: pytest.MonkeyPatch):
    verb = cli.VERBS[name]
    declared = read_options(verb.module, verb.options)
    taken = by_tyro(name, monkeypatch)
    assert set(declared.names()) == set(taken)
    for option in declared.options:
        assert option.about, f"{option.name} has no docstring"
        shown = re.search(r"\(default: ([^()]*)\)$", taken.get(option.name, ""))
        if shown is not None and option.default is not None:
            assert same(option.default, shown[1]), (option.name, option.default, shown[1])
        if option.name in taken:
            assert option.required is taken[option.name].endswith("(required)"), option.name


def same(one: str, other: str) -> bool:
    """Whether two texts are the same numbers or the same words."""
    if one == other:
        return True
    try:
        return [float(word) for word in one.split()] == [float(word) for word in other.split()]
    except ValueError:
        return False


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_shows_what_matters_and_help_all_the_rest(name: str, capsys: pytest.CaptureFixture[str]):
    short, long = (wormwheel(capsys, *name.split(), flag) for flag in ("--help", "--help-all"))
    assert short.code == long.code == 0
    entries = [re.findall(r"^  (--[\w.-]+|[A-Z]+)", ran.out, re.M) for ran in (short, long)]
    assert 1 <= len(entries[0]) <= 18 and set(entries[0]) <= set(entries[1])
    assert "--json" not in entries[1] or "--json" in entries[0]
    assert len(entries[1]) == len(read_options(cli.VERBS[name].module, cli.VERBS[name].options).options)
    if len(entries[1]) > len(entries[0]):
        assert f"{len(entries[1]) - len(entries[0])} more options: wormwheel {name} --help-all" in short.out
    assert short.out.count(f"wormwheel {name}") >= 2, "no example"
    for shown in (short.out, long.out):
        assert not re.search(r"\{None\}|\[\[|`|MISSING", shown)


@pytest.mark.parametrize("name", MAIN)
def test_examples_and_main_options_exist(name: str):
    verb = cli.VERBS[name]
    declared = read_options(verb.module, verb.options)
    known = {one.name.removeprefix("--") for one in declared.options}
    assert set(MAIN[name].options) <= known
    assert len(main_options(name, declared)) <= 17
    for example in examples_of(name, f"wormwheel {name}", declared):
        words = shlex.split(example)
        assert " ".join(words[1:]).startswith(name)
        options = [word for word in words if word.startswith("--")]
        assert set(options) <= set(declared.names()), example
        kind = getattr(importlib.import_module(verb.module), verb.options)
        cli.parse_options(kind, "wormwheel", words[1 + len(name.split()) :])


@pytest.mark.parametrize("width", [50, 80, 200])
def test_help_fits_the_screen(width: int):
    verb = cli.VERBS["train imitation"]
    page = help_page("wormwheel train imitation", verb.module, verb.options, False, width)
    assert max(map(len, page.splitlines()[1:])) <= max(width, 54)
    joined = page.replace(" \\\n", " ")
    assert "wormwheel train imitation --data runs/sim --out runs/ltc" in re.sub(" +", " ", joined)


@pytest.mark.parametrize("name", ["train ppo", "robustness"])
def test_help_loads_neither_torch_nor_numpy_and_is_quick(name: str):
    code = f"import sys; from experiments import cli; cli.main({[*name.split(), '--help']}); "
    code += "print(sorted({'torch', 'numpy', 'tyro', 'gymnasium'} & {*sys.modules}))"
    best = 9.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        best = min(best, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    assert shown.stdout.endswith("[]\n")
    assert best < 0.6


def test_modules_run_by_python_have_the_same_help():
    ran = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.env", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert ran.returncode == 0 and "usage: python -m experiments.benchmarks.env" in ran.stdout
    assert "--json FILE" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["recrod"], "Did you mean wormwheel record?"),
        (["trian", "imitation"], "Did you mean wormwheel train imitation"),
        (["imitation"], "Did you mean wormwheel train imitation?"),
        (["train", "imitaton"], "Did you mean wormwheel train imitation?"),
        (["record", "--farmes", "3"], "Did you mean --frames?"),
        (["record", "--lookahead-s", "3"], "Did you mean --expert.lookahead-s"),
        (["record", "--expert.lookahead_m", "3"], "--expert.lookahead-"),
        (["record", "--resum"], "Did you mean --resume or"),
        (["info", "cores", "ltcc"], "Did you mean ltc?"),
    ],
)
def test_the_nearest_word_is_offered(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, *arguments)
    assert ran.code == 2 and meant in ran.complaint


def test_what_resembles_nothing_is_not_guessed(capsys: pytest.CaptureFixture[str]):
    assert "Did you mean" not in wormwheel(capsys, "zzz").complaint
    assert "Did you mean" not in wormwheel(capsys, "record", "--zzzzz", "3").complaint


def test_docstrings_become_plain_words():
    assert (
        plain_words("Shape ``[B, T]`` of `frames`, see :class:`~envs.Road`.")
        == "Shape [B, T] of frames, see envs.Road."
    )


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        *(("stable_baselines3.common", "rl"), ("stable_baselines3", "rl"), ("tqdm", "rl"), ("torchdiffeq", "ode")),
        *(("ncps", "bench"), ("sb3_contrib", "bench"), ("mujoco", "mujoco"), ("triton", "cuda"), ("ray", "cluster")),
        *(("pyarrow.parquet", "robustness"), ("Box2D", "bench"), ("rerun", "rerun")),
        *(("sklearn.datasets", "tasks"), ("starlette", "live"), ("websockets", "live"), ("onnxruntime", "onnx")),
    ],
)
def test_a_missing_module_names_its_extra(module: str, extra: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    assert advice.install_advice(module) == f"pip install -e '.[{extra}]'"


def test_advice_runs_as_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    error = ModuleNotFoundError("No module named 'stable_baselines3'", name="stable_baselines3.common")
    monkeypatch.chdir(ROOT)
    assert cli.describe(error).endswith("pip install -e '.[rl]'")
    raised = ImportError("the table needs pyarrow: pip install 'wormwheel[robustness]'.")
    assert cli.describe(raised) == "the table needs pyarrow: pip install -e '.[robustness]'."
    monkeypatch.chdir(tmp_path)
    assert f"pip install -e '{ROOT}[robustness]'" in cli.describe(raised)
    # A wheel has no checkout beside it, and no index has the project: its extra is the packages that it names.
    monkeypatch.setattr(advice, "ROOT", tmp_path)
    assert re.fullmatch(r"pip install 'stable-baselines3>=[\d.]+' 'tqdm>=[\d.]+'", advice.install_advice("tqdm"))
    assert advice.install_advice("yaml.reader") == "pip install pyyaml"


def test_the_catalogue_of_cores_is_plain_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = wormwheel(capsys, "info", "cores")
    rows = [line.split("│")[1:3] for line in shown.out.splitlines() if line.startswith("│")]
    from policies.cores import CORES

    assert [name.strip() for name, _ in rows] == list(CORES)
    for _, about in rows:
        assert re.fullmatch(r"[A-Z][^`\[\]]+\.", about.strip()), about
    assert "substeps" not in shown.out and "wormwheel info cores ltc" in shown.out
    detail = wormwheel(capsys, "info", "cores", "ltc")
    assert detail.code == 0 and "substeps" in detail.out and "hidden_size" not in detail.out
