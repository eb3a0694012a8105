"""Envs in a few processes, observations in shared memory.

`SubprocVecEnv` of Stable-Baselines3 gives each env a process and sends every frame through a pipe. Here each process
steps a share of the envs one after another and writes what they show to memory that the learner reads; only infos go
through the pipe. What comes out is bit for bit what `DummyVecEnv` gives, whatever the number of processes.

    vector = SharedVecEnv([make_env] * 8, workers=2)
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import CloudpickleWrapper, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from agents.runs.stalls import StallWatch
from agents.runs.workers import (
    WorkerLost,
    end_processes,
    end_with_parent,
    portable,
    raise_here,
    start_process,
    worker_context,
)

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]
_WHOLE = ""  # Name of the one array of observations that are not dicts.
_PATIENCE_S = 10.0  # For a step that is under way when the envs are closed.


class SharedVecEnv(VecEnv):
    """N envs, stepped by W processes of N / W envs each."""

    def __init__(self, makers: Sequence[MakeEnv], workers: int):
        """Start the processes.

        Args:
            makers: make one env each.
            workers: W, at most as many as there are envs.

        Raises:
            ValueError: if `workers` is out of range.
        """
        if not 1 <= workers <= len(makers):
            raise ValueError(f"workers must lie between 1 and the number of envs, {len(makers)}, got {workers}.")
        context = worker_context()
        first = makers[0]()
        observation_space, action_space = first.observation_space, first.action_space
        first.close()
        count = len(makers)
        self._rooms = {
            name: _Room(context, (count, *shape), dtype) for name, (shape, dtype) in _layout(observation_space).items()
        }
        actions = _layout(action_space)[_WHOLE]
        self._actions = _Room(context, (count, *actions[0]), actions[1])
        self._rewards, self._dones = _Room(context, (count,), np.float32), _Room(context, (count,), np.bool_)
        bounds = [round(number * count / workers) for number in range(workers + 1)]
        self._shares = [range(low, high) for low, high in zip(bounds[:-1], bounds[1:], strict=True)]
        self._pipes: list[Connection] = []
        self._processes = []
        for share in self._shares:
            here, there = context.Pipe()
            rooms = (self._rooms, self._actions, self._rewards, self._dones)
            made = CloudpickleWrapper([makers[number] for number in share])
            process = context.Process(target=_work, args=(there, made, share, rooms), daemon=True)
            start_process(process)
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        try:
            super().__init__(count, observation_space, action_space)
        except Exception:  # It asks the envs how they render, and one could not be made.
            self.close()
            raise

    def reset(self) -> VecEnvObs:
        """Begin an episode in every env, with the seeds that `seed` has set."""
        seeded = [(self._seeds[n], self._options[n]) for n in range(self.num_envs)]
        for number, share in enumerate(self._shares):
            self._tell(number, "reset", [seeded[n] for n in share])
        for number, share in enumerate(self._shares):
            self.reset_infos[share.start : share.stop] = self._hear(number)
        self._reset_seeds()
        self._reset_options()
        return self._observations()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Set the processes going."""
        self._actions.array[:] = actions
        for number in range(len(self._shares)):
            self._tell(number, "step", None)

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for them."""
        infos: list[dict[str, Any]] = []
        for number, share in enumerate(self._shares):
            answers, begun = self._hear(number)
            infos += answers
            for place, info in begun.items():
                self.reset_infos[share.start + place] = info
        return self._observations(), self._rewards.array.copy(), self._dones.array.copy(), infos

    def close(self) -> None:
        """End the processes; a step that is under way is finished first."""
        for pipe in self._pipes:
            pipe.close()  # A worker that hears and reaches nobody ends.
        end_processes(self._processes, _PATIENCE_S)
        self._pipes, self._processes = [], []

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each env."""
        return self._ask("get", indices, attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of each env."""
        self._ask("set", indices, (attr_name, value))

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of each env."""
        return self._ask("call", indices, (method_name, args, kwargs))

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Tell of each env whether a wrapper is around it."""
        return self._ask("wrapped", indices, wrapper_class)

    def _ask(self, what: str, indices: VecEnvIndices, content: Any) -> list[Any]:
        """Ask some envs, in the order of their indices."""
        wanted = list(self._get_indices(indices))
        found: dict[int, Any] = {}
        for number, share in enumerate(self._shares):
            mine = [n for n in wanted if n in share]
            if mine:
                self._tell(number, what, ([n - share.start for n in mine], content))
                found |= zip(mine, self._hear(number), strict=True)
        return [found[n] for n in wanted]

    def _tell(self, number: int, what: str, content: Any) -> None:
        if not self._pipes:
            raise RuntimeError("these envs have been closed: make new ones.")
        try:
            self._pipes[number].send((what, content))
        except OSError:
            raise self._lost(number) from None

    def _hear(self, number: int) -> Any:
        """Return a process's answer, or raise what went wrong in it."""
        pipe, pid, watch = self._pipes[number], self._processes[number].pid, StallWatch()
        try:
            while not pipe.poll(StallWatch.EVERY_S):
                if watch.stalled(pid):
                    raise WorkerLost(
                        f"the process of envs {self._where(number)} ({pid}) has stopped making progress: resume the "
                        "run, or step the envs in the learner's own process."
                    )
            fine, answer = pipe.recv()
        except WorkerLost:
            raise
        except (EOFError, OSError):
            raise self._lost(number) from None
        if not fine:
            raise_here(answer)
        return answer

    def _lost(self, number: int) -> WorkerLost:
        return WorkerLost(
            f"the process of envs {self._where(number)} was killed, most likely because memory ran out: take fewer "
            "envs or fewer processes."
        )

    def _where(self, number: int) -> str:
        share = self._shares[number]
        return f"{share.start} to {share.stop - 1}"

    def _observations(self) -> VecEnvObs:
        """Copy what the envs show: the next step writes to the same place."""
        if _WHOLE in self._rooms:
            return self._rooms[_WHOLE].array.copy()
        return {name: room.array.copy() for name, room in self._rooms.items()}


class _Room:
    """An array in memory that processes share; its place goes to a process that is being started."""

    def __init__(self, context: Any, shape: tuple[int, ...], dtype: Any):
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._raw = context.RawArray(ctypes.c_byte, max(1, int(np.prod(shape)) * self._dtype.itemsize))

    @property
    def array(self) -> NDArray[Any]:
        size = int(np.prod(self._shape))
        return np.frombuffer(self._raw, self._dtype, size).reshape(self._shape)


def _layout(space: spaces.Space[Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of each array of a space."""
    if isinstance(space, spaces.Dict):
        return {name: _layout(inner)[_WHOLE] for name, inner in space.items()}
    if space.shape is None or space.dtype is None:
        raise ValueError(f"only spaces of arrays can be shared between processes, got {space}.")
    return {_WHOLE: (space.shape, space.dtype)}


def _work(
    pipe: Connection,
    makers: CloudpickleWrapper,
    share: range,
    rooms: tuple[dict[str, _Room], _Room, _Room, _Room],
) -> None:
    """Step some envs as long as somebody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the learner decides what it means.
    end_with_parent()
    places = {name: room.array for name, room in rooms[0].items()}
    actions, rewards, dones = (room.array for room in rooms[1:])
    worlds: list[gymnasium.Env[Any, Any]] = []

    def show(number: int, observation: Any) -> None:
        for name, place in places.items():
            place[number] = observation if name == _WHOLE else observation[name]

    def step() -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
        """Return infos, and those of the episodes that have begun by place."""
        infos, begun = [], {}
        for place, env in enumerate(worlds):
            number = share.start + place
            observation, reward, terminated, truncated, info = env.step(actions[number].copy())
            rewards[number], dones[number] = reward, terminated or truncated
            # As Stable-Baselines3's vector envs do.
            info["TimeLimit.truncated"] = truncated and not terminated
            if dones[number]:
                info["terminal_observation"] = observation
                observation, begun[place] = env.reset()
            show(number, observation)
            infos.append(info)
        return infos, begun

    def reset(seeded: list[tuple[int | None, dict[str, Any]]]) -> list[dict[str, Any]]:
        infos = []
        for number, env, (seed, options) in zip(share, worlds, seeded, strict=True):
            observation, info = env.reset(seed=seed, **({"options": options} if options else {}))
            show(number, observation)
            infos.append(info)
        return infos

    try:
        worlds += [make() for make in makers.var]
        while True:
            what, content = pipe.recv()
            answer: Any
            if what == "step":
                answer = step()
            elif what == "reset":
                answer = reset(content)
            else:
                try:
                    answer = [_answer(what, worlds[place], content[1]) for place in content[0]]
                except Exception as error:  # The envs stay: `has_attr` asks for what may not be there.
                    pipe.send((False, portable(error)))
                    continue
            pipe.send((True, answer))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # The learner is gone, or has closed its envs.
    except Exception as error:
        with contextlib.suppress(OSError):
            pipe.send((False, portable(error)))
    finally:
        for env in worlds:
            env.close()


def _answer(what: str, env: gymnasium.Env[Any, Any], content: Any) -> Any:
    """Do what an env is asked for besides steps."""
    if what == "get":
        return env.get_wrapper_attr(content)
    if what == "set":
        return env.set_wrapper_attr(*content)
    if what == "wrapped":
        return is_wrapped(env, content)
    name, args, kwargs = content
    return env.get_wrapper_attr(name)(*args, **kwargs)
