"""Small commands of every verb, each done in a second or two, and what they need: a recording, a driver, a space."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.experiments.verbs import DRIVER, ROAD
from tests.reliability.zygote import Place, run_child

WORLD = ("--vehicle", "bicycle", "--variety", "0.2", "--episode-s", "1", "--workers", "1")
"""A world that is quick to drive in."""


@dataclass(frozen=True)
class Command:
    """One command line, and how it is resumed."""

    words: tuple[str, ...]
    """What follows `wormwheel`; `{data}`, `{policy}`, `{learner}` and `{space}` stand for the materials."""
    resume: tuple[str, ...] = ()
    """What is added to resume; the same command again when empty."""
    needs: tuple[str, ...] = ()
    """Packages without which it cannot run."""
    prepare: Callable[[], None] | None = None
    """Called in the process that runs it."""

    def given(self, materials: dict[str, str]) -> list[str]:
        """Return the words with the places of the materials."""
        return [word.format(**materials) if "{" in word else word for word in self.words]


def _small_demo() -> None:
    from agents.imitation.train import ImitationConfig
    from experiments.demo import verb

    training = ImitationConfig(epochs=2, batch_size=8, window=16, burn_in=4)
    verb.QUICK = dataclasses.replace(
        verb.QUICK,
        frames=240,
        episode_s=2.0,
        training=training,
        roads=1,
        road_s=1.0,
        noise_variances=(0.0, 0.1),
        film_s=0.4,
    )


PPO = ("--envs", "2", "--n-steps", "16", "--chunk", "8", "--batch-size", "16", "--n-epochs", "1")
COMMANDS: dict[str, Command] = {
    "record": Command(("record", "--out", "run", "--frames", "60", "--episode-s", "1", *ROAD), ("--resume",)),
    "train imitation": Command(
        ("train", "imitation", "--data", "{data}", "--out", "run", *DRIVER, "--json", "figures.json"), ("--resume",)
    ),
    "train ppo": Command(
        ("train", "ppo", "--core", "gru", "--core-options", "hidden_size=8", *PPO)
        + ("--vehicle", "bicycle", "--variety", "0", "--height", "24", "--width", "48", "--roads.length-m", "25", "35")
        + ("--steps", "128", "--evaluate-every", "64", "--evaluate-episodes", "1", "--evaluate-s", "1", "--no-film")
        + ("--out", "run"),
        ("--resume",),
    ),
    "robustness": Command(
        ("robustness", "--policy", "mine={policy}", "--perturbations", "gaussian:3", "fog:2", "friction:3", *WORLD)
        + ("--roads", "2", "--films", "1", "--out", "run"),
        needs=("pandas", "pyarrow"),
    ),
    "evaluate": Command(("evaluate", "--policy", "{policy}", "--episodes", "2", *WORLD, "--json", "figures.json")),
    "demo": Command(
        ("demo", "--quick", "--vehicle", "bicycle", "--out", "run", "--json", "figures.json"), prepare=_small_demo
    ),
    "data convert": Command(
        ("data", "convert", "{data}", "--out", "copy", "--to", "donkeycar", "--episodes", "0", "--to-s", "0.5")
        + ("--json", "figures.json")
    ),
    "data fix": Command(("data", "fix", "{tub}", "--out", "copy", "--json", "figures.json")),
    "data view": Command(("data", "view", "{tub}", "--out", "film.mp4", "--seconds", "0.5", "--step", "step.png")),
    "export": Command(
        ("export", "--policy", "{policy}", "--out", "car", "--numpy", "--check-frames", "20", "--json", "figures.json"),
        needs=("onnx", "onnxscript", "onnxruntime"),
    ),
    "render": Command(
        ("render", "--policy", "{policy}", "--out", "film.mp4", "--seconds", "0.5", "--preview", "film.webp")
        + ("--vehicle", "bicycle")
    ),
    "gate": Command(
        ("gate", "--policy", "{policy}", "--require", "lane_error <= 9", "--perturbations", "fog:2", *WORLD)
        + ("--films", "0", "--out", "run"),
        needs=("pandas", "pyarrow"),
    ),
    "sweep": Command(("sweep", "{space}", "--out", "run"), ("--resume",), needs=("optuna",)),
    "explain": Command(
        ("explain", "--policy", "{policy}", "--out", "run", "--seconds", "0.6", "--frames", "3", "--every", "5")
        + ("--no-silence", "--json", "figures.json")
    ),
    "gallery": Command(
        (
            "gallery",
            "--out",
            "picture.png",
            "--families",
            "noise",
            "--severities",
            "1",
            "--height",
            "24",
            "--width",
            "48",
        )
    ),
}
"""By verb."""

SPACE = """
verb = "train imitation"
trials = 2
[options]
data = ["{data}"]
core-options = ["hidden_size=8"]
height = 24
width = 48
epochs = 1
gap-s = 0.2
baseline = false
[space]
core = ["gru", "lstm"]
batch-size = {{low = 8, high = 16, step = 8}}
"""


def make_materials(root: Path) -> dict[str, str]:
    """Make what the commands need below a directory; returns the places by name."""
    from tests.experiments.verbs import write_tub

    data, tub, space = root / "data", root / "tub", root / "space.toml"
    trained = root / "trained"
    if not space.exists():
        write_tub(tub, frames=40)
        _well(["record", "--out", str(data), "--frames", "90", "--episode-s", "1.5", *ROAD], root)
        _well(["train", "imitation", "--data", str(data), "--out", str(trained), *DRIVER, "--no-baseline"], root)
        space.write_text(SPACE.format(data=data), encoding="utf-8")
    return {"data": str(data), "tub": str(tub), "policy": str(trained), "space": str(space)}


def _well(words: Sequence[str], root: Path) -> None:
    ended = run_child(words, Place(root / "making"), timeout_s=900.0)  # Kernels may have to be compiled.
    assert ended.code == 0, (ended.code, ended.signal, ended.err)
