"""`wormwheel train ppo`: learn to drive by trial and error.

    wormwheel train ppo --env LaneKeeping --core ltc
    wormwheel train ppo --env LaneKeeping --init-from runs/demo/policy --leash 0.1 --noise-variance 0.1
    wormwheel train ppo --env CartPole-memory --core cfc --steps 50000

The best policy on episodes with other seeds is `policy/` in the run directory, the learner itself `last/`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tyro.conf import arg

from agents.metrics import Estimate, bootstrap
from agents.ppo import LiquidPPO
from agents.ppo_checkpoint import FILE, save_learner
from agents.ppo_config import PPOConfig
from agents.ppo_episodes import make_vector_env
from agents.ppo_policy import ActorCriticConfig, config_for
from agents.ppo_presets import preset_for
from agents.ppo_worlds import make_world
from agents.run_directory import RunDirectory, to_json
from envs.lane_keeping import LaneKeepingConfig
from experiments.common import Bar, check_json, new_directory, progress, say, show, table, write_results
from experiments.core_options import parse_core_options
from policies.checkpoint import load_policy

EVALUATION_SEED = 1_000_000
"""Seed of the first episode that a policy is judged on while training."""


@dataclass(frozen=True)
class TrainPPOOptions:
    """Train a driver by trial and error, with PPO.

    Defaults of the learning options are those of the world's preset (agents/ppo_presets.py); what was chosen is in the
    run directory's config.json.
    """

    env: str = "LaneKeeping"
    """World: LaneKeeping, CarRacing (steering only), CarRacing-v3, CartPole-memory, or an id of Gymnasium."""
    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: tuple[str, ...] = ()
    """NAME=VALUE for fields of the core's own config, such as units=19."""
    out: Path | None = None
    """Run directory; runs/ppo-ENV-CORE, with a number added if that is taken, when not given."""
    steps: int = 100_000
    """Steps of all envs together."""
    envs: int = 8
    """Envs side by side."""
    processes: bool = False
    """Give each env a process of its own; pays for envs that are slower than the pipe to them."""
    seed: int = 0
    """Seed of weights, draws and training episodes."""
    learning: Annotated[PPOConfig, arg(name="")] = PPOConfig()
    """How to learn."""
    critic: str = "features"
    """What judges: "features", "shared" or "own" (a core of its own)."""
    log_std_init: float = -0.5
    """Initial logarithm of the actions' spread, in units of half an action's range."""
    normalize_reward: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    init_from: Path | None = None
    """Policy directory of a driver to start from; core and head are its own then."""
    noise_variance: float = 0.0
    """Largest variance of Gaussian noise on the training frames, pixels in [0, 1]; each episode draws its own."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=LaneKeepingConfig)
    """LaneKeeping's world while training."""
    evaluate_every: int = 50_000
    """Steps between two evaluations on other seeds; the best and the last learner are kept then."""
    evaluate_episodes: int = 10
    """Episodes of an evaluation."""
    evaluate_s: float = 60.0
    """Length of LaneKeeping's episodes in an evaluation, s."""
    film: bool = True
    """LaneKeeping: film the best driver at the end."""
    resume: bool = False
    """Go on with the run in --out exactly where its last checkpoint was; give the options of the first run again."""
    json: Path | None = None
    """File for the figures, as JSON; they go to results.json in the run directory anyway."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("steps", "envs", "evaluate_every", "evaluate_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.noise_variance < math.inf:
            raise ValueError(f"noise_variance must be at least 0, got {self.noise_variance}.")
        if not 0 < self.evaluate_s < math.inf:
            raise ValueError(f"evaluate_s must be a positive number, got {self.evaluate_s}.")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")


@dataclass(frozen=True)
class Score:
    """How one episode went."""

    reward: float
    """Sum of the rewards."""
    steps: int
    """Length."""
    crashed: bool
    """Whether it ended in a crash; of worlds that tell."""


def defaults_for(options: TrainPPOOptions) -> TrainPPOOptions:
    """Return the options with the defaults that suit the world; what the command line names comes on top of them."""
    preset = preset_for(options.env)
    return replace(
        options,
        steps=preset.steps,
        envs=preset.envs,
        learning=preset.learning,
        critic=preset.networks.get("critic", options.critic),
        log_std_init=preset.networks.get("log_std_init", options.log_std_init),
        normalize_reward=preset.normalize_reward,
        world=replace(options.world, **preset.world) if options.env == "LaneKeeping" else options.world,
    )


def run(options: TrainPPOOptions) -> Path:
    """Train, keep the best, measure and film it; returns the run directory."""
    check_json(options.json)
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run to go on with.")
    core_options = parse_core_options(options.core, options.core_options)
    driver = load_policy(options.init_from) if options.init_from is not None else None
    if driver is not None:
        fit = driver.config.preprocessing
        options = replace(options, world=replace(options.world, height=fit.source_height, width=fit.source_width))
    make_env = _env_maker(options, options.world, options.noise_variance)
    make_env().close()  # What is wrong with it is told before anything is written.
    out = new_directory(
        options.out, f"runs/ppo-{options.env.replace('/', '-')}-{options.core}", "config.json", options.resume
    )
    _check_resume(out, options)
    directory = RunDirectory(out, "train ppo", options, options.resume)
    vector: VecEnv = make_vector_env(make_env, options.envs, options.processes)
    try:
        if options.normalize_reward:
            vector = VecNormalize(vector, norm_obs=False, gamma=options.learning.gamma)
        model = _make_learner(options, core_options, driver, vector, directory)
        with progress(f"training {model.actor_critic_config.core}", options.steps, "steps") as bar:
            keeper = Keeper(options, directory, bar)
            if model.num_timesteps < options.steps:
                left = options.steps - model.num_timesteps
                model.learn(left, keeper, reset_num_timesteps=not options.resume)
            keeper.finish(model)
    finally:
        vector.close()
    return _conclude(options, directory, model)


class Keeper(BaseCallback):
    """Evaluates between two rollouts, keeps the best and the last learner, and moves the bar."""

    def __init__(self, options: TrainPPOOptions, directory: RunDirectory, bar: Bar):
        """Watch over a run."""
        super().__init__()
        self._options, self._directory, self._bar = options, directory, bar

    def _on_rollout_start(self) -> None:
        """Evaluate if it is time; between an update and the next rollout a saved learner goes on exactly."""
        done = self.model.num_timesteps
        if done >= self._record(self.model).get("next", self._options.evaluate_every):
            self.finish(self.model)

    def _on_step(self) -> bool:
        """Move the bar."""
        infos = self.model.ep_info_buffer
        mean = f"mean reward {np.mean([info['r'] for info in infos]):.1f}" if infos else ""
        best = self._record(self.model).get("best")
        self._bar.update(self.model.num_timesteps, mean + (f", best {best:.1f}" if best is not None else ""))
        return True

    def finish(self, model: Any) -> None:
        """Evaluate and save, unless that has been done at this step."""
        record = self._record(model)
        if record.get("at") == model.num_timesteps:
            return
        scores = evaluate(model, _evaluation_env(self._options), self._options.evaluate_episodes)
        rewards = np.array([score.reward for score in scores])
        reward = bootstrap(lambda chosen: float(rewards[chosen].mean()), len(rewards))
        crashes = sum(score.crashed for score in scores)
        every = self._options.evaluate_every
        record |= {"at": model.num_timesteps, "next": (model.num_timesteps // every + 1) * every}
        line = {
            "steps": model.num_timesteps,
            "reward": reward.value,
            "reward_low": reward.low,
            "reward_high": reward.high,
            "length": float(np.mean([score.steps for score in scores])),
            "crashes": crashes,
            "episodes": len(scores),
        }
        self._directory.log(**line)
        model.logger.record("eval/mean_reward", reward.value)
        model.logger.record("eval/mean_ep_length", line["length"])
        model.logger.record("eval/crashes", crashes)
        model.logger.dump(model.num_timesteps)
        notes = {"env": self._options.env, "seed": self._options.seed, "evaluation": line}
        if reward.value > record.get("best", -math.inf):
            record |= {"best": reward.value, "best_at": model.num_timesteps, "best_line": line}
            save_learner(model, self._directory.policy, notes)
        save_learner(model, self._directory.last, notes)

    @staticmethod
    def _record(model: Any) -> dict[str, Any]:
        """Return where the run stands; it is saved with the learner."""
        return model.record


def evaluate(model: LiquidPPO, make_env: Callable[[], gymnasium.Env[Any, Any]], episodes: int) -> list[Score]:
    """Let a learner act without chance, one episode in each of some envs side by side.

    Args:
        model: the learner; nothing in it changes.
        make_env: makes an env.
        episodes: how many; their seeds follow `EVALUATION_SEED`.

    Returns:
        A score for each episode.
    """
    worlds = [make_env() for _ in range(episodes)]
    try:
        observations = [env.reset(seed=EVALUATION_SEED + number)[0] for number, env in enumerate(worlds)]
        rewards, steps, crashed = np.zeros(episodes), np.zeros(episodes, int), np.zeros(episodes, bool)
        going, state = np.ones(episodes, bool), None
        while going.any():
            actions, state = model.predict(_stack(observations), state, deterministic=True)
            for number in np.flatnonzero(going):
                observation, reward, terminated, truncated, info = worlds[number].step(actions[number])
                observations[number] = observation
                rewards[number] += float(reward)
                steps[number] += 1
                going[number] = not (terminated or truncated)
                crashed[number] = bool(info.get("crashed", False))
    finally:
        for env in worlds:
            env.close()
    return [Score(float(r), int(s), bool(c)) for r, s, c in zip(rewards, steps, crashed, strict=True)]


def _stack(observations: Sequence[Any]) -> Any:
    first = observations[0]
    if isinstance(first, dict):
        return {name: np.stack([one[name] for one in observations]) for name in first}
    return np.stack(observations)


def _env_maker(
    options: TrainPPOOptions, world: LaneKeepingConfig, noise_variance: float
) -> Callable[[], gymnasium.Env[Any, Any]]:
    name = options.env
    return lambda: make_world(name, world, noise_variance)


def _evaluation_env(options: TrainPPOOptions) -> Callable[[], gymnasium.Env[Any, Any]]:
    world = replace(options.world, episode_s=options.evaluate_s, start_offset=LaneKeepingConfig().start_offset)
    return _env_maker(options, world, options.noise_variance)


def _make_learner(
    options: TrainPPOOptions, core_options: dict[str, Any], driver: Any, vector: VecEnv, directory: RunDirectory
) -> LiquidPPO:
    """Make a learner, or read the one to go on with."""
    board = str(directory.path / "tensorboard")
    if options.resume and (directory.last / FILE).exists():
        return LiquidPPO.load(directory.last, vector, tensorboard_log=board)
    preset = preset_for(options.env)
    own = {"critic": options.critic, "log_std_init": options.log_std_init}
    if driver is not None:
        parts = config_for(driver, **own)
    else:
        chosen = {**preset.core_options.get(options.core, {}), **core_options}
        period_s = options.world.period_s if options.env == "LaneKeeping" else 0.05
        period_s = preset.networks.get("nominal_period_s", period_s)
        others = {name: value for name, value in preset.networks.items() if name not in own}
        parts = ActorCriticConfig(
            core=options.core, core_options=chosen, **{**others, **own, "nominal_period_s": period_s}
        )
    return LiquidPPO(parts, vector, options.learning, init_from=driver, tensorboard_log=board, seed=options.seed)


def _check_resume(out: Path, options: TrainPPOOptions) -> None:
    """Check that a run that is gone on with was started with the same options, as far as they shape it."""
    if not options.resume:
        return
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out} holds no run to resume: its config.json is missing or damaged ({error}).") from error
    now = json.loads(json.dumps(to_json(options)))
    for name in ("env", "core", "core_options", "envs", "seed", "learning", "critic", "world", "noise_variance"):
        if now[name] != before.get(name):
            raise ValueError(
                f"{out} was started with other values of {name}; resume with the options of the first run."
            )


def _conclude(options: TrainPPOOptions, directory: RunDirectory, model: LiquidPPO) -> Path:
    """Show the best score, write the results, film the driver."""
    line = model.record["best_line"]
    reward = Estimate(line["reward"], line["reward_low"], line["reward_high"])
    row = [model.actor_critic_config.core, show(reward, 1), f"{line['length']:.0f}", f"{line['steps']:,}"]
    columns = ["driver", "reward", "steps an episode", "after steps"]
    if options.env in ("LaneKeeping", "CarRacing"):
        columns, row = [*columns, "crashes"], [*row, f"{line['crashes']} of {line['episodes']}"]
    table(f"{options.env}: best of the evaluations on {line['episodes']} episodes, 95 % intervals", columns, [row])
    figures = {"directory": str(directory.path), "best": line, "steps": model.num_timesteps}
    write_results(directory.path / "results.json", "train ppo", options, figures)
    write_results(options.json, "train ppo", options, figures)
    if options.film and options.env == "LaneKeeping":
        from experiments.render import RenderOptions
        from experiments.render import run as render

        film = RenderOptions(directory.policy, directory.path / "best.mp4", seconds=20.0, world=options.world)
        render(film)
    say(f"policy: {directory.policy}")
    return directory.path
