"""A film of a PPO driver in the world that it learnt in, other than LaneKeeping: CarRacing and other worlds of frames.

wormwheel render --policy runs/ppo-CarRacing-v3-ltc --out race.mp4
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from agents.driving.rollout import Step, run_episodes
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.envs import make_world
from agents.ppo.evaluate import ActorChoice
from envs.dashboard.canvas import DRIVER, Picture, blank_picture
from envs.dashboard.layout import plan
from envs.dashboard.panels import Header, SeenPanel, SteeringPanel
from experiments.console import progress
from experiments.film.films import InsidePanels, show_view, steering_strip
from experiments.film.video import VideoWriter
from policies.explain.saliency import Insight, look_inside
from policies.policy import DrivingPolicy


class WorldFilm:
    """Pictures of an episode: the frame, where the driver looks, its neurons, its steering and the reward so far."""

    def __init__(self, policy: DrivingPolicy, period_s: float, name: str, condition: str):
        """Lay out the panels.

        Args:
            policy: the driver.
            period_s: time between two pictures, s.
            name: of the driver.
            condition: where it acts.
        """
        fit = policy.config.preprocessing
        boxes = plan(fit.width / fit.height)
        self._view = boxes.view
        self._header = Header(boxes.header, name, condition)
        self._seen = SeenPanel(boxes.side)
        self._inside = InsidePanels(policy, boxes.inside, boxes.strip_bottom, period_s)
        self._steering = SteeringPanel(boxes.steering)
        self._strip = steering_strip(boxes.strip_top, period_s, (("driver", DRIVER),))

    def draw(self, insight: Insight, actions: NDArray[Any], reward: float, time_s: float) -> Picture:
        """Draw one picture, uint8 `[720, 1280, 3]`.

        Args:
            insight: what went on inside the driver.
            actions: `[M]` in [−1, 1]; the first one is steering, positive left, a second one the pedal.
            reward: sum so far.
            time_s: time since the start, s.
        """
        picture = blank_picture()
        seen = insight.seen.numpy()
        show_view(picture, seen, self._view)
        status = f"{time_s:.1f} s   reward {reward:.0f}"
        if len(actions) > 1:
            status += f"   {'gas' if actions[1] > 0 else 'brake'} {100 * abs(float(actions[1])):.0f} %"
        self._header.draw(picture, status)
        self._seen.draw(picture, seen, insight.saliency.numpy())
        self._inside.draw(picture, insight)
        self._steering.draw(picture, float(actions[0]))
        self._strip.draw(picture, float(actions[0]))
        return picture


def film_world(directory: Path, world: str, seed: int, path: Path, seconds: float, trust: bool = False) -> str:
    """Film an episode without chance in the actions.

    Args:
        directory: of the learner; it sees frames.
        world: where it acts.
        seed: of the episode.
        path: the MP4 file.
        seconds: longest film, in the driver's own time.
        trust: import the module that the world names.

    Returns:
        A few words about what is in the film.

    Raises:
        ValueError: if the learner cannot be read or does not fit.
        OSError: if the film cannot be written.
    """
    model = LiquidPPO.load(directory)
    policy = model.policy.driver()
    period_s = policy.config.nominal_period_s
    steps = max(1, round(seconds / period_s))
    panels = WorldFilm(policy, period_s, policy.config.core.upper(), f"{world}, seed {seed}")
    env = make_world(world, trust=trust)
    choose = ActorChoice(model)
    total, made, over = 0.0, 0, False
    try:
        with progress("filming", steps) as bar, VideoWriter(path, 1 / period_s) as writer:

            def draw(step: Step) -> None:
                nonlocal total, made, over
                content, _ = model.policy.adapter(model.policy.adapter.batched(step.observation))
                # The critic's part comes after the actor's.
                state = torch.from_numpy(choose.state[:, : model.policy.actor_state_size])
                insight = look_inside(policy, content[0], state)
                total, made = total + step.reward, made + 1
                over = step.terminated or (step.truncated and made < steps)
                writer.append(panels.draw(insight, step.action, total, made * period_s))
                bar.advance()

            run_episodes(choose, [TimeLimit(env, steps)], [seed], observer=draw)
    finally:
        env.close()
    return f"{made} steps, reward {total:.1f}" + (" at the end of the episode" if over else " so far")
