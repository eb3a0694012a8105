"""LiquidPPO: proximal policy optimisation for any core, a Stable-Baselines3 algorithm on the outside.

    model = LiquidPPO("ltc", "CartPole-v1", n_steps=128, critic="own")
    model.learn(20_000, callback=EvalCallback(...), progress_bar=True)
    action, state = model.predict(observation, state, episode_start, deterministic=True)
    model.save("runs/mine/last");  model = LiquidPPO.load("runs/mine/last", env)

`learn`, `predict`, callbacks, VecEnv, VecNormalize, `evaluate_policy` and the names in TensorBoard are those of
Stable-Baselines3. Inside, a rollout (`rollout`) is cut into equal chunks of K steps with the state stored at each one's
start (`buffer`); an update (`update`) runs the head on flat frames and the core on whole sequences, with `starts` and
`elapsed`, in one call. What the networks are made of is in `actor_critic`, how actions are drawn in `distributions`,
what is saved in `checkpoint`; all of them work on a `Learner`.
"""

from __future__ import annotations

import copy
import sys
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HumanOutputFormat, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor

from agents.ppo import checkpoint, update
from agents.ppo.actor_critic import ActorCritic, ActorCriticConfig
from agents.ppo.buffer import RolloutBuffer
from agents.ppo.config import PPOConfig
from agents.ppo.learner import Learner
from agents.ppo.replay import ReplayableEpisodes, seed_envs
from agents.ppo.rollout import Step, collect
from agents.runs.malloc import keep_freed_memory
from agents.runs.reading import damaged
from policies.policy import DrivingPolicy

COUNTERS = ("num_timesteps", "_total_timesteps", "_current_progress_remaining", "_n_updates", "_episode_num")
"""Where Stable-Baselines3 counts, by the names of its attributes."""


class LiquidPPO(BaseAlgorithm):
    """PPO with a recurrent core.

    Attributes:
        learner: networks, optimizer and states; what learns.
        policy: its networks, an `ActorCritic`.
        record: JSON values that are saved with the learner, for whoever trains it.
    """

    policy: ActorCritic  # type: ignore[assignment]
    learner: Learner

    def __init__(
        self,
        policy: str | ActorCriticConfig,
        env: GymEnv | str | None,
        config: PPOConfig | None = None,
        *,
        init_from: DrivingPolicy | None = None,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int = 0,
        device: torch.device | str = "cpu",
        stats_window_size: int = 100,
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
        **overrides: Any,
    ):
        """Make the learner.

        Args:
            policy: name of a core, or what the networks are made of.
            env: a VecEnv (`make_vector_env` makes one that resumes exactly), an env, or the id of one; None needs the
                spaces.
            config: how to learn; the defaults when None.
            init_from: a driver to start from; with `config.imitator_kl_coef` also the one to stay near.
            tensorboard_log: directory of TensorBoard events.
            verbose: 1 prints what is logged.
            seed: of weights, draws and envs; env i gets one of its own from both numbers, so runs share no episodes.
            device: where the networks live.
            stats_window_size: episodes that the logged means are taken over.
            observation_space: of the env, when there is none.
            action_space: of the env, when there is none.
            **overrides: fields of `PPOConfig` and `ActorCriticConfig` to replace.

        Raises:
            ValueError: if an option is unknown or out of range, or an observation or action space is not supported.
        """
        config, parts = config or PPOConfig(), ActorCriticConfig(policy) if isinstance(policy, str) else policy
        ours = {field.name for field in fields(PPOConfig)}
        theirs = {field.name for field in fields(ActorCriticConfig)}
        if unknown := sorted(set(overrides) - ours - theirs):
            raise ValueError(
                f"LiquidPPO has no option {', '.join(unknown)}. It has {', '.join(sorted(ours | theirs))}."
            )
        self._initial_config = replace(config, **{name: value for name, value in overrides.items() if name in ours})
        self.actor_critic_config = replace(parts, **{name: v for name, v in overrides.items() if name in theirs})
        super().__init__(
            policy=ActorCritic,  # type: ignore[arg-type]
            env=env,
            learning_rate=self._initial_config.learning_rate,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            use_sde=self.actor_critic_config.use_sde,
            sde_sample_freq=self._initial_config.sde_sample_freq,
            seed=seed,
        )
        if env is None:
            if observation_space is None or action_space is None:
                raise ValueError("without an env, observation_space and action_space are needed.")
            self.observation_space, self.action_space, self.n_envs = observation_space, action_space, 1
        self._setup_model()
        if init_from is not None:
            self.policy.adopt(init_from)
        if self.config.imitator_kl_coef:
            if init_from is None:
                raise ValueError(
                    "imitator_kl_coef holds a policy near the driver that it starts from: give init_from, or 0."
                )
            self.learner.imitator = copy.deepcopy(init_from).to(self.device).eval().requires_grad_(False)

    def _setup_model(self) -> None:
        """Make networks and optimizer; called by the constructor."""
        assert self.seed is not None
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        networks = ActorCritic(self.actor_critic_config, self.observation_space, self.action_space, self.seed)
        self.policy = networks.to(self.device).eval()
        groups = [{"params": part, "name": name} for name, part in self.policy.parameter_groups().items() if part]
        config = self._initial_config
        optimizer = torch.optim.Adam(groups, lr=config.learning_rate, eps=1e-5, fused=True)
        self.learner = Learner(config, self.policy, optimizer, torch.Generator().manual_seed(self.seed + 1))
        self.record: dict[str, Any] = {}
        self._noise: Tensor | None = None
        self._noise_calls = 0

    @property
    def config(self) -> PPOConfig:
        """How it learns."""
        return self.learner.config

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of the networks; one group each for head, core and critic."""
        return self.learner.optimizer

    @property
    def generator(self) -> torch.Generator:
        """Source of all random draws of the learner."""
        return self.learner.generator

    @property
    def rollout_buffer(self) -> RolloutBuffer:
        """What the last rollout left behind; there is one from `learn` on."""
        assert self.learner.buffer is not None
        return self.learner.buffer

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python's, NumPy's and torch's generators, and the envs by `seed_envs`."""
        super().set_random_seed(seed)
        if seed is not None and self.env is not None:
            seed_envs(self.env, seed)

    # -- learning ------------------------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "LiquidPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> LiquidPPO:
        """Learn for at least so many steps; whole rollouts are made.

        Args:
            total_timesteps: steps of all envs together; on top of those already made unless they are reset.
            callback: as in Stable-Baselines3.
            log_interval: rollouts between two logs.
            tb_log_name: name of the run in TensorBoard.
            reset_num_timesteps: count from 0, in fresh episodes; False continues where training stands.
            progress_bar: show one; needs tqdm and rich.

        Returns:
            The learner.

        Raises:
            ValueError: if there is no env, or the loss is no longer finite.
        """
        if self.env is None:
            raise ValueError("there is no env to learn in: give one to the constructor, to load, or to set_env.")
        if self.tensorboard_log is None and not self._custom_logger:
            # Stable-Baselines3 would make a folder for a logger that writes nothing among the temporary files.
            self.set_logger(Logger(None, [HumanOutputFormat(sys.stdout)] if self.verbose else []))
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if reset_num_timesteps:
            self.learner.rollouts = 0
        if self.device.type == "cpu":
            keep_freed_memory()
        self.learner.allocate(self.n_envs)
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < total_timesteps:
            if not self.collect_rollouts(callback):
                break
            iteration += 1
            # The last rollout may go beyond the end; schedules end there.
            self._update_current_progress_remaining(min(self.num_timesteps, total_timesteps), total_timesteps)
            if log_interval and iteration % log_interval == 0:
                self.dump_logs(iteration)
            self.train()
            self.learner.rollouts += 1
            self.learner.between_rollouts = True
        callback.on_training_end()
        return self

    def collect_rollouts(self, callback: BaseCallback) -> bool:
        """Fill the buffer; returns False if the callback asked to stop."""
        learner, env = self.learner, self.env
        assert env is not None
        learner.observation, learner.starts = self._last_obs, self._last_episode_starts

        def after(step: Step) -> bool:
            # Set before the callback, so that what it saves resumes from here.
            self._last_obs, self._last_episode_starts = learner.observation, learner.starts
            self.num_timesteps += self.n_envs
            self._update_info_buffer(step.infos, step.dones)
            names = {"step": step.number, "rewards": step.rewards, "dones": step.dones, "infos": step.infos}
            callback.update_locals({**names, "new_obs": learner.observation, "env": env, "self": self})
            return callback.on_step()

        callback.on_rollout_start()
        learner.between_rollouts = False
        if not collect(learner, env, after):
            return False
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update the networks from the buffer and log how it went.

        Raises:
            ValueError: if the loss is no longer finite.
        """
        try:
            figures, passes = update.train(self.learner, self._current_progress_remaining)
        except FloatingPointError as error:
            raise ValueError(
                f"{error} after {self.num_timesteps:,} steps: lower the learning rates "
                f"({self.config.learning_rate:g}, core {self.config.core_learning_rate:g}) or check the env's rewards."
            ) from error
        self._n_updates += passes
        for name, value in figures.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, after so many rollouts of this `learn`, under the names of Stable-Baselines3."""
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        log = self.logger
        log.record("time/iterations", iteration, exclude="tensorboard")
        if self.ep_info_buffer:
            log.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            log.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if self.ep_success_buffer:
            log.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        log.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        log.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        log.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        log.dump(step=self.num_timesteps)

    # -- acting --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: NDArray[np.float32] | Tensor | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Choose actions.

        They are drawn as in a rollout: with gSDE the noise is held for `sde_sample_freq` calls; a call without a state
        begins anew.

        Args:
            observation: one observation, or N of them.
            state: `[N, S]` what the last call returned; None at the start.
            episode_start: `[N]` bool; True where an episode begins. None: nowhere, the state says it all.
            deterministic: take the likeliest action instead of drawing one.

        Returns:
            The action, or N of them, and the `[N, S]` state to give to the next call.
        """
        adapter, networks = self.policy.adapter, self.policy
        single = adapter.is_single(observation)
        content, elapsed = adapter(adapter.batched(observation) if single else observation, self.device)
        count = len(content)
        before = networks.fresh_state(count) if state is None else torch.as_tensor(state, device=self.device)
        starts = torch.zeros(count, dtype=torch.bool, device=self.device)
        if episode_start is not None:
            starts = torch.as_tensor(np.asarray(episode_start, bool), device=self.device).reshape(count)
        features = networks.head(content)
        motors, _, after = networks(features[:, None], before, elapsed[:, None], starts[:, None])
        actions = networks.actions.choose(motors[:, 0])
        if not deterministic:
            actions = networks.actions.act(motors[:, 0], features, self._held_noise(count, state is None))
        chosen = networks.actions.to_env(actions)
        return chosen[0] if single else chosen, after.cpu().numpy()

    def _held_noise(self, count: int, begins: bool) -> Tensor:
        """Return the noise `[N, …]` of a call of `predict`; new when acting begins or it was held for long enough."""
        held = self.config.sde_sample_freq if self.actor_critic_config.use_sde else 1
        if self._noise is None or begins or len(self._noise) != count or self._noise_calls >= held:
            self._noise, self._noise_calls = self.policy.actions.draw_noise(count, self.generator), 0
        self._noise_calls += 1
        return self._noise

    # -- saving --------------------------------------------------------------------------------------------------

    def save(  # type: ignore[override]
        self, path: str | Path, exclude: Any = None, include: Any = None, notes: dict[str, Any] | None = None
    ) -> None:
        """Write everything to a directory, and for camera envs the driver beside it; see `checkpoint`.

        What is loaded resumes exactly, unless it was saved in the middle of a rollout: `checkpoint` says when.

        Args:
            path: the directory; made if needed.
            exclude: must be None; all of it is needed.
            include: must be None.
            notes: JSON values to keep with the driver.

        Raises:
            OSError: if it cannot be written; an earlier checkpoint there is still whole.
        """
        if exclude is not None or include is not None:
            raise ValueError("LiquidPPO saves what is needed to resume exactly; leave out exclude and include.")
        assert self.seed is not None
        self.learner.observation, self.learner.starts = self._last_obs, self._last_episode_starts
        books = checkpoint.Books(
            seed=self.seed,
            envs=self.n_envs,
            observation_space=self.observation_space,
            action_space=self.action_space,
            stats_window_size=self._stats_window_size,
            counters={name: getattr(self, name) for name in COUNTERS},
            infos=None if self.ep_info_buffer is None else list(self.ep_info_buffer),
            successes=None if self.ep_success_buffer is None else list(self.ep_success_buffer),
            record=self.record,
        )
        checkpoint.save_learner(self.learner, books, self.env, Path(path), notes)

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | Path, env: GymEnv | None = None, device: torch.device | str = "cpu", **options: Any
    ) -> LiquidPPO:
        """Read what `save` wrote.

        Args:
            path: the directory.
            env: where to continue training; None is enough to act on what the learner saw, which is normalised if a
                `VecNormalize` did that: its figures are put back into the env that is given here. Envs of
                `make_vector_env` continue where they were, other ones begin new episodes.
            device: where the networks live.
            **options: `tensorboard_log`, `verbose`, and fields of `PPOConfig` to use instead of those saved.

        Raises:
            ValueError: if there is no learner, it is corrupt, the env does not fit it, or an option is not one of
                these or out of range.
        """
        directory = Path(path)
        saved = checkpoint.read_learner(directory)
        changed = {field.name: options.pop(field.name) for field in fields(PPOConfig) if field.name in options}
        if unknown := sorted(set(options) - {"tensorboard_log", "verbose"}):
            raise ValueError(
                f"{', '.join(unknown)} cannot be changed when a learner is loaded: expected tensorboard_log, verbose "
                "or fields of PPOConfig."
            )
        config, books = saved.config, saved.books
        made = {"observation_space": books.observation_space, "action_space": books.action_space, **options}
        made |= {"seed": books.seed, "device": device, "stats_window_size": books.stats_window_size}
        with damaged(directory / checkpoint.FILE) if env is None else nullcontext():
            # The imitator comes from the file, not from a driver.
            model = cls(saved.parts, env, replace(config, imitator_kl_coef=0.0), **made)
        if env is None:
            model.n_envs = books.envs  # So that `set_env` takes as many as there were.
        saved.check_spaces(model.observation_space, model.action_space)
        model.learner.config = replace(config, **changed)
        saved.restore(model.learner)
        for name in COUNTERS:
            if name not in books.counters:
                raise checkpoint.LearnerError(f"{directory / checkpoint.FILE} is damaged: it does not count {name}.")
            setattr(model, name, books.counters[name])
        model.record = books.record
        if books.infos is not None and books.successes is not None:
            model.ep_info_buffer = deque(books.infos, maxlen=books.stats_window_size)
            model.ep_success_buffer = deque(books.successes, maxlen=books.stats_window_size)
        if model.env is not None:
            saved.restore_env(model.learner, model.env)
            model._last_obs, model._last_episode_starts = model.learner.observation, model.learner.starts
        return model

    # -- inside --------------------------------------------------------------------------------------------------

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Make a vector env of a single one; frames keep their channels last."""
        if isinstance(env, VecEnv):
            return env
        return DummyVecEnv([lambda: ReplayableEpisodes(Monitor(env) if monitor_wrapper else env)])
