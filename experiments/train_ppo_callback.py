"""What happens between two rollouts of `wormwheel train ppo`: evaluate on other seeds, keep the best and the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.ppo.evaluate import EVALUATION_SEED, evaluate, mean_reward
from agents.runs.checkpoints import new_checkpoint
from agents.runs.directory import RunDirectory
from agents.runs.events import cut_back
from experiments.console import Bar


class EvalCheckpointCallback(BaseCallback):
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
        keep: int,
        notes: dict[str, Any],
        on_point: Callable[[int, float], None] | None = None,
    ):
        """Note what to evaluate, when, and where to save.

        Args:
            make_env: makes an env to evaluate in.
            directory: of the run.
            bar: to move.
            every: steps between two evaluations.
            episodes: of an evaluation.
            keep: how many of the last checkpoints to keep.
            notes: kept with each saved driver.
            on_point: called after each evaluation with the steps made and the negative mean reward.
        """
        super().__init__()
        self._make_env, self._directory, self._bar = make_env, directory, bar
        self._every, self._episodes, self._keep, self._notes = every, episodes, keep, notes
        self._on_point = on_point

    def _on_rollout_start(self) -> None:
        """Evaluate if it is time; what is saved between an update and the next rollout resumes exactly."""
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
        """Evaluate and save, unless that has been done at this step.

        Raises:
            ValueError: if the mean reward is not finite.
        """
        record, steps = _record(model), model.num_timesteps
        if record.get("at") == steps:
            return
        scores = evaluate(model, self._make_env, range(EVALUATION_SEED, EVALUATION_SEED + self._episodes))
        reward = mean_reward(scores)
        if not math.isfinite(reward.value):
            raise ValueError(
                f"the evaluation after {steps:,} steps gave a reward of {reward.value}, which is not kept: lower the "
                "learning rates or check the env's rewards."
            )
        line = {
            "steps": steps,
            "reward": reward.value,
            "reward_low": _finite(reward.low),
            "reward_high": _finite(reward.high),
            "length": float(np.mean([score.steps for score in scores])),
            "crashes": sum(score.crashed for score in scores),
            "episodes": len(scores),
        }
        model.logger.record("eval/mean_reward", reward.value)
        model.logger.record("eval/mean_ep_length", line["length"])
        model.logger.record("eval/crashes", line["crashes"])
        model.logger.dump(steps)
        lines = [*record.get("lines", []), line]
        record |= {"at": steps, "next": (steps // self._every + 1) * self._every, "lines": lines}
        notes = {**self._notes, "evaluation": line}
        if reward.value > record.get("best", -math.inf):
            record |= {"best": reward.value, "best_at": steps, "best_line": line}
            with new_checkpoint(self._directory.policy) as place:
                model.save(place, notes=notes)
        # The learner, with all lines in it, is what a resumed run goes by; the log comes after it.
        with new_checkpoint(self._directory.last, self._keep) as place:
            model.save(place, notes=notes)
        self._directory.log(**line)
        if self._on_point is not None:
            self._on_point(steps, -reward.value)


def reconcile_logs(directory: RunDirectory, steps: int, lines: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Bring `metrics.jsonl` and TensorBoard's events to where a checkpoint stands, whatever a killed run had written.

    Args:
        directory: of the run.
        steps: of the checkpoint.
        lines: of its evaluations; None for learners of earlier versions, which did not keep them.

    Returns:
        The lines of its evaluations.
    """
    cut_back(directory.tensorboard, lambda tag, at: at <= steps)
    if lines is None:
        lines = [line for line in directory.read_log() if line["steps"] <= steps]
    directory.rewrite_log(lines)
    return lines


def _finite(bound: float) -> float | None:
    """Return a bound of an interval; None where few episodes have none, since JSON has no other word for it."""
    return bound if math.isfinite(bound) else None


def _record(model: Any) -> dict[str, Any]:
    """Return where the run stands."""
    record: dict[str, Any] = model.record
    return record
