"""Every kind of driver in every verb: the table of docs/drivers.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.driving import kinds
from tests.experiments.verbs import wormwheel

pytest.importorskip("onnxruntime")
pytest.importorskip("stable_baselines3")
pytest.importorskip("pandas")
KINDS = (
    "our policy",
    "our policy with corrections",
    "nn.Module without memory",
    "plain function",
    "factory of our policy",
    "ONNX with state",
    "ONNX without state",
    "SB3 PPO zip",
)
OPTIONS = ("--frame", kinds.FRAME, "--trust", "--vehicle", "bicycle", "--pixels-per-m", "32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[str, str]:
    return kinds.made_once(tmp_path_factory, pytestconfig)


def test_evaluate_takes_every_kind_and_leaves_attacks_out_where_there_is_no_gradient(made, tmp_path, capsys):
    path = tmp_path / "figures.json"
    words = ["--episodes", "1", "--episode-s", "0.5", "--perturbations", "fgsm:2", "--workers", "1"]
    done = wormwheel(capsys, "evaluate", "--policy", *made.values(), *words, "--json", path, *OPTIONS)
    assert done.code == 0, done.err
    drives = json.loads(path.read_text())["figures"]["driving"]
    clean = [row["driver"] for row in drives if not row["perturbation"]]
    attacked = [row["driver"] for row in drives if row["perturbation"]]
    assert len(clean) == len(set(clean)) == len(made) == 8
    with_gradient = ("run", "net.py:net", "net.py:policy", "ppo")
    assert sorted(attacked) == sorted(name for name in clean if name in with_gradient)
    assert "net.py:function has no gradient to attack" in done.out + done.err


def test_robustness_takes_every_kind(made, tmp_path, capsys):
    words = ["--roads", "1", "--episode-s", "0.5", "--films", "0", "--workers", "1", "--out", tmp_path / "robustness"]
    done = wormwheel(
        capsys, "robustness", "--policy", *made.values(), "--perturbations", "fog:3", "fgsm:2", *words, *OPTIONS
    )
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "robustness" / "summary.json").read_text())
    assert len(json.dumps(summary)) > 0 and "left out for all drivers" in done.out + done.err
    import pandas as pd

    table = pd.read_parquet(tmp_path / "robustness" / "results.parquet")
    assert table.groupby("driver").size().eq(2).all() and table.driver.nunique() == 8


@pytest.mark.parametrize("kind", KINDS)
def test_render_takes_every_kind(made, tmp_path, kind, capsys):
    film = tmp_path / "drive.mp4"
    done = wormwheel(capsys, "render", "--policy", made[kind], "--out", film, "--seconds", "0.2", *OPTIONS)
    assert done.code == 0, done.err
    assert film.stat().st_size > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_gate_takes_every_kind_on_either_side(made, tmp_path, kind, capsys):
    words = ["--perturbations", "fog:2", "--episode-s", "0.5", "--budget", "3", "--workers", "1", "--out", tmp_path]
    asked = ("--require", "crashes <= 99", "--against", made[kind])
    done = wormwheel(capsys, "gate", "--policy", made[kind], *asked, "--films", "0", *words, *OPTIONS)
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    found = {check["name"]: check["outcome"] for check in summary["checks"]}
    assert found["as good as released"] == found["crashes <= 99"] == "passed"
    assert [row["gain"] for row in summary["responses"]] == [1.0] * 3 and summary["drives"] == 2 * 2 * 3


def test_gate_films_where_a_driver_of_others_failed(made, tmp_path, capsys):
    words = ["--perturbations", "fog:2", "--episode-s", "0.5", "--budget", "3", "--workers", "1", "--out", tmp_path]
    asked = ("--require", "duration_s >= 99", "--films", "1")
    done = wormwheel(capsys, "gate", "--policy", made["nn.Module without memory"], *asked, *words, *OPTIONS)
    assert done.code == 1, done.err
    (film,) = (tmp_path / "films").glob("*.mp4")
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert film.name in page and f"--policy {made['nn.Module without memory']}" in page and "--frame 66x200" in page


def test_a_zip_without_trust_and_a_torch_file_are_one_line(made, tmp_path, capsys):
    done = wormwheel(capsys, "evaluate", "--policy", made["SB3 PPO zip"], "--episodes", "1")
    assert done.code == 2 and "can run code" in done.err and "Traceback" not in done.err
    weights = tmp_path / "net.pt"
    weights.write_bytes(b"PK")
    done = wormwheel(capsys, "evaluate", "--policy", weights, "--episodes", "1")
    assert done.code == 2 and "PyTorch file" in done.err and "corrupt" not in done.err


def test_a_run_directory_opens_in_python_as_in_the_command(made):
    from policies.checkpoint import load_policy

    assert load_policy(made["our policy"]).config == load_policy(Path(made["our policy"]) / "policy").config


@pytest.mark.parametrize("verb", [("export", "--out", "car"), ("explain", "--out", "why"), ("info", "policy")])
@pytest.mark.parametrize("whole", [True, False])
def test_what_takes_a_policy_alone_says_which_one_belongs_to_corrections(
    made, verb, whole, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    adapted = Path(made["our policy with corrections"])
    given = adapted if whole else adapted.parent
    words = (*verb, given) if verb[0] == "info" else (verb[0], "--policy", given, *verb[1:])
    done = wormwheel(capsys, *words)
    assert done.code == 2 and f"give {adapted.parent / 'policy'}" in done.err.replace("or ", "give "), done.err
    assert "Traceback" not in done.err and not list(tmp_path.iterdir())
