"""`wormwheel train ppo`: learn to drive by trial and error.

    wormwheel train ppo --env LaneKeeping --core ltc
    wormwheel train ppo --env LaneKeeping --init-from runs/demo/policy --leash 0.1 --noise-variance 0.1
    wormwheel train ppo --env CartPole-memory --core cfc --steps 50000

The best policy on episodes with other seeds is `policy/` in the run directory, the learner itself `last/`.

What `wormwheel train ppo` checks before it writes anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from agents.ppo.actor_critic import ActorCritic, ActorCriticConfig
from agents.ppo.config import PPOConfig
from agents.runs.directory import to_json
from envs.lane_keeping.env import LaneKeepingConfig
from policies.policy import DrivingPolicy

if TYPE_CHECKING:
    pass


import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tyro.conf import arg

from agents.driving.metrics import Estimate
from agents.ppo.actor_critic import config_for
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.checkpoint import FILE
from agents.ppo.envs import make_world
from agents.ppo.presets import preset_for
from agents.ppo.replay import make_vector_env
from agents.runs.directory import RunDirectory
from experiments.console import check_json, new_directory, progress, say, show, table, write_results
from experiments.options import parse_core_options
from experiments.policy_paths import LANE_KEEPING, find_policy, refuse_lane_keeping
from experiments.train_ppo_callback import Keeper, forget_later
from policies.checkpoint import load_policy
from policies.policy import PolicyConfig

SHAPING = (
    *("env", "core", "core_options", "envs", "seed", "learning", "critic", "log_std_init", "normalize_reward"),
    *("use_sde", "retry"),
    *("init_from", "world", "noise_variance", "perturbations", "largest_severity"),
    *("evaluate_s", "evaluate_episodes"),  # Else the best so far and what comes could not be compared.
)
"""Options that a resumed run shares with the first one."""
ABSENT = {"perturbations": [], "largest_severity": 3, "use_sde": False, "retry": 0.0}
"""What runs did that were started before there were these options."""
NESTED = {"learning": PPOConfig(), "world": LaneKeepingConfig()}
"""Likewise for the options inside these: a field that is new stands, by default, at what was done before it."""


def check_learnable(
    make_env: Callable[[], gymnasium.Env[Any, Any]], parts: ActorCriticConfig, driver: DrivingPolicy | None
) -> None:
    """Check that a world can be made and be learnt in by networks of some parts, from a driver if there is one.

    Raises:
        ValueError: if it cannot, its observations or actions are of a kind that no driver has, or the driver is used to
            others.
    """
    env = make_env()
    try:
        networks = ActorCritic(parts, env.observation_space, env.action_space)
    finally:
        env.close()
    if driver is not None:
        shown, used_to = networks.adapter.shape[:2], driver.config.preprocessing
        if networks.adapter.is_visual and shown != (used_to.source_height, used_to.source_width):
            raise ValueError(
                f"the driver to start from sees {used_to.source_height}×{used_to.source_width} pixels, this world "
                f"shows {shown[0]}×{shown[1]}: start from a driver of this world."
            )
        networks.adopt(driver)


def check_resume(out: Path, options: TrainPPOOptions) -> None:
    """Check that a run that is gone on with was started with the same options, as far as they shape it.

    Raises:
        ValueError: if it was not, or there is no such run.
    """
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))["options"]
        before = {**ABSENT, **before}
        before |= {name: _filled(before[name], to_json(default)) for name, default in NESTED.items()}
        shaped = {name: before[name] for name in SHAPING}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{out} holds no PPO run to resume: its config.json is missing or damaged ({error})."
        ) from error
    now = json.loads(json.dumps(to_json(options)))
    for name in SHAPING:
        for place, old, new in _differing(name, shaped[name], now[name]):
            raise ValueError(
                f"{out} was started with {place} = {old}, not {new}; resume with the options of the first run."
            )


def _filled(old: Any, default: Any) -> Any:
    """Add the fields that JSON values of an earlier version lack."""
    if not (isinstance(old, dict) and isinstance(default, dict)):
        return old
    return {**default, **{name: _filled(value, default.get(name)) for name, value in old.items()}}


def _differing(place: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """List the places where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return [one for name in old for one in _differing(f"{place}.{name}", old[name], new[name])]
    return [] if old == new else [(place, old, new)]


FILM_S = 20.0
"""Length of the film of the best driver, seconds."""


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
    workers: int = 0
    """Processes that step the envs, which share memory with the learner; 0 steps them in the learner's own. What is
    learnt is the same. `python -m experiments.benchmarks.ppo --vector-envs` measures what is faster."""
    seed: int = 0
    """Seed of weights, draws and training episodes; env i draws its episodes by seed + i, so runs whose seeds are
    closer than --envs share roads."""
    learning: Annotated[PPOConfig, arg(name="")] = PPOConfig()
    """How to learn."""
    critic: Literal["features", "shared", "own"] = "features"
    """What judges: an MLP on the features, the same on the motor outputs too, or a core of its own."""
    log_std_init: float = -0.5
    """Initial logarithm of the actions' spread, in units of half an action's range."""
    use_sde: bool = False
    """Let the spread depend on what is seen, and hold a push for --sde-sample-freq steps (gSDE)."""
    normalize_reward: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    retry: float = 0.0
    """Probability that a training episode which was terminated is met once more: what is difficult comes more often."""
    init_from: Path | None = None
    """Directory of a driver to start from; core, head, frames and period are its own then."""
    noise_variance: float = 0.0
    """Largest variance of Gaussian noise on the frames, pixels in [0, 1]; each episode draws its own, in training and
    in the evaluations that choose the best."""
    perturbations: tuple[str, ...] = ()
    """What goes wrong in training and in the evaluations that choose the best: each episode draws one of these. Names
    of `wormwheel gallery`, with or without a severity, joined by +, names of families, or clean; such as clean weather
    latency:2 fog+speed:1."""
    largest_severity: int = 3
    """Largest severity of those perturbations that name none; each episode draws its own."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=LaneKeepingConfig)
    """LaneKeeping's world while training. Evaluations are in the same one, but what stands at the preset's value is at
    LaneKeeping's own there; `judged_in` in results.json says where the best was chosen."""
    evaluate_every: int = 20_000
    """Steps between two evaluations on other seeds; the best and the last learner are kept then."""
    evaluate_episodes: int = 10
    """Episodes of an evaluation."""
    evaluate_s: float = 60.0
    """Length of LaneKeeping's episodes in an evaluation, s."""
    film: bool = True
    """Film the best driver at the end, in worlds of frames."""
    resume: bool = False
    """Go on with the run in --out exactly where its last checkpoint was; give the options of the first run again."""
    json: Path | None = None
    """File for the figures, as JSON; they go to results.json in the run directory anyway."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("steps", "envs", "evaluate_every", "evaluate_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.retry < 1:
            raise ValueError(f"retry must lie in [0, 1), got {self.retry}.")
        if not math.isfinite(self.log_std_init):
            raise ValueError(f"log_std_init must be finite, got {self.log_std_init}.")
        if self.world.resets_per_road != 1:
            raise ValueError(
                "--resets-per-road: every episode of PPO has a seed, and so a road, of its own; leave it out."
            )
        if not 0 <= self.noise_variance < math.inf:
            raise ValueError(f"noise_variance must be at least 0, got {self.noise_variance}.")
        if not 0 < self.evaluate_s < math.inf:
            raise ValueError(f"evaluate_s must be a positive number, got {self.evaluate_s}.")
        for name in ("seed", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")


def defaults_for(options: TrainPPOOptions) -> TrainPPOOptions:
    """Return the options with the defaults that suit the world and the driver to start from; what the command line
    names comes on top of them.
    """  # noqa: D205
    preset = preset_for(options.env)
    lane = options.env == LANE_KEEPING
    world = replace(options.world, **preset.world) if lane else options.world
    core = options.core
    if options.init_from is not None:
        driver = load_policy(find_policy(options.init_from)).config
        core, world = driver.core, _fitting(world, driver) if lane else world
    return replace(
        options,
        core=core,
        steps=preset.steps,
        envs=preset.envs,
        learning=preset.learning,
        critic=preset.networks.get("critic", options.critic),
        log_std_init=preset.networks.get("log_std_init", options.log_std_init),
        use_sde=preset.networks.get("use_sde", options.use_sde),
        normalize_reward=preset.normalize_reward,
        retry=preset.retry,
        evaluate_every=preset.evaluate_every,
        evaluate_episodes=preset.evaluate_episodes,
        world=world,
    )


def run(options: TrainPPOOptions) -> Path:
    """Train, keep the best, measure and film it; returns the run directory."""
    check_json(options.json)
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run to go on with.")
    if options.env != LANE_KEEPING:
        refuse_lane_keeping(options.env, options.world)
    if options.learning.leash and options.init_from is None:
        raise ValueError("--leash holds a policy near the driver that it starts from: give --init-from, or no --leash.")
    driver = _driver(options)
    parts = _parts(options, driver)
    make_env = _env_maker(options, options.world)
    check_learnable(make_env, parts, driver)
    out = new_directory(
        options.out, f"runs/ppo-{options.env.replace('/', '-')}-{options.core}", "config.json", options.resume
    )
    if options.resume:
        check_resume(out, options)
    directory = RunDirectory(out, "train ppo", options, options.resume)
    say(f"everything goes to {out}")
    vector: VecEnv = make_vector_env(make_env, options.envs, options.workers, retry=options.retry)
    try:
        if options.normalize_reward:
            vector = VecNormalize(vector, norm_obs=False, gamma=options.learning.gamma)
        model = _make_learner(options, parts, driver, vector, directory)
        model.record["env"] = options.env
        with progress(f"training {model.actor_critic_config.core}", options.steps, "steps") as bar:
            notes = {"env": options.env, "seed": options.seed}
            judge = _env_maker(options, _judged_in(options))
            keeper = Keeper(judge, directory, bar, options.evaluate_every, options.evaluate_episodes, notes)
            if model.num_timesteps < options.steps:
                left = options.steps - model.num_timesteps
                model.learn(left, keeper, reset_num_timesteps=not options.resume)
            keeper.finish(model)
    finally:
        vector.close()
    return _conclude(options, directory, model)


def _fitting(world: LaneKeepingConfig, driver: PolicyConfig) -> LaneKeepingConfig:
    """Return the world with the frames and the period that a driver is used to."""
    fit = driver.preprocessing
    return replace(world, height=fit.source_height, width=fit.source_width, period_s=driver.nominal_period_s)


def _driver(options: TrainPPOOptions) -> DrivingPolicy | None:
    """Read the driver to start from and check that the options do not ask for another one."""
    if options.init_from is None:
        return None
    driver = load_policy(find_policy(options.init_from))
    if options.core != driver.config.core or options.core_options:
        raise ValueError(
            f"{options.init_from} is a driver with core {driver.config.core}, which learns on as it is: leave out "
            "--core and --core-options."
        )
    fitting = _fitting(options.world, driver.config)
    if options.env == LANE_KEEPING and fitting != options.world:
        raise ValueError(
            f"{options.init_from} is used to {fitting.height}×{fitting.width} pixels every {fitting.period_s:g} s: "
            "leave out --height, --width and --period-s."
        )
    return driver


def _env_maker(options: TrainPPOOptions, world: LaneKeepingConfig) -> Callable[[], gymnasium.Env[Any, Any]]:
    name, noise_variance = options.env, options.noise_variance
    perturbations, largest = options.perturbations, options.largest_severity
    return lambda: make_world(name, world, noise_variance, perturbations, largest)


def _judged_in(options: TrainPPOOptions) -> LaneKeepingConfig:
    """Where the preset makes LaneKeeping easier or harder to learn from, a driver is judged in LaneKeeping as it is."""
    plain, harder = LaneKeepingConfig(), preset_for(options.env).world
    world = options.world
    eased = {name: getattr(plain, name) for name, value in harder.items() if getattr(world, name) == value}
    eased |= {"episode_s": options.evaluate_s, "height": world.height, "width": world.width}
    return replace(world, **eased)


def _parts(options: TrainPPOOptions, driver: DrivingPolicy | None) -> ActorCriticConfig:
    """Return what the networks are made of; a driver to start from brings its own core and head."""
    own = {"critic": options.critic, "log_std_init": options.log_std_init, "use_sde": options.use_sde}
    if driver is not None:
        return config_for(driver, **own)
    networks = {**preset_for(options.env).networks, **own}
    if options.env == LANE_KEEPING:
        networks["nominal_period_s"] = options.world.period_s
    chosen = parse_core_options(options.core, options.core_options)
    return ActorCriticConfig(core=options.core, core_options=chosen, **networks)


def _make_learner(
    options: TrainPPOOptions,
    parts: ActorCriticConfig,
    driver: DrivingPolicy | None,
    vector: VecEnv,
    directory: RunDirectory,
) -> LiquidPPO:
    """Make a learner, or read the one to go on with."""
    board = str(directory.path / "tensorboard")
    if options.resume and (directory.last / FILE).exists():
        model = LiquidPPO.load(directory.last, vector, tensorboard_log=board)
        forget_later(directory, model.num_timesteps)
        return model
    if options.resume:
        say(f"nothing has been kept in {directory.path} yet: the run begins anew")
        forget_later(directory, 0)
    return LiquidPPO(parts, vector, options.learning, init_from=driver, tensorboard_log=board, seed=options.seed)


def _conclude(options: TrainPPOOptions, directory: RunDirectory, model: LiquidPPO) -> Path:
    """Show the best score, write the results, film the driver."""
    line = model.record["best_line"]
    reward = Estimate(line["reward"], line["reward_low"], line["reward_high"])
    row = [model.actor_critic_config.core, show(reward, 1), f"{line['length']:.0f}", f"{line['steps']:,}"]
    columns = ["driver", "reward", "steps an episode", "after steps"]
    if options.env in (LANE_KEEPING, "CarRacing"):
        columns, row = [*columns, "crashes"], [*row, f"{line['crashes']} of {line['episodes']}"]
    table(f"{options.env}: best of the evaluations on {line['episodes']} episodes, 95 % intervals", columns, [row])
    figures = {"directory": str(directory.path), "best": line, "steps": model.num_timesteps}
    if options.env == LANE_KEEPING:
        figures["judged_in"] = to_json(_judged_in(options))
    write_results(directory.path / "results.json", "train ppo", options, figures)
    write_results(options.json, "train ppo", options, figures)
    if options.film and model.policy.is_driver:
        from experiments.film.verb import RenderOptions
        from experiments.film.verb import run as render

        film = RenderOptions((str(directory.policy),), directory.path / "best.mp4", seconds=FILM_S, world=options.world)
        render(film)
    say(f"policy: {directory.policy}")
    return directory.path
