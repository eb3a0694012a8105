"""Policies on disk: what is saved comes back, and what is broken says so."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
import safetensors.torch
import torch

from policies import checkpoint
from policies.car import CarInfo
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
        ("config.json", None, "not a policy directory: it has no config.json"),
        ("config.json", b"{", "corrupt"),
        ("config.json", b"\xff\xfe\x00", "corrupt"),
        ("config.json", b"[" * 100_000 + b"]" * 100_000, "corrupt"),
        ("config.json", b'{"format_version": ' + b"9" * 5000 + b"}", "corrupt"),
        ("config.json", b"[]", "not written by Wormwheel"),
        ("config.json", b'{"format": "other", "policy": {}}', "not written by Wormwheel"),
        (
            "config.json",
            b'{"format": "wormwheel-policy", "format_version": 1, "policy": []}',
            "not written by Wormwheel",
        ),
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


def test_what_is_no_directory_is_said(tmp_path: Path):
    with pytest.raises(CheckpointError, match="mine is not a policy directory: nothing is there"):
        load_policy(tmp_path / "mine")
    (tmp_path / "net.pt").touch()
    with pytest.raises(CheckpointError, match=r"net\.pt is not a policy directory: it is a file"):
        load_policy(tmp_path / "net.pt")


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("motors", "one"),
        ("motors", 10**9),
        ("nominal_period_s", float("inf")),
        ("nominal_period_s", [0.05]),
        ("core", {"name": "ltc"}),
        ("core_options", ["units"]),
        ("core_options", {"units": 10**6}),
        ("core_options", {"units": float("inf")}),
        ("core_options", {"substeps": 10**12}),
        ("core_options", {"wiring": {"format": 1, "inputs": float("inf"), "layers": [["motor", 1]]}}),
        ("core_options", {"wiring": {"format": 1, "inputs": 32, "layers": [["motor", 10**9]]}}),
        ("core_options", {"wiring": {"format": 1, "inputs": 32, "layers": [["motor", -5]]}}),
        ("head", {"channels": [16, 24, 32, 32, 10**6]}),
        ("head", {"channels": [100_000] * 5}),
        ("head", {"channels": "many"}),
        ("head", None),
        ("preprocessing", {"source_height": 10**12}),
        ("preprocessing", {"height": 16384, "width": 16384}),
        ("preprocessing", 3),
    ],
)
def test_wrong_types_and_absurd_sizes_are_one_error_before_memory_is_taken(saved: Path, field: str, value: object):
    config = json.loads((saved / "config.json").read_text())
    config["policy"][field] = value
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json does not describe a policy"):
        load_policy(saved)


def test_a_kill_while_another_architecture_is_saved_over_leaves_the_earlier_policy(
    saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    frames = torch.randint(0, 256, (1, 3, 48, 96, 3), dtype=torch.uint8)
    before = load_policy(saved)(frames)[0]
    replaced: list[str] = []
    replace = checkpoint._replace

    def killed(path: Path, content: bytes) -> None:
        if path.name == "model.safetensors":
            raise KeyboardInterrupt
        replaced.append(path.name)
        replace(path, content)

    monkeypatch.setattr(checkpoint, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_policy(DrivingPolicy.create(PolicyConfig(core="lstm"), seed=3), saved)
    assert "config.json" in replaced  # the config on disk is the new one's
    loaded = load_policy(saved)
    assert loaded.config.core == "ltc" and torch.equal(loaded(frames)[0], before)
    assert "saved before" in caplog.text


def test_altered_weights_are_refused(saved: Path):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # one bit of one number, which stays finite
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="altered"):
        load_policy(saved)


def test_policies_without_a_digest_still_load(saved: Path):
    config = json.loads((saved / "config.json").read_text())
    config.pop("weights_sha256")
    (saved / "config.json").write_text(json.dumps(config))
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    safetensors.torch.save_file(tensors, saved / "model.safetensors", {"format": "wormwheel-policy"})
    assert load_policy(saved).config == PolicyConfig()


def test_files_that_are_too_large_to_be_ours_are_refused_unread(saved: Path):
    for name, size in (("model.safetensors", 2**31), ("config.json", 2**27)):
        content = (saved / name).read_bytes()
        with (saved / name).open("r+b") as file:
            file.truncate(size)  # a hole: nothing is on the disk
        with pytest.raises(CheckpointError, match=f"{name} is corrupt: .* bytes are more than"):
            load_policy(saved)
        (saved / name).write_bytes(content)
    load_policy(saved)


def test_what_is_no_file_is_not_waited_for(saved: Path):
    for name in ("config.json", "model.safetensors"):
        content = (saved / name).read_bytes()
        (saved / name).unlink()
        os.mkfifo(saved / name)
        with pytest.raises(CheckpointError, match=name):
            load_policy(saved)
        (saved / name).unlink()
        (saved / name).write_bytes(content)


def test_the_readme_says_all_that_is_known_of_the_car(tmp_path: Path):
    """Whatever a recording knows of its car, a policy that learnt from it can be saved."""
    known = CarInfo(**{item.name: 0.5 for item in fields(CarInfo)})
    save_policy(DrivingPolicy.create(PolicyConfig(core="gru", car=known)), tmp_path / "policy")
    (line,) = [one for one in (tmp_path / "policy" / "README.md").read_text().splitlines() if "learnt in" in one]
    assert line.count(",") == len(fields(CarInfo)) - 1
    assert load_policy(tmp_path / "policy").config.car == known
