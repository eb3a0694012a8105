"""LiquidPPO: proximal policy optimisation for any core, a Stable-Baselines3 algorithm on the outside.

    model = LiquidPPO("ltc", "CartPole-v1", n_steps=128, critic="own")
    model.learn(20_000, callback=EvalCallback(...), progress_bar=True)
    action, state = model.predict(observation, state, episode_start, deterministic=True)
    model.save("runs/mine/last");  model = LiquidPPO.load("runs/mine/last", env)

`learn`, `predict`, callbacks, VecEnv, VecNormalize, `evaluate_policy` and the names in TensorBoard are those of
Stable-Baselines3. Inside, a rollout is cut into equal chunks of K steps with the state stored at each one's start; an
update runs the head on flat frames and the core on whole sequences, with `starts` and `elapsed`, in one call.
"""

from __future__ import annotations

import copy
import math
import sys
import time
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
from stable_baselines3.common.utils import explained_variance, safe_mean
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor

from agents import ppo_checkpoint
from agents.ppo_buffer import Chunks, RolloutBuffer
from agents.ppo_config import PPOConfig, scheduled
from agents.ppo_episodes import ReplayableEpisodes
from agents.ppo_policy import ActorCritic, ActorCriticConfig
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
            seed: of weights, draws and env.
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
        groups = [{"params": group} for group in self.policy.parameter_groups() if group]
        self.optimizer = torch.optim.Adam(groups, lr=self.config.learning_rate, eps=1e-5, fused=True)
        self._state: Tensor | None = None
        self._imitator_state: Tensor | None = None
        self._rollouts = 0
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
        self._make_room()
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
        callback.on_training_end()
        return self

    @torch.no_grad()
    def collect_rollouts(self, callback: BaseCallback) -> bool:
        """Let the policy act for `n_steps` steps in every env and fill the buffer.

        Returns:
            False if a callback asked to stop; the buffer is incomplete then.
        """
        env, networks, buffer = self.env, self.policy, self.rollout_buffer
        assert env is not None and self._state is not None and self._last_episode_starts is not None
        callback.on_rollout_start()
        for step in range(self.config.n_steps):
            content, elapsed, starts = self._see()
            if step % self.config.chunk == 0:
                buffer.state[:, step // self.config.chunk] = self._state
            motors, values, self._state = networks(
                networks.head(content)[:, None], self._state, elapsed[:, None], starts[:, None]
            )
            actions, log_prob = networks.sample(motors[:, 0], self.generator)
            if self.imitator is not None:
                buffer.imitator[:, step] = self._imitate(content, elapsed, starts)
            new_obs, rewards, dones, infos = env.step(networks.to_env(actions))

            buffer.content[:, step], buffer.elapsed[:, step], buffer.starts[:, step] = content, elapsed, starts
            buffer.actions[:, step], buffer.log_prob[:, step], buffer.values[:, step] = actions, log_prob, values[:, 0]
            buffer.rewards[:, step] = torch.as_tensor(rewards + self.config.gamma * self._cut_off(infos, dones))
            buffer.ends[:, step] = torch.as_tensor(dones)
            # Set before the callback, so that what it saves goes on from here.
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            self.num_timesteps += env.num_envs
            self._update_info_buffer(infos, dones)
            callback.update_locals(locals())
            if not callback.on_step():
                return False
        content, elapsed, starts = self._see()
        _, values, _ = networks(networks.head(content)[:, None], self._state, elapsed[:, None], starts[:, None])
        buffer.finish(values[:, 0], self.config.gamma, self.config.gae_lambda)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update the networks from the buffer."""
        config, networks, remaining = self.config, self.policy, self._current_progress_remaining
        clip_range = scheduled(config.clip_range, config.clip_range_end, remaining)
        leash = scheduled(config.leash, config.leash_end, remaining)
        rates = self._set_learning_rates(remaining)
        only_critic = self._rollouts < config.critic_warmup
        records: list[dict[str, float]] = []
        go_on = True
        for _ in range(config.n_epochs):
            for batch in self.rollout_buffer.minibatches(config.batch_size, self.generator):
                motors, values = self.evaluate(batch, critic_trains_head=not only_critic)
                advantages = batch.advantages
                if config.normalize_advantage:
                    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
                log_ratio = networks.log_prob(motors, batch.actions) - batch.log_prob
                ratio = log_ratio.exp()
                clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
                policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
                if config.clip_range_vf:
                    change = (values - batch.values).clamp(-config.clip_range_vf, config.clip_range_vf)
                    values = batch.values + change
                value_loss = (values - batch.returns).square().mean()
                entropy_loss = -networks.entropy(motors).mean()
                loss = config.vf_coef * value_loss
                if not only_critic:
                    loss = loss + policy_loss + config.ent_coef * entropy_loss
                    if self.imitator is not None:
                        loss = loss + leash * networks.divergence(motors, batch.imitator).mean()
                record = {
                    "loss": loss.item(),
                    "policy_gradient_loss": policy_loss.item(),
                    "value_loss": value_loss.item(),
                    "entropy_loss": entropy_loss.item(),
                    "approx_kl": (ratio.detach() - 1 - log_ratio.detach()).mean().item(),
                    "clip_fraction": ((ratio.detach() - 1).abs() > clip_range).float().mean().item(),
                }
                records.append(record)
                if not math.isfinite(record["loss"]):
                    raise ValueError(
                        f"the loss is no longer finite after {self.num_timesteps:,} steps: lower the learning rates "
                        f"({config.learning_rate:g}, core {config.core_learning_rate:g}) or check the env's rewards."
                    )
                if config.target_kl and record["approx_kl"] > 1.5 * config.target_kl:
                    go_on = False
                    break
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for group in self.optimizer.param_groups:
                    torch.nn.utils.clip_grad_norm_(group["params"], config.max_grad_norm)
                self.optimizer.step()
            self._n_updates += 1
            if not go_on:
                break
        for name in records[0]:
            self.logger.record(f"train/{name}", float(np.mean([record[name] for record in records])))
        buffer = self.rollout_buffer
        explained = explained_variance(buffer.values.flatten().cpu().numpy(), buffer.returns.flatten().cpu().numpy())
        self.logger.record("train/explained_variance", float(explained))
        if networks.log_std is not None:
            self.logger.record("train/std", networks.log_std.detach().exp().mean().item())
        if self.imitator is not None:
            self.logger.record("train/leash", leash)
        self.logger.record("train/learning_rate", rates[0])
        self.logger.record("train/core_learning_rate", rates[1])
        self.logger.record("train/clip_range", clip_range)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def evaluate(self, batch: Chunks, critic_trains_head: bool = True) -> tuple[Tensor, Tensor]:
        """Run the networks on a minibatch: motor outputs `[B, K, M]` and values `[B, K]`."""
        features = self.policy.head(batch.content.flatten(0, 1)).unflatten(0, batch.elapsed.shape)  # [B, K, F]
        motors, values, _ = self.policy(features, batch.state, batch.elapsed, batch.starts, critic_trains_head)
        return motors, values

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, under the names that Stable-Baselines3 uses."""
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        self.logger.record("time/iterations", iteration, exclude="tensorboard")
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

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
        motors, _, after = networks(networks.head(content)[:, None], before, elapsed[:, None], starts[:, None])
        if deterministic:
            actions = networks.choose(motors[:, 0])
        else:
            actions, _ = networks.sample(motors[:, 0], self.generator)
        chosen = networks.to_env(actions)
        return chosen[0] if single else chosen, after.cpu().numpy()

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, exclude: Any = None, include: Any = None) -> None:  # type: ignore[override]
        """Write everything to a directory, and for camera envs the driver beside it; see `ppo_checkpoint`.

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
            env: where to go on learning; None is enough to act. Envs of `make_vector_env` go on where they were,
                other ones begin new episodes.
            device: where the networks live.
            **options: `tensorboard_log` and `verbose` of the constructor.

        Raises:
            ValueError: if there is no learner, it is corrupt, or the env does not fit it.
        """
        return ppo_checkpoint.load_learner(cls, Path(path), env, device, **options)

    # -- inside --------------------------------------------------------------------------------------------------

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Make a vector env of a single one; frames keep their channels last."""
        if isinstance(env, VecEnv):
            return env
        return DummyVecEnv([lambda: ReplayableEpisodes(Monitor(env) if monitor_wrapper else env)])

    def _make_room(self) -> None:
        """Allocate buffer and states for the env."""
        networks = self.policy
        if self._state is None or len(self._state) != self.n_envs:
            self._state = networks.fresh_state(self.n_envs)
            self._imitator_state = None
        motors = networks.core.output_size
        actions = ((), torch.int64) if networks.is_discrete else ((motors,), torch.float32)
        self.rollout_buffer = RolloutBuffer(
            envs=self.n_envs,
            steps=self.config.n_steps,
            chunk=self.config.chunk,
            content=(networks.adapter.shape, networks.adapter.dtype),
            actions=actions,
            state_size=networks.state_size,
            imitator_motors=motors if self.imitator is not None else 0,
            device=self.device,
        )

    def _see(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return content, elapsed time and start flags of the last observations."""
        content, elapsed = self.policy.adapter(self._last_obs, self.device)
        return content, elapsed, torch.as_tensor(self._last_episode_starts, dtype=torch.bool, device=self.device)

    def _imitate(self, content: Tensor, elapsed: Tensor, starts: Tensor) -> Tensor:
        """Return the imitator's motor outputs `[N, M]` and carry its state on."""
        assert self.imitator is not None
        motors, self._imitator_state = self.imitator.motors(
            content[:, None], self._imitator_state, elapsed[:, None], starts[:, None]
        )
        return motors[:, 0]

    def _cut_off(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return `[N]` the value of what lies behind a time limit, 0 elsewhere; an end that is an end is worth 0."""
        values = np.zeros(len(dones), np.float32)
        cut = [int(n) for n in np.flatnonzero(dones) if infos[n].get("TimeLimit.truncated", False)]
        if cut:
            assert self._state is not None
            last = [infos[n]["terminal_observation"] for n in cut]
            if isinstance(self.observation_space, spaces.Dict):
                content, elapsed = self.policy.adapter({key: np.stack([one[key] for one in last]) for key in last[0]})
            else:
                content, elapsed = self.policy.adapter(np.stack(last))
            content, elapsed = content.to(self.device), elapsed.to(self.device)
            features = self.policy.head(content)[:, None]
            no_starts = torch.zeros(len(cut), 1, dtype=torch.bool, device=self.device)
            _, behind, _ = self.policy(features, self._state[cut], elapsed[:, None], no_starts)
            values[cut] = behind[:, 0].cpu().numpy()
        return values

    def _set_learning_rates(self, remaining: float) -> tuple[float, float]:
        """Set the rates of head, core and critic; return those of head and core."""
        config = self.config
        rate, core_rate = (
            scheduled(start, config.learning_rate_end, remaining)
            for start in (config.learning_rate, config.core_learning_rate)
        )
        core = {id(p) for p in self.policy.core.parameters()} | {id(self.policy.log_std)}
        for group in self.optimizer.param_groups:
            group["lr"] = core_rate if id(group["params"][0]) in core else rate
        return rate, core_rate
