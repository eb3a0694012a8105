"""A policy on disk: a directory of `config.json`, `model.safetensors` and `README.md` (the model card).

    save_policy(policy, "runs/mine/policy", notes={"data": "…"})
    policy = load_policy("runs/mine/policy")

Nothing that is loaded can run code. Each file is written beside its place and moved there, weights last. The weights
file carries the config that it was saved with and a digest of its numbers, and `config.json` names that digest: after a
kill between the two, the earlier policy loads whole, whatever was being saved over it; altered weights are refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from policies.car import CarInfo
from policies.cores import import_core, is_known
from policies.policy import DrivingPolicy, PolicyConfig

FORMAT = "wormwheel-policy"
FORMAT_VERSION = 1
ADAPTED = "adapted.json"
"""Beside the `policy` of a run: what makes a driver for several worlds of it, which no policy alone is."""
LARGEST_CONFIG = 64 * 2**20
"""Most bytes of a `config.json`: a wiring of a million synapses, and room for notes."""

LARGEST_WEIGHTS = 2**30
"""Most bytes of a `model.safetensors`; head and core together may have a sixth of that."""

_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A policy directory that cannot be read: missing, corrupt, foreign or from a newer version."""


def save_policy(policy: DrivingPolicy, directory: str | Path, notes: Mapping[str, Any] | None = None) -> Path:
    """Write a policy directory, replacing the files of an earlier one.

    Args:
        policy: what to save.
        directory: where; made if needed.
        notes: JSON values to keep with the policy (training data, metrics, command); shown in the model card.

    Returns:
        The directory.

    Raises:
        OSError: if the directory cannot be written; an earlier checkpoint there still loads.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "weights_sha256": _digest(tensors),
        "policy": policy.config.to_json(),
        "notes": dict(notes or {}),
    }
    # One key alone: safetensors writes several in no fixed order, and equal policies should be equal files.
    weights = safetensors.torch.save(tensors, {"config": json.dumps(config)})
    _replace(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    _replace(directory / "README.md", _model_card(policy, dict(notes or {})).encode())
    _replace(directory / "model.safetensors", weights)
    return directory


def read_config(directory: str | Path) -> dict[str, Any]:
    """Read and check `config.json` of a policy directory.

    Returns:
        The JSON object: `format`, `format_version`, `policy`, `notes`.

    Raises:
        CheckpointError: if there is no policy, it is corrupt, foreign, or newer than this program.
    """
    path = Path(directory) / "config.json"
    try:
        if not path.is_file():
            there = Path(directory)
            wrong = (
                "it has no config.json" if there.is_dir() else "it is a file" if there.exists() else "nothing is there"
            )
            raise CheckpointError(
                f"{directory} is not a policy directory: {wrong}. Give the directory that training wrote, such as "
                "runs/NAME or runs/NAME/policy."
            )
        if path.stat().st_size > LARGEST_CONFIG:
            raise CheckpointError(f"{path} is corrupt: {path.stat().st_size:,} bytes are more than a config has.")
        return _checked(path, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is corrupt: expected JSON ({error}). Train again or restore a copy.") from error


def _checked(path: Path, text: str) -> dict[str, Any]:
    """Parse a config and check that it is one of ours."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and lists in lists in lists
        raise CheckpointError(f"{path} is corrupt: expected JSON ({error}). Train again or restore a copy.") from error
    known = isinstance(config, dict) and config.get("format") == FORMAT and isinstance(config.get("policy"), dict)
    if not known:
        raise CheckpointError(f"{path} was not written by Wormwheel: expected a JSON object with format {FORMAT!r}.")
    version = config.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{path} is corrupt: format_version must be a positive integer, got {version!r:.80}.")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this program reads up to {FORMAT_VERSION}. Update Wormwheel."
        )
    return config


def policy_directory(given: str | Path) -> Path:
    """Return the policy directory of a run directory; any other directory as it is.

    Raises:
        CheckpointError: as `refuse_adapted`.
    """
    refuse_adapted(given)
    inner = Path(given) / "policy"
    return inner if (inner / "config.json").is_file() else Path(given)


def refuse_adapted(given: str | Path) -> None:
    """Check that what was given is no policy with corrections for other worlds (`wormwheel adapt`), nor its run.

    Raises:
        CheckpointError: if it is.
    """
    given = Path(given)
    if given.name == ADAPTED and given.is_file():
        raise CheckpointError(
            f"{given} is a driver with corrections for other worlds, and a policy alone is needed here: give "
            f"{given.parent / 'policy'}, which is without them."
        )
    if (given / ADAPTED).is_file():
        raise CheckpointError(
            f"{given} holds a driver with corrections for other worlds: give {given / ADAPTED} where it is to drive, "
            f"or {given / 'policy'} for the policy without them."
        )


def load_policy(directory: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> DrivingPolicy:
    """Read a policy directory, or that of a run directory.

    Args:
        directory: what `save_policy` wrote, or a run directory that holds it as `policy`.
        device: where the policy's tensors go.
        trust: import the module of a core of one's own (`mypackage.mycore:Leaky`), which runs its code. Cores that
            are registered (`policies.cores.register_core`, entry points `wormwheel.cores`) need no trust.

    Returns:
        The policy, in evaluation mode.

    Raises:
        CheckpointError: if there is no policy, it is corrupt, foreign, or newer than this program.
    """
    directory = policy_directory(directory)
    config = read_config(directory)
    path = directory / "model.safetensors"
    tensors, metadata = _read_weights(path)
    digest, described_in = _digest(tensors), directory / "config.json"
    if config.get("weights_sha256") not in (None, digest) and "config" in metadata:
        own = _checked(path, metadata["config"])
        if own.get("weights_sha256") != digest:
            raise CheckpointError(f"{path} is corrupt: its numbers were altered. Train again or restore a copy.")
        _log.warning(
            "%s belongs to another save than model.safetensors, as a kill while saving leaves it: the policy that was "
            "saved before is loaded.",
            described_in,
        )
        config, described_in = own, path
    core = config["policy"].get("core")
    if isinstance(core, str) and not is_known(core) and ":" in core:
        if not trust:
            raise CheckpointError(
                f"{directory} has a core of its own, {core}, and loading it would run that code: if you trust it, give "
                "--trust (load_policy(…, trust=True)), or register the core before."
            )
        import_core(core)
    try:
        policy = DrivingPolicy.create(PolicyConfig.from_json(config["policy"]))
    except (ValueError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{described_in} does not describe a policy: {error}") from error
    expected = {name: _kind(tensor) for name, tensor in policy.state_dict().items()}
    found = {name: _kind(tensor) for name, tensor in tensors.items()}
    if expected != found:
        names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise CheckpointError(
            f"{path} does not fit its config.json: {len(names)} tensors differ, the first is {names[0]!r} (expected "
            f"{expected.get(names[0])}, found {found.get(names[0])})."
        )
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point()):
        raise CheckpointError(f"{path} holds values that are not finite: the training that wrote it had diverged.")
    if config.get("weights_sha256") not in (None, digest):
        raise CheckpointError(f"{path} is not what its config.json was saved with. Restore a copy of both.")
    policy.load_state_dict(tensors)
    return policy.to(device).eval()


def _read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read tensors and metadata of a safetensors file."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path.parent} has no model.safetensors: the policy is incomplete.")
        if path.stat().st_size > LARGEST_WEIGHTS:
            raise CheckpointError(f"{path} is corrupt: {path.stat().st_size:,} bytes are more than a policy has.")
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is corrupt ({error}). Train again or restore a copy.") from error


def _kind(tensor: torch.Tensor) -> tuple[str, tuple[int, ...]]:
    return "floats" if tensor.is_floating_point() else str(tensor.dtype), tuple(tensor.shape)


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and numbers."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _replace(path: Path, content: bytes) -> None:
    """Write beside, flush to disk, move into place."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _car_lines(car: CarInfo | None) -> list[str]:
    """Say what the policy's steering means."""
    if car is None or not car.to_json():
        return ["- learnt in a car and a camera that are not known: on another car find its gain with `wormwheel fit`"]
    words = {
        "full_lock_curvature_per_m": "{:.3g} 1/m of curvature at full lock",
        "lane_width_m": "lanes of {:.3g} m",
        "speed_mps": "{:.3g} m/s",
        "camera_height_m": "camera {:.3g} m high",
        "camera_pitch_deg": "tilted {:.3g}° down",
        "camera_hfov_deg": "{:.3g}° wide",
        "camera_horizon": "horizon at {:.0%} of the height from the top",
        "lookahead_s": "from one who looked {:.2g} s ahead",
    }
    return ["- learnt in (means): " + ", ".join(words[name].format(value) for name, value in car.to_json().items())]


def _model_card(policy: DrivingPolicy, notes: dict[str, Any]) -> str:
    """Describe the policy in Markdown."""
    config = policy.config
    fit = config.preprocessing
    lines = [
        "# A Wormwheel driving policy",
        "",
        f"- core: `{config.core}`, {policy.core.state_size} state values, "
        f"{sum(p.numel() for p in policy.core.parameters()):,} parameters",
        f"- conv head: {sum(p.numel() for p in policy.head.parameters()):,} parameters, "
        f"{policy.head.output_size} features",
        f"- frames: uint8 RGB {fit.source_height}×{fit.source_width}, seen at {fit.height}×{fit.width}, one every "
        f"{config.nominal_period_s:g} s",
        "- output: steering in [−1, 1] of full lock, positive left",
        *_car_lines(config.car),
        "",
        "```python",
        "from policies.checkpoint import load_policy",
        "",
        'policy = load_policy("THIS_DIRECTORY")',
        "steering, state = policy(frames)  # uint8 [B, T, H, W, 3]",
        "```",
    ]
    if notes:
        lines += ["", "## Notes", "", "```json", json.dumps(notes, indent=2), "```"]
    return "\n".join(lines) + "\n"
