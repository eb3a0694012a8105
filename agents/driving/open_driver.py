"""Any driver by what it lies in: a run or policy directory, ONNX, a zip of Stable-Baselines3, a factory in a module.

    driver = open_driver("runs/mine")
    driver = open_driver("net.py:make", DriverOptions(frame="66x200", range="-1..1"))
    driver = open_driver("driver.onnx")
    driver = open_driver("ppo.zip", DriverOptions(trust=True))

A factory takes no arguments and returns a `Driver`, a `DrivingPolicy`, an `nn.Module` or a function of one frame.
"""

from __future__ import annotations

import importlib
import inspect
import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agents.driving.adapted.driver import AdaptedDriver
from agents.driving.adapted.file import read_adapted
from agents.driving.driver import OpenedDriver, PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.foreign import (
    FunctionDriver,
    ModuleDriver,
    ObjectDriver,
    SteeringScale,
)
from agents.driving.frame_format import FrameFormat, fit_preprocessing
from agents.driving.onnx_driver import OnnxDriver
from agents.driving.sb3_driver import Sb3Driver, is_sb3_model
from agents.runs.reading import MOST_BYTES, check_regular, one_line, parse_json
from envs.foreign_code import ForeignCodeError, foreign_code, load_object, split_object
from policies.checkpoint import ADAPTED, load_policy
from policies.policy import DrivingPolicy
from policies.preprocessing import Preprocessing

HOW = (
    "A driver is a run or policy directory, an .onnx file, a .zip of Stable-Baselines3 (with --trust), or "
    "file.py:factory or module:factory."
)
"""What every error of this module ends with, where the source is none of them."""
_SB3_KINDS = {
    "stable_baselines3.common.policies": ("stable_baselines3", "PPO"),
    "stable_baselines3.ppo.policies": ("stable_baselines3", "PPO"),
    "stable_baselines3.a2c.policies": ("stable_baselines3", "A2C"),
    "stable_baselines3.sac.policies": ("stable_baselines3", "SAC"),
    "stable_baselines3.td3.policies": ("stable_baselines3", "TD3"),
    "sb3_contrib.common.recurrent.policies": ("sb3_contrib", "RecurrentPPO"),
    "sb3_contrib.ppo_recurrent.policies": ("sb3_contrib", "RecurrentPPO"),
    "sb3_contrib.tqc.policies": ("sb3_contrib", "TQC"),
}
"""Package and algorithm by the module of the policy's class, which a zip names."""


def open_driver(
    source: str | os.PathLike[str] | DriverSpec,
    options: DriverOptions | None = None,
    camera: tuple[int, int] | None = None,
) -> OpenedDriver:
    """Open a driver.

    Args:
        source: what it lies in; see above. A `DriverSpec` brings its options.
        options: what the driver cannot say of itself; the defaults when None.
        camera: rows and columns of the frames that it will be shown, where they are given; it is asked for frames of
            its own size when None.

    Returns:
        The driver; `frame_size` says which frames it takes.

    Raises:
        ValueError: if there is no driver, or it cannot take such frames.
        OSError: if a file is not there.
        ImportError: if a module cannot be imported or a package is missing.
    """
    spec = source if isinstance(source, DriverSpec) else DriverSpec(os.fspath(source), options or DriverOptions())
    text, options = spec.source, spec.options.resolved()
    factory = split_object(text)
    if factory is not None:
        return wrap_driver(_call(text), options, camera, text)
    path = Path(text)
    if path.name == ADAPTED and path.is_file():
        place, corrections = read_adapted(path)
        policy = load_policy(place, trust=options.trust)
        return AdaptedDriver(policy_driver(policy, options, camera, text), corrections)
    if path.is_dir():
        return policy_driver(load_policy(path, trust=options.trust), options, camera, text)
    if not path.exists():
        raise FileNotFoundError(f"there is no driver {text}. {HOW}")
    if path.suffix == ".onnx":
        return OnnxDriver(path, options, camera)
    if path.suffix == ".zip" and zipfile.is_zipfile(path):
        return Sb3Driver(_load_sb3(path, options), options, text)
    raise ValueError(describe_file(path))


def wrap_driver(
    made: Any, options: DriverOptions | None = None, camera: tuple[int, int] | None = None, name: str = "this driver"
) -> OpenedDriver:
    """Make a driver of an object: a `Driver`, a policy, an `nn.Module`, or a function of one frame.

    Args:
        made: the object.
        options: what it cannot say.
        camera: as `open_driver` has it.
        name: for errors.

    Raises:
        ValueError: if it is none of them.
    """
    options = (options or DriverOptions()).resolved()
    if type(made) is PolicyDriver:
        return policy_driver(made.policy, options, camera, name, made.preprocessing, made.steering_gain)
    if isinstance(made, DrivingPolicy):
        return policy_driver(made, options, camera, name)
    height, width = options.frame_size or (None, None)
    frame_format = FrameFormat(
        height, width, options.layout or "HWC", options.range or "0..255", options.colour or "rgb"
    ).with_crops(options.crops)
    integer = replace(frame_format, integer=frame_format.range == "0..255")
    scale, period_s = SteeringScale.of(options), options.driver_period_s
    if isinstance(made, type):
        raise ForeignCodeError(
            f"{name} made the class {made.__name__}, not an object of it: return {made.__name__}(…)."
        )
    if is_sb3_model(made):
        return Sb3Driver(made, options, name)
    if callable(getattr(made, "act", None)):
        return ObjectDriver(made, integer, scale, period_s, name)
    if isinstance(made, torch.nn.Module):
        tensors = replace(frame_format, layout=options.layout or "CHW", range=options.range or "0..1")
        return ModuleDriver(made, tensors, scale, period_s, name)
    if callable(made):
        return FunctionDriver(made, integer, scale, period_s, name)
    raise ForeignCodeError(
        f"{name} made a {type(made).__name__}: it must be a Driver with act(frames, elapsed, starts, envs), an "
        "nn.Module, a DrivingPolicy, a model of Stable-Baselines3, or a function of one frame."
    )


def policy_driver(
    policy: DrivingPolicy,
    options: DriverOptions,
    camera: tuple[int, int] | None = None,
    name: str = "this policy",
    preprocessing: Preprocessing | None = None,
    steering_gain: float = 1.0,
) -> PolicyDriver:
    """Put a policy of ours at the wheel.

    Args:
        policy: who drives.
        options: as `wrap_driver` has it.
        camera: as `open_driver` has it.
        name: for errors.
        preprocessing: crop and resize where the options give none; the policy's own when None.
        steering_gain: what the steering is multiplied with besides the gain of the options.

    Raises:
        ValueError: if the camera's frames are not of the policy's size and no crop says how to fit them.
    """
    fit = preprocessing or policy.config.preprocessing
    if camera is not None:
        fit = fit_preprocessing(fit, name, camera, options.crops)
    elif options.crops is not None:
        fit = replace(fit, **options.crops)
    # Side and unit of its steering it says itself, whatever the options say of the drivers of others beside it.
    return PolicyDriver(policy, fit, steering_gain * (options.steering_gain or 1.0))


def _call(text: str) -> Any:
    """Make what a factory makes.

    Raises:
        ValueError: if it needs arguments, or fails.
    """
    factory = load_object(text)
    if isinstance(factory, torch.nn.Module) or not callable(factory):
        return factory
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ForeignCodeError(
            f"{text} must be a factory without arguments that returns the driver, and calling it failed: {error}. "
            "Where it is the function that steers, wrap it: def make(): return that_function."
        ) from error
    except ValueError:
        pass  # Python does not know its signature.
    with foreign_code(text, "It must be a factory without arguments that returns the driver."):
        return factory()


def describe_file(path: Path) -> str:
    """Say what a file is that is no driver by itself, and how it becomes one; one line."""
    check_regular(path)
    with path.open("rb") as file:
        begin = file.read(8)
    if path.suffix == ".py":
        return f"{path} is Python code: name the factory in it that returns the driver, such as {path}:make."
    if path.suffix in (".pt", ".pt2", ".pth", ".ckpt", ".bin") or _is_torch(path):
        if (load := _whole_module(path)) is not None:
            return (
                f"{path} is a PyTorch file with a whole module: give a factory that loads it, --policy file.py:make, "
                f"with def make(): return {load}."
            )
        return (
            f"{path} is a PyTorch file, which holds weights or a pickle and not how to use them: write a factory that "
            f"loads it and returns the nn.Module, and give --policy file.py:factory."
        )
    if path.suffix == ".safetensors":
        return (
            f"{path} holds weights alone. Give the directory of a Wormwheel policy, {path.parent}, if it is one; else "
            "a factory that builds the module and loads them: --policy file.py:factory."
        )
    if path.suffix in (".h5", ".keras", ".tflite") or begin.startswith(b"\x89HDF"):
        return f"{path} is a Keras or TensorFlow file: convert it to ONNX (tf2onnx), or give --policy file.py:factory."
    if path.suffix == ".zip":
        return f"{path} is corrupt: it ends in .zip and is no zip file. {HOW}"
    if path.suffix == ".json" and path.name == "config.json":
        return f"{path} belongs to a policy directory: give that, {path.parent}."
    return f"{path} is no driver that Wormwheel can open. {HOW}"


def _whole_module(path: Path) -> str | None:
    """Return the call that loads a file of TorchScript or of torch.export; None for any other file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return f'torch.jit.load("{path.resolve()}")'
    if path.suffix == ".pt2" or any("/models/" in name and name.endswith(".json") for name in names):
        return f'torch.export.load("{path.resolve()}").module()'
    return None


def _is_torch(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/data.pkl") for name in file.namelist())


def _load_sb3(path: Path, options: DriverOptions) -> Any:
    """Load a zip of Stable-Baselines3 or sb3-contrib."""
    with zipfile.ZipFile(path) as file:
        names = set(file.namelist())
        if "data" not in names or not names & {"policy.pth", "pytorch_variables.pth"}:
            if _is_torch(path):
                raise ValueError(describe_file(path))
            raise ValueError(f"{path} is a zip that Stable-Baselines3 has not written (no data and policy.pth). {HOW}")
        try:
            if file.getinfo("data").file_size > MOST_BYTES:
                raise ValueError("its description is too long")
            described = parse_json(file.read("data"), path)
            module = str(described["policy_class"]["__module__"])
        except (
            ValueError,
            KeyError,
            TypeError,
            zlib.error,
            EOFError,
            NotImplementedError,  # zipfile's, for a compression or an encryption that it does not know
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(f"{path} is corrupt: its description cannot be read ({one_line(error)}).") from error
    if not options.trust:
        raise ValueError(
            f"{path} is a Stable-Baselines3 zip, which holds pickles: loading it can run code that somebody put there. "
            "If you trust where it comes from, give --trust."
        )
    if module not in _SB3_KINDS:
        raise ValueError(
            f"{path} holds a policy of {module}, which is not known here: load it in a factory of your own, --policy "
            "file.py:factory, and return the Driver."
        )
    package, algorithm = _SB3_KINDS[module]
    try:
        loader = getattr(importlib.import_module(package), algorithm)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} needs {package}: pip install {package}.", name=None) from error
    with foreign_code(f"loading {path} by {package}", "The file may be damaged, or of another version: copy it again."):
        return loader.load(path, device="cpu")
