"""Policies on disk: what is saved comes back, and what is broken says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from policies import checkpoint
from policies.checkpoint import CheckpointError, load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_policy(DrivingPolicy.create(PolicyConfig(), seed=2), tmp_path / "policy", {"data": "none"})


@pytest.mark.parametrize("core", ["ltc", "lstm", "feedforward"])
def test_a_loaded_policy_drives_the_same(tmp_path: Path, core: str):
    policy = DrivingPolicy.create(PolicyConfig(core=core), seed=2).eval()
    loaded = load_policy(save_policy(policy, tmp_path / "policy"))
    frames = torch.randint(0, 256, (2, 4, 48, 96, 3), dtype=torch.uint8)
    torch.testing.assert_close(policy(frames), loaded(frames), rtol=0, atol=0)
    assert loaded.config == policy.config
    assert "conv head" in (tmp_path / "policy" / "README.md").read_text()


def test_a_failed_save_leaves_the_old_policy_whole(saved: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_policy(DrivingPolicy.create(PolicyConfig(), seed=3), saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "not a policy directory"),
        ("config.json", b"{", "corrupt"),
        ("config.json", b"\xff\xfe\x00", "corrupt"),
        ("config.json", b"[]", "not written by Wormwheel"),
        ("config.json", b'{"format": "other", "policy": {}}', "not written by Wormwheel"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", b"", "corrupt"),
        ("model.safetensors", b"\x80\x04K\x01.", "corrupt"),
    ],
)
def test_broken_files_are_named(saved: Path, name: str, content: bytes | None, message: str):
    if content is None:
        (saved / name).unlink()
    else:
        (saved / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_policy(saved)


def test_newer_versions_and_unknown_fields_are_refused(saved: Path):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(CheckpointError, match="format version 99, this program reads up to 1. Update"):
        load_policy(saved)
    config["policy"]["core"] = "brain"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'brain'"):
        load_policy(saved)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(saved: Path):
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    name = "head.readout_bias"
    safetensors.torch.save_file(
        {**tensors, name: torch.full_like(tensors[name], torch.nan)}, saved / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match="not finite"):
        load_policy(saved)
    tensors.pop(name)
    safetensors.torch.save_file(tensors, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"the first is '{name}'"):
        load_policy(saved)
