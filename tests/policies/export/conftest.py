"""Exports of small drivers, made once: an export takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from policies.export.car import write_car
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

HEAD = HeadConfig(channels=(4, 6, 4), kernels=(5, 3, 3), strides=(2, 2, 2))
FIT = Preprocessing(60, 80, crop_top=20, height=24, width=48)


def small_policy(core: str, **options: Any) -> DrivingPolicy:
    """A driver with every weight moved a little, so that none sits at a special value such as 0."""
    config = PolicyConfig(core=core, core_options=options, head=HEAD, preprocessing=FIT)
    policy = DrivingPolicy.create(config, seed=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return policy.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[DrivingPolicy, Path]]:
    """Gives a core's driver and the folder of its export."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made: dict[str, tuple[DrivingPolicy, Path]] = {}

    def get(core: str) -> tuple[DrivingPolicy, Path]:
        if core not in made:
            policy = small_policy(core)
            folder = tmp_path_factory.mktemp("export") / core
            made[core] = policy, write_car(policy, folder, numpy=True, ros2=True, notes={"note": core})
        return made[core]

    return get
