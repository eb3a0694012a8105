"""Films of a driver: what the camera shows, what the driver sees of it, what its neurons do, and where the car goes.

One object draws one film, since the strips remember the last seconds:

    film = DriveFilm(policy, track, period_s=0.05, name="ltc", condition="random road, seed 7; clean", aspect=2.0)
    picture = film.draw(moment)  # uint8 [720, 1280, 3]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.dashboard.canvas import DRIVER, REFERENCE, Box, Picture, blank_picture, enlarge, fit, panel
from envs.dashboard.layout import Plan, plan
from envs.dashboard.panels import MEMORY_S, Header, MapPanel, SeenPanel, SteeringPanel, StripPanel
from envs.lane_keeping.dashboard import offset_strip
from envs.road.track import Track
from experiments.film.neurons import ActivityPanel, CircuitPanel, OwnRange
from policies.cores import LTC
from policies.explain.saliency import Insight
from policies.policy import DrivingPolicy

STEERING_SCALES = (0.1, 0.25, 0.5, 1.0)
"""Limits of the strip of steering, shares of full lock."""
_UNITS_SHOWN = 16
"""State values shown of a core without a wiring."""


@dataclass(frozen=True)
class Moment:
    """One frame of a drive.

    Attributes:
        view: uint8 `[h, w, 3]` picture of the camera for people, any size.
        insight: what went on inside the driver; None of a driver that cannot be looked into.
        seen: uint8 `[h, w, 3]` frame that the driver got; shown where there is no insight.
        steering: in [−1, 1], positive left.
        x: position of the car, m.
        y: position of the car, m.
        yaw: direction of the car, rad.
        offset_lane: offset from the middle of the lane as a share of the lane width, positive left.
        speed_mps: speed, m/s.
        time_s: time since the start, s.
        way_m: way made along the road, m.
        crashed: whether the car has left the road.
    """

    view: NDArray[np.uint8]
    insight: Insight | None
    seen: NDArray[np.uint8]
    steering: float
    x: float
    y: float
    yaw: float
    offset_lane: float
    speed_mps: float
    time_s: float
    way_m: float
    crashed: bool = False


class DriveFilm:
    """Pictures of a drive in simulation."""

    def __init__(
        self,
        policy: DrivingPolicy | None,
        track: Track,
        period_s: float,
        name: str,
        condition: str,
        aspect: float,
        is_clean: bool = True,
        ghost: NDArray[np.floating] | None = None,
    ):
        """Lay out the panels.

        Args:
            policy: the driver, to be looked into; None of a driver that cannot be.
            track: the road.
            period_s: time between two pictures, s.
            name: of the driver.
            condition: the road, and what is wrong with the world.
            aspect: columns by rows of the camera's picture.
            is_clean: whether nothing is wrong.
            ghost: path `[N, 2]` of the expert on this road, m.
        """
        boxes = plan(aspect)
        self._view = boxes.view
        self._header = Header(boxes.header, name, condition, is_clean)
        self._map = MapPanel(boxes.side_top, track, ghost)
        self._seen = SeenPanel(boxes.side_bottom, note="lit: where it looks" if policy is not None else "")
        self._steering = SteeringPanel(boxes.steering)
        self._inside = None
        if policy is not None:
            self._inside = InsidePanels(policy, boxes.inside, boxes.strip_bottom, period_s)
        self._offset = offset_strip(boxes.strip_top if policy is not None else boxes.below, period_s)

    def draw(self, moment: Moment) -> Picture:
        """Draw one picture, uint8 `[720, 1280, 3]`."""
        picture = blank_picture()
        show_view(picture, moment.view, self._view)
        status = f"{moment.time_s:.1f} s   {moment.way_m:.0f} m   {moment.speed_mps:.1f} m/s"
        self._header.draw(picture, f"left the road   {status}" if moment.crashed else status, moment.crashed)
        self._map.draw(picture, (moment.x, moment.y, moment.yaw, moment.crashed, DRIVER))
        insight = moment.insight
        if insight is None:
            self._seen.draw(picture, moment.seen)
        else:
            self._seen.draw(picture, insight.seen.numpy(), insight.saliency.numpy())
        self._steering.draw(picture, moment.steering)
        self._offset.draw(picture, moment.offset_lane)
        if self._inside is not None and insight is not None:
            self._inside.draw(picture, insight)
        return picture

    def end(self, picture: Picture, words: str, crashed: bool) -> Picture:
        """Return the last picture with how the drive went in its header; nothing else is covered."""
        picture = picture.copy()
        self._header.draw(picture, words, crashed)
        return picture


class RecordingFilm:
    """Pictures of a driver on recorded frames: the human's steering beside the driver's."""

    def __init__(self, policy: DrivingPolicy, period_s: float, name: str, condition: str, aspect: float):
        """Lay out the panels.

        Args:
            policy: the driver.
            period_s: time between two frames, s.
            name: of the driver.
            condition: the recording, and what is wrong with its frames.
            aspect: columns by rows of its frames.
        """
        boxes = plan(aspect)
        self._boxes = boxes
        self._header = Header(boxes.header, name, condition)
        self._seen = SeenPanel(boxes.side)
        self._inside = InsidePanels(policy, boxes.inside, boxes.strip_bottom, period_s)
        self._steering = SteeringPanel(boxes.steering, ("driver", "human"))
        self._strip = steering_strip(boxes.strip_top, period_s, (("human", REFERENCE), ("driver", DRIVER)))
        self._squares, self._count = 0.0, 0

    def draw(self, frame: NDArray[np.uint8], insight: Insight, steering: float, human: float, time_s: float) -> Picture:
        """Draw one picture, uint8 `[720, 1280, 3]`.

        Args:
            frame: uint8 `[h, w, 3]` as recorded.
            insight: what went on inside the driver.
            steering: the driver's, in [−1, 1], positive left.
            human: the recorded one.
            time_s: time since the start, s.
        """
        picture = blank_picture()
        self._squares += (steering - human) ** 2
        self._count += 1
        show_view(picture, frame, self._boxes.view)
        rmse = math.sqrt(self._squares / self._count)
        self._header.draw(picture, f"{time_s:.1f} s   error so far {100 * rmse:.1f} % of full lock (RMS)")
        self._seen.draw(picture, insight.seen.numpy(), insight.saliency.numpy())
        self._inside.draw(picture, insight)
        self._steering.draw(picture, steering, human)
        self._strip.draw(picture, human, steering)
        return picture


class InsidePanels:
    """The inside of a driver: wiring and activity for a circuit, activity alone for other cores."""

    def __init__(self, policy: DrivingPolicy, circuit: Box, activity: Box, period_s: float):
        """Lay out the panels.

        Args:
            policy: the driver.
            circuit: where the wiring goes; a core without one shows its features there.
            activity: where the last seconds go.
            period_s: time between two pictures, s.
        """
        core = policy.core
        steps = max(2, round(MEMORY_S / period_s))
        self._range = OwnRange()
        self._circuit: CircuitPanel | None = None
        self._features: ActivityPanel | None = None
        if isinstance(core, LTC):
            groups = [(name, list(core.wiring.layer(name))) for name, _ in reversed(core.wiring.layers)]
            self._circuit = CircuitPanel(circuit, core.wiring)
        else:
            values = core.state_size or core.input_size
            groups = [("state" if core.state_size else "features", list(range(min(values, _UNITS_SHOWN))))]
            rows = [("features", list(range(min(core.input_size, _UNITS_SHOWN))))]
            caption = f"FEATURES INTO THE {policy.config.core.upper()}"
            self._features = ActivityPanel(circuit, rows, steps, caption, axis=True)
        note = "a row each; bright is high, over its own range"
        self._activity = ActivityPanel(activity, groups, steps, "NEURONS" if self._circuit else "STATE", note)

    def draw(self, picture: Picture, insight: Insight) -> None:
        """Draw what went on at one frame."""
        features, activity = insight.features.numpy(), self._range(insight.activity.numpy())
        if self._circuit is not None:
            sensory, recurrent = insight.sensory_currents.numpy(), insight.recurrent_currents.numpy()
            self._circuit.draw(picture, features, activity, sensory, recurrent)
        if self._features is not None:
            self._features.draw(picture, np.tanh(features))
        self._activity.draw(picture, activity)


def steering_strip(box: Box, period_s: float, lines: tuple[tuple[str, tuple[int, int, int]], ...]) -> StripPanel:
    """Return a strip of steering as a share of full lock.

    Args:
        box: where to draw.
        period_s: time from one value to the next, s.
        lines: name and colour of each.
    """
    note = "" if len(lines) > 1 else "share of full lock"
    return StripPanel(box, "STEERING", note, period_s, STEERING_SCALES, lambda limit: f"{100 * limit:.0f} %", lines)


def show_view(picture: Picture, view: NDArray[np.uint8], room: Box) -> None:
    """Put the camera's picture in its place, whole."""
    box = fit(room, view.shape[1], view.shape[0])
    if (box.width, box.height) != (room.width, room.height):
        panel(picture, room)
    box.of(picture)[:] = view if view.shape[:2] == (box.height, box.width) else enlarge(view, box.width, box.height)


def large_size(aspect: float) -> tuple[int, int]:
    """Return rows and columns of the camera's picture in a film, for frames of a shape (columns by rows)."""
    boxes: Plan = plan(aspect)
    return boxes.view.height, boxes.view.width
