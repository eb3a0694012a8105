"""One driver of each kind, small enough to be made on the spot; the modules serve as `file.py:factory` too."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import filelock
import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from agents.driving.adapted.driver import Correction
from agents.driving.adapted.file import write_adapted
from agents.driving.adapted.signs import MotionSign
from agents.driving.adapted.view import ViewShift
from policies.checkpoint import save_policy
from policies.export.car_driver import FORMAT
from policies.export.graph import INPUTS, OUTPUTS, DriverStep, example
from policies.export.onnx import describe
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

FRAME = "66x200"
CORRECTION = Correction(ViewShift(), 1.5, MotionSign(4.0, 2.0, 1.0), enter=0.6, leave=0.3)
HEAD = HeadConfig(channels=(4, 4), kernels=(5, 3), strides=(4, 2), features_per_channel=2)


def policy(core: str = "lstm", seed: int = 1) -> DrivingPolicy:
    """A policy of ours with a crop and a memory."""
    fit = Preprocessing(48, 96, crop_top=8, height=20, width=48)
    return DrivingPolicy.create(PolicyConfig(core=core, head=HEAD, preprocessing=fit), seed).eval()


class Net(nn.Module):
    """A network without memory: frames `[B, 3, 66, 200]` in [0, 1] → steering `[B, 1]`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 4, 7, stride=4)
        self.out = nn.Linear(4, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.out(torch.relu(self.conv(frames)).mean((2, 3))))


class Seen(gymnasium.Env[Any, Any]):
    """Spaces for a Stable-Baselines3 model."""

    observation_space = gymnasium.spaces.Box(0, 255, (48, 96, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


def steer(frame: NDArray[np.uint8]) -> float:
    """A plain function: towards the brighter half."""
    half = frame.shape[1] // 2
    left, right = float(frame[:, :half].mean()), float(frame[:, half:].mean())
    return (left - right) / (left + right + 1.0)


MODULE = """
import torch
from policies.checkpoint import load_policy
from tests.agents.driving.kinds import Net, steer

HERE = {here!r}


def net():
    return Net()


def function():
    return steer


def policy():
    return load_policy(HERE + "/run")


def text():
    return "nothing that drives"


def needs(argument):
    return argument
"""


def made_once(factory: pytest.TempPathFactory, config: pytest.Config) -> dict[str, str]:
    """Return what `make_all` does, made once for all test processes: exporting takes seconds."""
    place = factory.getbasetemp()
    if hasattr(config, "workerinput"):
        place = place.parent
    with filelock.FileLock(place / "kinds.lock"):
        told = place / "kinds.json"
        if not told.exists():
            told.write_text(json.dumps(make_all(place / "kinds")), encoding="utf-8")
        made: dict[str, str] = json.loads(told.read_text(encoding="utf-8"))
        return made


def make_all(place: Path) -> dict[str, str]:
    """Make one of each kind that packages here allow; sources by kind."""
    run = place / "run"
    save_policy(policy(), run / "policy")
    save_policy(policy(), place / "adapted" / "policy")
    code = place / "net.py"
    code.write_text(MODULE.format(here=str(place)), encoding="utf-8")
    made = {
        "our policy": str(run),
        "our policy with corrections": str(write_adapted(place / "adapted", [CORRECTION])),
        "nn.Module without memory": f"{code}:net",
        "plain function": f"{code}:function",
        "factory of our policy": f"{code}:policy",
    }
    try:
        import onnxruntime  # noqa: F401

        made["ONNX with state"] = str(export_policy(policy(), place / "policy.onnx"))
        net = place / "net.onnx"
        _export(Net().eval(), (torch.zeros(1, 3, 66, 200),), net, ["image"], ["angle"])
        made["ONNX without state"] = str(net)
    except ModuleNotFoundError:
        pass
    try:
        from stable_baselines3 import PPO

        model = PPO("CnnPolicy", Seen(), n_steps=8, batch_size=8, seed=0)
        model.save(place / "ppo.zip")
        made["SB3 PPO zip"] = str(place / "ppo.zip")
    except ModuleNotFoundError:
        pass
    return made


def export_policy(policy: DrivingPolicy, path: Path) -> Path:
    """Write a policy's step as ONNX with the metadata of `wormwheel export`."""
    import onnx

    _export(DriverStep(policy), example(policy), path, [*INPUTS], [*OUTPUTS])
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {FORMAT: json.dumps(describe(policy))})
    onnx.save(model, path)
    return path


def _export(module: nn.Module, example: Any, path: Path, inputs: list[str], outputs: list[str]) -> None:
    """Export by torch's older exporter, which takes a tenth of the time of the new one; it says that it is older."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, example, path, input_names=inputs, output_names=outputs, dynamo=False)
