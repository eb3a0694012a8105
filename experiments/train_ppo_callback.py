"""What happens between two rollouts of `wormwheel train ppo`: evaluate on other seeds, keep the best and the last."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.ppo.checkpoint import save_learner
from agents.ppo.evaluate import EVALUATION_SEED, evaluate, mean_reward
from agents.runs.directory import RunDirectory
from agents.runs.files import write_bytes
from experiments.console import Bar


class Keeper(BaseCallback):
    """Evaluates between two rollouts, keeps the best and the last learner, and moves the bar.

    Where a run stands is part of the learner (`model.record`) and saved with it, so a resumed run knows its best.
    """

    def __init__(
        self,
        make_env: Callable[[], gymnasium.Env[Any, Any]],
        directory: RunDirectory,
        bar: Bar,
        every: int,
        episodes: int,
        notes: dict[str, Any],
    ):
        """Watch over a run.

        Args:
            make_env: makes an env to be judged in.
            directory: of the run.
            bar: to move.
            every: steps between two evaluations.
            episodes: of an evaluation.
            notes: kept with each saved driver.
        """
        super().__init__()
        self._make_env, self._directory, self._bar = make_env, directory, bar
        self._every, self._episodes, self._notes = every, episodes, notes

    def _on_rollout_start(self) -> None:
        """Evaluate if it is time; between an update and the next rollout a saved learner goes on exactly."""
        if self.num_timesteps >= _record(self.model).get("next", self._every):
            self.finish(self.model)

    def _on_step(self) -> bool:
        """Move the bar."""
        infos = self.model.ep_info_buffer
        mean = f"mean reward {np.mean([info['r'] for info in infos]):.1f}" if infos else ""
        best = _record(self.model).get("best")
        self._bar.update(self.model.num_timesteps, mean + (f", best {best:.1f}" if best is not None else ""))
        return True

    def finish(self, model: Any) -> None:
        """Evaluate and save, unless that has been done at this step."""
        record, steps = _record(model), model.num_timesteps
        if record.get("at") == steps:
            return
        scores = evaluate(model, self._make_env, range(EVALUATION_SEED, EVALUATION_SEED + self._episodes))
        reward = mean_reward(scores)
        record |= {"at": steps, "next": (steps // self._every + 1) * self._every}
        line = {
            "steps": steps,
            "reward": reward.value,
            "reward_low": reward.low,
            "reward_high": reward.high,
            "length": float(np.mean([score.steps for score in scores])),
            "crashes": sum(score.crashed for score in scores),
            "episodes": len(scores),
        }
        model.logger.record("eval/mean_reward", reward.value)
        model.logger.record("eval/mean_ep_length", line["length"])
        model.logger.record("eval/crashes", line["crashes"])
        model.logger.dump(steps)
        notes = {**self._notes, "evaluation": line}
        if reward.value > record.get("best", -math.inf):
            record |= {"best": reward.value, "best_at": steps, "best_line": line}
            save_learner(model, self._directory.policy, notes)
        save_learner(model, self._directory.last, notes)
        self._directory.log(**line)  # Last: a line stands for a learner that has been kept.


def forget_later(directory: RunDirectory, steps: int) -> None:
    """Take the lines of later evaluations out of `metrics.jsonl`: a run is gone on with from before them."""
    if not directory.metrics.exists():
        return
    lines = directory.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["steps"] <= steps]
    write_bytes(directory.metrics, "".join(kept).encode())


def _record(model: Any) -> dict[str, Any]:
    """Return where the run stands."""
    record: dict[str, Any] = model.record
    return record
