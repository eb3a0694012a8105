"""The numbers that every figure in the docs was measured with: whoever changes one measures again.

`python -m tests.test_defaults` writes down what they are now.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.driving.expert import DisturbanceConfig, ExpertConfig
from agents.driving.fit import BLOCK
from agents.imitation.train import ImitationConfig
from agents.ppo.actor_critic import ActorCriticConfig
from agents.ppo.config import PPOConfig
from agents.ppo.evaluate import EVALUATION_SEED
from agents.recordings.episodes import ELAPSED_RANGE, EpisodeMeta
from envs.lane_keeping.config import LaneKeepingConfig
from envs.perturbations import PERTURBATIONS
from envs.vehicle.vehicle import VehicleParams
from experiments.gate.judge import Rules
from experiments.train_imitation import RECORDED, RECORDED_DROPOUT
from policies.cores import CORES, make_config
from policies.perception import HEADS
from policies.policy import PolicyConfig

PLACE = Path(__file__).with_suffix(".json")


def defaults() -> dict[str, Any]:
    """What is taken where nobody says otherwise, as JSON has it."""
    found = {
        "imitation": asdict(ImitationConfig()),
        "imitation, recorded": {**asdict(RECORDED), "dropout": RECORDED_DROPOUT},
        "ppo": asdict(PPOConfig()),
        "actor and critic": asdict(ActorCriticConfig()),
        "seed of evaluation": EVALUATION_SEED,
        "policy": PolicyConfig().to_json(),
        "heads": {name: asdict(head) for name, head in HEADS.items()},
        "cores": {name: asdict(make_config(name, {})) for name in CORES},
        "expert": asdict(ExpertConfig()),
        "disturbance": asdict(DisturbanceConfig()),
        "world": asdict(LaneKeepingConfig()),
        "car": asdict(VehicleParams()),
        "episode": EpisodeMeta().to_json(),
        "elapsed": ELAPSED_RANGE,
        "gate": asdict(Rules("policy")),
        "frames of a block of a fit": BLOCK,
        "doses": {name: [made.doses, made.large_doses] for name, made in PERTURBATIONS.items()},
    }
    content: dict[str, Any] = json.loads(json.dumps(found))
    return content


def test_defaults_are_those_that_the_docs_were_measured_with() -> None:
    now, then = defaults(), json.loads(PLACE.read_text(encoding="utf-8"))
    assert now.keys() == then.keys()
    for name, values in now.items():
        assert values == then[name], name


if __name__ == "__main__":
    lines = (f" {json.dumps(name)}: {json.dumps(values)}" for name, values in defaults().items())
    PLACE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
