"""`wormwheel train ppo`: learn to drive by trial and error.

    wormwheel train ppo --env LaneKeeping --core ltc
    wormwheel train ppo --env LaneKeeping --init-from runs/demo/policy --imitator-kl-coef 0.1 --noise-variance 0.1
    wormwheel train ppo --env CartPole-memory --core cfc --steps 50000

The best policy on episodes with other seeds is `policy/` in the run directory, the learner itself `last/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tyro.conf import arg

from agents.driving.car import car_of_world
from agents.driving.recorded_world import RecordedWorld, RigOptions, World, recorded_world
from agents.ppo.actor_critic import ActorCritic, ActorCriticConfig, config_for
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.config import PPOConfig
from agents.ppo.envs import make_world
from agents.ppo.evaluate import EVALUATION_SEED, MiddleAction, evaluate, mean_reward
from agents.ppo.presets import preset_for
from agents.ppo.replay import make_vector_env
from agents.recordings.options import ReadOptions
from agents.runs.checkpoints import newest_whole
from agents.runs.device import check_device
from agents.runs.directory import RunDirectory, check_directory, open_run, to_json
from agents.runs.events import write_hyperparameters
from envs.driving.env import period_of
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import (
    check_json,
    new_directory,
    progress,
    say,
    say_next,
    show,
    table,
    with_tracks,
    write_results,
)
from experiments.options import check_resume, parse_core_options, refuse_unused
from experiments.policy_paths import LANE_KEEPING, find_policy, refuse_lane_keeping
from experiments.robustness.provenance import fingerprint_roads
from experiments.train_ppo_callback import EvalCheckpointCallback, reconcile_logs
from experiments.training_runs import OnPoint, check_mirror, dead_learner, mirrored, run_seeds, saved_estimate
from policies.car import CarInfo
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy, PolicyConfig

VERB = "train ppo"
RECORDED = "Recorded"
"""World that is made of recordings."""
FREE = (
    *("out", "steps", "workers", "evaluate_every", "keep_checkpoints", "film", "trust", "resume", "json"),
    *("device", "wandb", "dead_exit_code"),
)
"""Options that may change when a run is resumed; not those of evaluations, which the best so far
is compared by."""


def check_learnable(
    make_env: Callable[[], gymnasium.Env[Any, Any]],
    parts: ActorCriticConfig,
    driver: DrivingPolicy | None,
    period_s: float,
) -> None:
    """Check that a world can be made and that networks of some parts fit it, and a driver to start from them.

    Args:
        make_env: makes the world.
        parts: of the networks.
        driver: to start from, or None.
        period_s: time between two frames of the world, s.

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
        used_to_s = driver.config.nominal_period_s
        if not math.isclose(used_to_s, period_s, rel_tol=1e-3):
            raise ValueError(
                f"the driver to start from is used to a frame every {used_to_s:g} s, this world shows one every "
                f"{period_s:g} s: start from a driver of this world."
            )


FILM_S = 20.0
"""Length of the film of the best driver, seconds."""


@dataclass(frozen=True, config={"extra": "forbid"})
class TrainPPOOptions:
    """Train a driver by trial and error, with PPO.

    Defaults of the learning options are those of the world's preset (agents/ppo/presets.py); what was chosen is in the
    run directory's config.json.
    """

    env: str = "LaneKeeping"
    """World: LaneKeeping, Recorded (along --data), CarRacing (steering only), CarRacing-v3, CartPole-memory, or an id
    of Gymnasium."""
    data: tuple[Path, ...] = ()
    """With --env Recorded: recordings to drive along."""
    rig: RigOptions = RigOptions()
    """With --env Recorded: camera and car of the recordings."""
    reading: ReadOptions = ReadOptions()
    """With --env Recorded: how they are read."""
    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: tuple[str, ...] = ()
    """NAME=VALUE for fields of the core's own config, such as units=19."""
    out: Path | None = None
    """Run directory; runs/ppo-ENV-CORE, with a number added if that is taken, when not given."""
    steps: Annotated[int, Field(ge=1, le=10_000_000_000)] = 100_000
    """Steps of all envs together."""
    envs: Annotated[int, Field(gt=0, le=65_536)] = 8
    """Envs side by side."""
    workers: NonNegativeInt = 0
    """Processes that step the envs, which share memory with the learner; 0 steps them in the learner's own. What is
    learnt is the same. `python -m experiments.benchmarks.ppo --vector-envs` measures what is faster."""
    seed: NonNegativeInt = 0
    """Seed of weights, draws and training episodes; runs of different seeds share no road."""
    learning: Annotated[PPOConfig, arg(name="")] = PPOConfig()
    """How to learn."""
    critic: Literal["features", "shared", "own"] = "features"
    """What judges: an MLP on the features, the same on the motor outputs too, or a core of its own."""
    log_std_init: Annotated[float, Field(allow_inf_nan=False)] = -0.5
    """Initial logarithm of the actions' spread, in units of half an action's range."""
    use_sde: bool = False
    """Let the spread depend on what is seen, and hold a push for --sde-sample-freq steps (gSDE)."""
    normalize_reward: bool = True
    """Divide rewards by the running deviation of the discounted return."""
    replay_failed_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a training episode which was terminated is replayed: what is difficult comes more often."""
    init_from: Path | None = None
    """Directory of a driver to start from; core, head, frames and period are its own then."""
    noise_variance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
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
    evaluate_every: PositiveInt = 20_000
    """Steps between two evaluations on other seeds; the best and the last learner are kept then."""
    evaluate_episodes: Annotated[int, Field(gt=0, le=1_000_000)] = 10
    """Episodes of an evaluation."""
    evaluate_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Length of LaneKeeping's episodes in an evaluation, s."""
    keep_checkpoints: Annotated[int, Field(gt=0, le=1000)] = 2
    """Checkpoints of the last evaluations that are kept, besides the best policy; a resumed run takes the newest that
    is whole."""
    film: bool = True
    """Film the best driver at the end, in worlds of frames."""
    seeds: tuple[NonNegativeInt, ...] = ()
    """Train once for each of these seeds instead of --seed, each in a directory seed-N in --out; `robustness` takes
    --out as one driver with so many runs."""
    device: str = "cpu"
    """Where the networks train: cpu, cuda or cuda:N."""
    wandb: str | None = None
    """Project of Weights & Biases that the figures go to as well; needs the extra `wandb`."""
    dead_exit_code: Annotated[int, Field(ge=0, le=125)] = 0
    """Exit code when the driver turns out no better than steering that is always the same; a warning names it in any
    case."""
    trust: bool = False
    """Take an --env of the form MODULE:ID, for which the module is imported and its code runs."""
    resume: bool = False
    """Resume the run in --out exactly where its last checkpoint was; give the options of the first run again."""
    json: Path | None = None
    """File for the figures, as JSON; they go to results.json in the run directory anyway."""

    def __post_init__(self) -> None:
        """Check that recordings are given where they are driven along, and that every episode has its own road."""
        if (self.env == RECORDED) != bool(self.data):
            raise ValueError("--env Recorded and --data go together: give both or none.")
        if self.env != RECORDED and (self.rig, self.reading) != (RigOptions(), ReadOptions()):
            raise ValueError(
                f"--rig… and --reading… are for recordings, not for {self.env}: leave them out, or give --env Recorded."
            )
        if self.world.resets_per_road != 1:
            raise ValueError(
                "--resets-per-road: every episode of PPO has a seed, and so a road, of its own; leave it out."
            )


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
        replay_failed_prob=preset.replay_failed_prob,
        evaluate_every=preset.evaluate_every,
        evaluate_episodes=preset.evaluate_episodes,
        world=world,
    )


def run(options: TrainPPOOptions, on_point: OnPoint | None = None) -> Path | int:
    """Train, keep the best, measure and film it.

    Args:
        options: of the verb.
        on_point: called after each evaluation with the steps made and the negative mean reward.

    Returns:
        The run directory, or the exit code for a driver that has learnt nothing.
    """
    check_json(options.json)
    check_device(options.device)
    check_mirror(options.wandb)
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run.")
    if options.env != LANE_KEEPING:
        refuse_lane_keeping(options.env, options.world, ("episode_s",) if options.env == RECORDED else ())
    if options.learning.imitator_kl_coef and options.init_from is None:
        raise ValueError(
            "--imitator-kl-coef holds a policy near the driver that it starts from: give --init-from, or leave it out."
        )
    _refuse_unused(options)
    driver = _driver(options)
    world = _world(options, driver)
    make_env = _env_maker(options, world)
    period_s = _period_s(options, world, make_env)
    parts = _parts(options, driver, car_of_world(make_env), period_s)
    check_learnable(make_env, parts, driver, period_s)
    if options.workers > options.envs:
        raise ValueError(
            f"workers must be at most the {options.envs} envs that they step, got {options.workers}; 0 steps them in "
            "the learner's own process."
        )
    code = world.code if isinstance(world, RecordedWorld) else fingerprint_roads(world)
    if options.seeds:
        return run_seeds(
            VERB, options, FREE, lambda seed, out, resume: run(_with_seed(options, seed, out, resume)), code
        )
    out = new_directory(options.out, f"runs/ppo-{options.env.replace('/', '-')}-{options.core}")
    check_directory(out, VERB, options.resume)
    if options.resume:
        check_resume(out, options, FREE)
    judge = _env_maker(options, _judged_in(options, world))
    with open_run(out, VERB, options, options.resume, fingerprint=code) as directory:
        say(f"everything goes to {out}")
        with mirrored(directory, options.wandb, options):
            model = _train(options, parts, driver, make_env, judge, directory, on_point)
            return _conclude(options, directory, model, judge)


def _refuse_unused(options: TrainPPOOptions) -> None:
    """Check that no option is set that changes nothing beside the others."""
    learning, usual = options.learning, preset_for(options.env).learning
    if not options.use_sde:
        refuse_unused(learning, ("sde_sample_freq",), "noise is held with --use-sde alone", usual)
    if not learning.imitator_kl_coef:
        refuse_unused(learning, ("imitator_kl_coef_end",), "--imitator-kl-coef is 0", usual)
    if not options.perturbations:
        refuse_unused(options, ("largest_severity",), "no --perturbations are given")
    if options.env != LANE_KEEPING:
        refuse_unused(options, ("evaluate_s",), f"it is the length of LaneKeeping's episodes, not of {options.env}'s")
    if options.seeds:
        refuse_unused(options, ("seed",), "--seeds names them")


def _with_seed(options: TrainPPOOptions, seed: int, out: Path, resume: bool) -> TrainPPOOptions:
    return replace(options, seeds=(), seed=seed, out=out, resume=resume, json=None)


def _train(
    options: TrainPPOOptions,
    parts: ActorCriticConfig,
    driver: DrivingPolicy | None,
    make_env: Callable[[], gymnasium.Env[Any, Any]],
    judge: Callable[[], gymnasium.Env[Any, Any]],
    directory: RunDirectory,
    on_point: OnPoint | None,
) -> LiquidPPO:
    """Train in a directory; returns the learner at its last step. `judge` makes the envs of the evaluations."""
    vector: VecEnv = make_vector_env(make_env, options.envs, options.workers, options.replay_failed_prob)
    try:
        if options.normalize_reward:
            vector = VecNormalize(vector, norm_obs=False, gamma=options.learning.gamma)
        model = _make_learner(options, parts, driver, vector, directory)
        model.record["env"] = options.env
        directory.begin()
        with progress(f"training {model.actor_critic_config.core}", options.steps, "steps") as bar:
            notes = {"env": options.env, "seed": options.seed}
            keeper = EvalCheckpointCallback(
                judge,
                directory,
                bar,
                options.evaluate_every,
                options.evaluate_episodes,
                options.keep_checkpoints,
                notes,
                on_point,
            )
            if model.num_timesteps < options.steps:
                left = options.steps - model.num_timesteps
                model.learn(left, keeper, reset_num_timesteps=model.num_timesteps == 0)
            keeper.finish(model)
    finally:
        vector.close()
    return model


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
            f"{options.init_from} is a driver with core {driver.config.core}, which is trained as it is: leave out "
            "--core and --core-options."
        )
    fitting = _fitting(options.world, driver.config)
    if options.env == LANE_KEEPING and fitting != options.world:
        raise ValueError(
            f"{options.init_from} is used to {fitting.height}×{fitting.width} pixels every {fitting.period_s:g} s: "
            "leave out --height, --width and --period-s."
        )
    return driver


def _world(options: TrainPPOOptions, driver: DrivingPolicy | None) -> World:
    """Return where the driver learns; along recordings, one to start from acts at the period that it is used to."""
    if options.env == RECORDED:
        more: dict[str, Any] = {} if driver is None else {"period_s": driver.config.nominal_period_s}
        return recorded_world(
            options.data, options.rig, options.reading, say, episode_s=options.world.episode_s, **more
        )
    return with_tracks(options.world)


def _period_s(options: TrainPPOOptions, world: World, make_env: Callable[[], gymnasium.Env[Any, Any]]) -> float:
    """Return the time between two actions, s, in which a driver's elapsed time counts: the preset's, or the env's."""
    if options.env in (LANE_KEEPING, RECORDED):
        return world.period_s
    env = make_env()
    try:
        return float(preset_for(options.env).networks.get("nominal_period_s", period_of(env)))
    finally:
        env.close()


def _env_maker(options: TrainPPOOptions, world: World) -> Callable[[], gymnasium.Env[Any, Any]]:
    name, noise_variance = options.env, options.noise_variance
    perturbations, largest = options.perturbations, options.largest_severity
    trust = options.trust
    return lambda: make_world(name, world, noise_variance, perturbations, largest, trust)


def _judged_in(options: TrainPPOOptions, world: World) -> World:
    """Where the preset makes LaneKeeping easier or harder to learn from, a driver is judged in LaneKeeping as it is."""
    if isinstance(world, RecordedWorld):
        return world
    plain, harder = LaneKeepingConfig(), preset_for(options.env).world
    eased = {name: getattr(plain, name) for name, value in harder.items() if getattr(world, name) == value}
    eased |= {"episode_s": options.evaluate_s, "height": world.height, "width": world.width}
    return replace(world, **eased)


def _parts(
    options: TrainPPOOptions, driver: DrivingPolicy | None, car: CarInfo | None, period_s: float
) -> ActorCriticConfig:
    """Return what the networks are made of; a driver to start from brings its own core, head and period."""
    own: dict[str, Any] = {"critic": options.critic, "log_std_init": options.log_std_init, "use_sde": options.use_sde}
    own |= {"car": car} if car is not None else {}
    if driver is not None:
        return config_for(driver, **own)
    networks = {**preset_for(options.env).networks, **own, "nominal_period_s": period_s}
    chosen = parse_core_options(options.core, options.core_options)
    return ActorCriticConfig(core=options.core, core_options=chosen, **networks)


def _make_learner(
    options: TrainPPOOptions,
    parts: ActorCriticConfig,
    driver: DrivingPolicy | None,
    vector: VecEnv,
    directory: RunDirectory,
) -> LiquidPPO:
    """Make a learner, or read the one to resume."""
    board = str(directory.tensorboard)
    checkpoint = newest_whole(directory.last) if options.resume else None
    if checkpoint is None:
        if options.resume:
            say(f"{directory.path} holds no checkpoint yet: the run starts from the beginning")
            reconcile_logs(directory, 0, [])
        return LiquidPPO(
            parts,
            vector,
            options.learning,
            init_from=driver,
            tensorboard_log=board,
            seed=options.seed,
            device=options.device,
        )
    model = LiquidPPO.load(checkpoint, vector, options.device, tensorboard_log=board)
    model.record["lines"] = reconcile_logs(directory, model.num_timesteps, model.record.get("lines"))
    return model


def _conclude(
    options: TrainPPOOptions, directory: RunDirectory, model: LiquidPPO, judge: Callable[[], gymnasium.Env[Any, Any]]
) -> Path | int:
    """Show the best score, write the results, film the driver; returns the directory or an exit code."""
    line = model.record["best_line"]
    reward = saved_estimate({"value": line["reward"], "low": line["reward_low"], "high": line["reward_high"]})
    row = [model.actor_critic_config.core, show(reward, 1), f"{line['length']:.0f}", f"{line['steps']:,}"]
    columns = ["driver", "reward", "steps an episode", "after steps"]
    if options.env in (LANE_KEEPING, RECORDED, "CarRacing"):
        columns, row = [*columns, "crashes"], [*row, f"{line['crashes']} of {line['episodes']}"]
    table(f"{options.env}: best of the evaluations on {line['episodes']} episodes, 95 % intervals", columns, [row])
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + options.evaluate_episodes)
    straight = mean_reward(evaluate(MiddleAction(model.action_space), judge, seeds))
    dead = dead_learner(model.actor_critic_config.core, line["reward"], straight.value)
    figures = {"directory": str(directory.path), "best": line, "steps": model.num_timesteps}
    figures |= {"straight": straight, "dead": bool(dead)}
    measured = {"best_reward": line["reward"], "best_at": line["steps"]}
    write_hyperparameters(directory.tensorboard, to_json(options), measured)
    if options.env == LANE_KEEPING:
        figures["judged_in"] = to_json(_judged_in(options, options.world))
    write_results(directory.path / "results.json", VERB, options, figures)
    write_results(options.json, VERB, options, figures)
    if options.film and model.policy.is_driver and options.env != RECORDED:
        from agents.driving.driver_options import DriverOptions
        from experiments.film.verb import RenderOptions
        from experiments.film.verb import run as render

        trusted = DriverOptions(trust=options.trust)
        place = replace(options.world, episode_s=LaneKeepingConfig().episode_s)  # a film says its own length
        film = RenderOptions(
            (str(directory.policy),), directory.path / "best.mp4", seconds=FILM_S, world=place, driver=trusted
        )
        render(film)
    say(f"policy: {directory.policy}")
    if dead:
        say(dead)
    elif options.env == RECORDED:
        say_next("to drive it", "evaluate", "--policy", directory.path, "--env", RECORDED, "--data", *options.data)
    else:
        trust = ["--trust"] if options.trust else []
        say_next("to drive it on other seeds", "evaluate", "--policy", directory.path, *trust)
    return options.dead_exit_code if dead and options.dead_exit_code else directory.path
