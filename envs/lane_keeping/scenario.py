"""What one LaneKeeping episode is made from: the config of the env, and edits of what it draws.

Roads, looks and starts are drawn from the seed as usual and edited afterwards, so that an episode of an edited scenario
keeps the centre line, the look and the start that its seed gives it in the plain one.

    scenario = Scenario(LaneKeepingConfig()).with_look(lambda look: replace(look, wear=0.8))
    env.reset(seed=3, options={"scenario": scenario})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from envs.lane_keeping.config import LaneKeepingConfig
from envs.road.track import Track
from envs.scene.look import Look


@dataclass(frozen=True)
class Scenario:
    """What an episode is made from, before it begins.

    Attributes:
        config: of the env; the frame's size, the period and the number of actions are the env's own.
        edit_look: applied to the look that the env draws.
        edit_track: applied to the road that the env draws.
    """

    config: LaneKeepingConfig
    edit_look: Callable[[Look], Look] | None = None
    edit_track: Callable[[Track], Track] | None = None

    def check_fits(self, own: LaneKeepingConfig) -> None:
        """Check that an env made from a config can show this scenario.

        Raises:
            ValueError: if the frame's size, the number of actions or the period differ.
        """
        for name in ("height", "width", "throttle", "period_s"):
            if getattr(self.config, name) != getattr(own, name):
                raise ValueError(
                    f"a scenario cannot change {name}: this env has {getattr(own, name)}, got "
                    f"{getattr(self.config, name)}. Make another env."
                )

    def with_config(self, **fields: object) -> Scenario:
        """The same scenario with some attributes of the config replaced."""
        return replace(self, config=replace(self.config, **fields))  # type: ignore[arg-type]

    def with_look(self, edit: Callable[[Look], Look]) -> Scenario:
        """The same scenario with one more edit of the look, after those that it has."""
        before = self.edit_look
        return replace(self, edit_look=edit if before is None else lambda look: edit(before(look)))

    def with_track(self, edit: Callable[[Track], Track]) -> Scenario:
        """The same scenario with one more edit of the road, after those that it has."""
        before = self.edit_track
        return replace(self, edit_track=edit if before is None else lambda track: edit(before(track)))

    def look(self, drawn: Look) -> Look:
        """Edit a drawn look."""
        return drawn if self.edit_look is None else self.edit_look(drawn)

    def track(self, drawn: Track) -> Track:
        """Edit a drawn road."""
        return drawn if self.edit_track is None else self.edit_track(drawn)
