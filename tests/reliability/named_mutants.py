"""Breaks that once passed unnoticed, each for its kind: which seed, label, clock or set produced a figure.

`python -m tests.reliability.mutants --named` tries them; each must fail a test.
"""

from __future__ import annotations

from dataclasses import dataclass

_AGENTS, _ENVS, _VERBS = "tests/agents", "tests/envs", "tests/experiments"
_RECORD = (f"{_AGENTS}/driving/test_record.py",)
_IMITATION = tuple(f"{_AGENTS}/imitation/{name}.py" for name in ("test_steps", "test_loss", "test_train"))
_VERB = (f"{_VERBS}/test_train_imitation.py",)
_LTC = tuple(f"tests/policies/cores/{name}.py" for name in ("test_synapses", "test_ltc", "test_core_contract"))
_LANE = (f"{_ENVS}/lane_keeping/test_step.py", f"{_ENVS}/lane_keeping/test_env.py")
_PPO = (f"{_AGENTS}/ppo/test_line.py", f"{_AGENTS}/ppo/test_surroundings.py", f"{_VERBS}/test_train_ppo.py")
_STATISTICS = (f"{_AGENTS}/driving/test_statistics.py",)
_DOSES = (f"{_ENVS}/perturbations",)


@dataclass(frozen=True)
class Named:
    """A break."""

    what: str
    """In words."""
    path: str
    """The module."""
    was: str
    """Part of its source."""
    now: str
    """What takes its place, the first time that it stands there."""
    tests: tuple[str, ...]
    """Files that should notice."""

    def __str__(self) -> str:
        """Say what it is."""
        return f"{self.path}: {self.what}"


_TRAIN, _RECORDER, _ENV = "agents/imitation/train.py", "agents/driving/record.py", "envs/lane_keeping/env.py"
_RECORDING_VERB, _REFERENCE = "experiments/train_imitation.py", "policies/kernels/ltc/reference.py"
_STATS = "agents/driving/statistics.py"
_STEPPED = "policy.motors(frames, state, elapsed, starts, preprocessed=True)"
NAMED = (
    Named(
        "the pushed steering is the label",
        _RECORDER,
        "driver.label,\n",
        "float(np.clip(driver.label + driver.disturbance.step(), -1, 1)),\n",
        _RECORD,
    ),
    Named(
        "the label is that of the step before",
        _RECORDER,
        "self.label, self.pose = self.expert.steer(env), (state.x, state.y, state.yaw)\n"
        "        pushed = min(max(self.label",
        "before, now, self.pose = self.label, self.expert.steer(env), (state.x, state.y, state.yaw)\n"
        "        self.label, pushed = before, min(max(now",
        _RECORD,
    ),
    Named(
        "the recorded time starts one period late",
        _RECORDER,
        'float(seen["time_s"]),',
        'float(seen["time_s"]) + job.world.period_s * (len(recording) > 0),',
        _RECORD,
    ),
    Named(
        "the pose after the step is recorded",
        _RECORDER,
        "x_m, y_m, yaw_rad = driver.pose",
        "after = step.env.unwrapped.vehicle_state\n            x_m, y_m, yaw_rad = after.x, after.y, after.yaw",
        _RECORD,
    ),
    Named("elapsed is not handed to the core", _TRAIN, _STEPPED, _STEPPED.replace("elapsed", "None"), _IMITATION),
    Named("starts are not handed to the core", _TRAIN, _STEPPED, _STEPPED.replace("starts", "None"), _IMITATION),
    Named(
        "burn-in counts in the loss",
        _TRAIN,
        "torch.from_numpy(batch.valid).float()",
        "torch.from_numpy(batch.valid | True).float()",
        _IMITATION,
    ),
    Named("the raw policy is saved", _TRAIN, "save_policy(average,", "save_policy(policy,", _IMITATION),
    Named(
        "the raw policy is validated", _TRAIN, "score(copy.deepcopy(average)", "score(copy.deepcopy(policy)", _IMITATION
    ),
    Named(
        "the best epoch is that with the largest error",
        _TRAIN,
        'figures["validation_rmse"] < progress.best_rmse',
        'figures["validation_rmse"] > progress.best_rmse or epoch == 0',
        _IMITATION,
    ),
    Named(
        "the last policy is returned",
        _TRAIN,
        "ImitationResult(load_policy(run.policy)",
        "ImitationResult(average.eval()",
        _IMITATION,
    ),
    Named(
        "every epoch has the same batches", _TRAIN, '"epoch": epoch, "position"', '"epoch": 0, "position"', _IMITATION
    ),
    Named("steering weighs nothing", _TRAIN, "weight, config.steering_weight)", "weight, 0.0)", _IMITATION),
    Named(
        "held-out figures are those of the validation set",
        _RECORDING_VERB,
        "result.policy, sets.held_out, sets.steering_mean",
        "result.policy, sets.validation, sets.steering_mean",
        _VERB,
    ),
    Named(
        "the baseline is the driver itself",
        _RECORDING_VERB,
        "figures[BASELINE] = _measure(baseline, sets)",
        "figures[BASELINE] = _measure(result, sets)",
        _VERB,
    ),
    Named(
        "the mean predictor predicts straight ahead",
        _RECORDING_VERB,
        "_measure_constant(sets, sets.steering_mean)",
        "_measure_constant(sets, 0.0)",
        _VERB,
    ),
    Named(
        "sensory polarity is flipped",
        "policies/cores/ltc.py",
        "torch.tensor(sensory[:, 2]",
        "torch.tensor(-sensory[:, 2]",
        _LTC,
    ),
    Named(
        "recurrent polarity is flipped",
        "policies/cores/ltc.py",
        "torch.tensor(recurrent[:, 2]",
        "torch.tensor(-recurrent[:, 2]",
        _LTC,
    ),
    Named(
        "time constants leave out the sensory term",
        "policies/cores/ltc.py",
        "circuit.recurrent_drive(voltages)[1] + sensory)",
        "circuit.recurrent_drive(voltages)[1] + 0 * sensory)",
        _LTC,
    ),
    Named(
        "time constants leave out the recurrent term",
        "policies/cores/ltc.py",
        "circuit.recurrent_drive(voltages)[1] + sensory)",
        "0 * circuit.recurrent_drive(voltages)[1] + sensory)",
        _LTC,
    ),
    Named(
        "the adaptive solver ignores starts",
        "policies/cores/ltc.py",
        "reference.adaptive_sequence(\n                inputs, state, elapsed, starts,",
        "reference.adaptive_sequence(\n                inputs, state, elapsed, torch.zeros_like(starts),",
        _LTC,
    ),
    Named(
        "the adaptive solver ignores elapsed",
        "policies/cores/ltc.py",
        "reference.adaptive_sequence(\n                inputs, state, elapsed, starts,",
        "reference.adaptive_sequence(\n                inputs, state, torch.ones_like(elapsed), starts,",
        _LTC,
    ),
    Named(
        "a crash at 1.2 of the lane width",
        "envs/lane_keeping/layout.py",
        "return abs(lateral_m) > track.lane_width_m",
        "return abs(lateral_m) > 1.2 * track.lane_width_m",
        _LANE,
    ),
    Named(
        "a crash at 0.9 of the lane width",
        "envs/lane_keeping/layout.py",
        "return abs(lateral_m) > track.lane_width_m",
        "return abs(lateral_m) > 0.9 * track.lane_width_m",
        _LANE,
    ),
    Named(
        "restless steering is rewarded",
        _ENV,
        "- 0.1 * (steering - self._steering) ** 2",
        "+ 0.1 * (steering - self._steering) ** 2",
        _LANE,
    ),
    Named("a crash costs nothing", _ENV, "reward -= 10.0", "reward -= 0.0", _LANE),
    Named(
        "latency at half its dose",
        "envs/perturbations/families/timing.py",
        "return _Late(generator, dose, 0.5",
        "return _Late(generator, 0.5 * dose, 0.5",
        _DOSES,
    ),
    Named(
        "frames are lowered by half",
        "envs/perturbations/families/timing.py",
        "return _Slower(dose)",
        "return _Slower(1 + 0.5 * (dose - 1))",
        _DOSES,
    ),
    Named(
        "the left line has the right line's style",
        "envs/scene/ground.py",
        "(look.left, half",
        "(look.right, half",
        ("tests/envs/camera", *_LANE),
    ),
    Named(
        "the right line has the left line's style",
        "envs/scene/ground.py",
        "(look.right, -half",
        "(look.left, -half",
        ("tests/envs/camera", *_LANE),
    ),
    Named(
        "training episodes ignore the seed",
        "agents/ppo/replay.py",
        "self.env.reset(seed=episode_seed(self._seed, self._level)",
        "self.env.reset(seed=episode_seed(0, self._level)",
        _PPO,
    ),
    Named(
        "all envs drive the same roads",
        "agents/ppo/replay.py",
        "episode_seed(seed, number)",
        "episode_seed(seed, 0)",
        _PPO,
    ),
    Named(
        "evaluation on one road",
        "agents/ppo/evaluate.py",
        "scores += _side_by_side(model, make_env, seeds[first : first + side_by_side], on_step)",
        "scores += _side_by_side(model, make_env, [seeds[0]] * len(seeds[first : first + side_by_side]), on_step)",
        _PPO,
    ),
    Named(
        "evaluation on the training's seeds",
        "experiments/train_ppo_callback.py",
        "range(EVALUATION_SEED, EVALUATION_SEED + self._episodes)",
        "range(0, self._episodes)",
        _PPO,
    ),
    Named(
        "the best is that with the longest episodes",
        "experiments/train_ppo_callback.py",
        'if reward.value > record.get("best", -math.inf):\n            record |= {"best": reward.value,',
        'if line["length"] > record.get("best", -math.inf):\n            record |= {"best": line["length"],',
        _PPO,
    ),
    Named(
        "target_kl a hundred times too lax",
        "agents/ppo/update.py",
        "1.5 * config.target_kl",
        "150 * config.target_kl",
        (f"{_AGENTS}/ppo/test_line.py",),
    ),
    Named(
        "the number of rollouts is lost on resume",
        "agents/ppo/checkpoint.py",
        'learner.rollouts = int(values["counters"]["_rollouts"])',
        "learner.rollouts = 0",
        (f"{_AGENTS}/ppo/test_resume.py",),
    ),
    Named(
        "5 and 95 for 2.5 and 97.5 in profiles",
        _STATS,
        "low, high = np.percentile(values, [2.5, 97.5], axis=0)",
        "low, high = np.percentile(values, [5, 95], axis=0)",
        _STATISTICS,
    ),
    Named(
        "5 and 95 for 2.5 and 97.5 in intervals",
        _STATS,
        "low, high = np.percentile(finite, [2.5, 97.5])",
        "low, high = np.percentile(finite, [5, 95])",
        _STATISTICS,
    ),
    Named(
        "median for mean in the corruption error",
        _STATS,
        "value = float(each[counted].mean())",
        "value = float(np.median(each[counted]))",
        _STATISTICS,
    ),
    Named(
        "median for mean in its interval",
        _STATS,
        "values = np.nanmean(rows, axis=1)",
        "values = np.nanmedian(rows, axis=1)",
        _STATISTICS,
    ),
    Named(
        "runs of two drivers are drawn alike in differences",
        _STATS,
        "other.mean(2), _draws(other, whole_runs, resamples, seed, 1)",
        "other.mean(2), _draws(other, whole_runs, resamples, seed, 0)",
        _STATISTICS,
    ),
    Named(
        "runs of two drivers are drawn alike in probabilities",
        _STATS,
        "others, _ = _draws(other, whole_runs, resamples, seed, 1)",
        "others, _ = _draws(other, whole_runs, resamples, seed, 0)",
        _STATISTICS,
    ),
    Named(
        "runs of two drivers are drawn alike in the corruption error",
        _STATS,
        "_mean_of_draws(bottoms, _draws(other, whole_runs, resamples, seed, 1))",
        "_mean_of_draws(bottoms, _draws(other, whole_runs, resamples, seed, 0))",
        _STATISTICS,
    ),
    Named(
        "the benchmark does not look whether numbers agree",
        "experiments/benchmarks/cores.py",
        "        check_agreement(units)\n",
        "        pass\n",
        ("tests/experiments/benchmarks/test_cores.py",),
    ),
    Named(
        "the benchmark takes any numbers for agreement",
        "experiments/benchmarks/cores_peers.py",
        "if not error <",
        "if False and not error <",
        ("tests/experiments/benchmarks/test_cores.py",),
    ),
)
"""All of them."""
