"""LiquidPPO: proximal policy optimisation for any core, a Stable-Baselines3 algorithm on the outside.

    model = LiquidPPO("ltc", "CartPole-v1", n_steps=128, critic="own")
    model.learn(20_000, callback=EvalCallback(...), progress_bar=True)
    action, state = model.predict(observation, state, episode_start, deterministic=True)
    model.save("runs/mine/last");  model = LiquidPPO.load("runs/mine/last", env)

`learn`, `predict`, callbacks, VecEnv, VecNormalize, `evaluate_policy` and the names in TensorBoard are those of
Stable-Baselines3. Inside, a rollout (`ppo_rollout`) is cut into equal chunks of K steps with the state stored at each
one's start (`ppo_buffer`); an update (`ppo_training`, `ppo_update`) runs the head on flat frames and the core on whole
sequences, with `starts` and `elapsed`, in one call. What the networks are made of is in `ppo_policy`, how actions are
drawn in `ppo_actions`, what is saved in `ppo_checkpoint`.
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor

from agents.ppo import checkpoint as ppo_checkpoint
from agents.ppo import update as ppo_training
from agents.ppo.actor_critic import ActorCritic, ActorCriticConfig
from agents.ppo.config import PPOConfig
from agents.ppo.replay import ReplayableEpisodes
from agents.ppo.rollout import RolloutBuffer, collect, make_room
from agents.runs.malloc import keep_freed_memory
from policies.policy import DrivingPolicy


class LiquidPPO(BaseAlgorithm):
    """PPO with a recurrent core.

    Attributes:
        policy: the networks, an `ActorCritic`.
        config: how it learns.
        rollout_buffer: what the last rollout left behind.
        imitator: the driver that the policy is leashed to, or None.
        generator: owner of all random draws of the learner.
        record: JSON values that are saved with the learner, for whoever trains it.
    """

    policy: ActorCritic  # type: ignore[assignment]
    rollout_buffer: RolloutBuffer

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
            init_from: a driver to start from; with `config.leash` also the one to stay near.
            tensorboard_log: directory of TensorBoard events.
            verbose: 1 prints what is logged.
            seed: of weights, draws and envs; as in Stable-Baselines3, env i gets seed + i, so runs whose seeds are
                closer than they have envs share episodes.
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
        self.config = replace(config, **{name: value for name, value in overrides.items() if name in ours})
        self.actor_critic_config = replace(parts, **{name: v for name, v in overrides.items() if name in theirs})
        super().__init__(
            policy=ActorCritic,  # type: ignore[arg-type]
            env=env,
            learning_rate=self.config.learning_rate,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            use_sde=self.actor_critic_config.use_sde,
            sde_sample_freq=self.config.sde_sample_freq,
            seed=seed,
        )
        if env is None:
            if observation_space is None or action_space is None:
                raise ValueError("without an env, observation_space and action_space are needed.")
            self.observation_space, self.action_space, self.n_envs = observation_space, action_space, 1
        self.imitator: DrivingPolicy | None = None
        self._setup_model()
        if init_from is not None:
            self.policy.adopt(init_from)
        if self.config.leash:
            if init_from is None:
                raise ValueError(
                    "leash holds a policy near the driver that it starts from: give init_from, or leash 0."
                )
            self.imitator = copy.deepcopy(init_from).to(self.device).eval().requires_grad_(False)

    def _setup_model(self) -> None:
        """Make networks and optimizer; called by the constructor."""
        assert self.seed is not None
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed + 1)
        networks = ActorCritic(self.actor_critic_config, self.observation_space, self.action_space, self.seed)
        # Always in evaluation mode: dropout would make the probabilities of an update differ from the rollout's.
        self.policy = networks.to(self.device).eval()
        groups = [{"params": part, "name": name} for name, part in self.policy.parameter_groups().items() if part]
        self.optimizer = torch.optim.Adam(groups, lr=self.config.learning_rate, eps=1e-5, fused=True)
        self._state: Tensor | None = None
        self._imitator_state: Tensor | None = None
        self._rollouts = 0
        self._between_rollouts = True
        self.record: dict[str, Any] = {}

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
            reset_num_timesteps: begin anew with fresh episodes; False goes on where training stands.
            progress_bar: show one; needs tqdm and rich.

        Returns:
            The learner.

        Raises:
            ValueError: if there is no env, or the loss is no longer finite.
        """
        if self.env is None:
            raise ValueError("there is no env to learn in: give one to the constructor, to load, or to set_env.")
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if reset_num_timesteps:
            self._rollouts = 0
        if self.device.type == "cpu":
            keep_freed_memory()
        make_room(self)
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < total_timesteps:
            if not self.collect_rollouts(callback):
                break
            iteration += 1
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if log_interval and iteration % log_interval == 0:
                self.dump_logs(iteration)
            self.train()
            self._rollouts += 1
            self._between_rollouts = True
        callback.on_training_end()
        return self

    def collect_rollouts(self, callback: BaseCallback) -> bool:
        """Fill the buffer; see `ppo_rollout.collect`."""
        return collect(self, callback)

    def train(self) -> None:
        """Update the networks from the buffer; see `ppo_training.train`."""
        ppo_training.train(self)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log; see `ppo_training.write_log`."""
        ppo_training.write_log(self, iteration)

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
            noise = networks.actions.draw_noise(count, self.generator)
            actions = networks.actions.act(motors[:, 0], features, noise)
        chosen = networks.actions.to_env(actions)
        return chosen[0] if single else chosen, after.cpu().numpy()

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, exclude: Any = None, include: Any = None) -> None:  # type: ignore[override]
        """Write everything to a directory, and for camera envs the driver beside it; see `ppo_checkpoint`.

        What is loaded goes on exactly, unless it was saved in the middle of a rollout: `ppo_checkpoint` tells when.

        Args:
            path: the directory; made if needed.
            exclude: must be None; all of it is needed.
            include: must be None.

        Raises:
            OSError: if it cannot be written; an earlier checkpoint there is still whole.
        """
        if exclude is not None or include is not None:
            raise ValueError("LiquidPPO saves what is needed to go on exactly; leave out exclude and include.")
        ppo_checkpoint.save_learner(self, Path(path))

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | Path, env: GymEnv | None = None, device: torch.device | str = "cpu", **options: Any
    ) -> LiquidPPO:
        """Read what `save` wrote.

        Args:
            path: the directory.
            env: where to go on learning; None is enough to act on what the learner saw, which is normalised if a
                `VecNormalize` did that: its figures are put back into the env that is given here. Envs of
                `make_vector_env` go on where they were, other ones begin new episodes.
            device: where the networks live.
            **options: `tensorboard_log`, `verbose`, and fields of `PPOConfig` to go on with instead of those saved.

        Raises:
            ValueError: if there is no learner, it is corrupt, the env does not fit it, or an option is another one.
        """
        return ppo_checkpoint.load_learner(cls, Path(path), env, device, **options)

    # -- inside --------------------------------------------------------------------------------------------------

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Make a vector env of a single one; frames keep their channels last."""
        if isinstance(env, VecEnv):
            return env
        return DummyVecEnv([lambda: ReplayableEpisodes(Monitor(env) if monitor_wrapper else env)])
