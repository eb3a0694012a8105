"""Films of a driver: what the camera shows, what the driver sees of it, what its neurons do, and where the car goes.

One object draws one film, since the strips remember the last seconds:

    film = DriveFilm(policy, track, period_s=0.05, title="road 7")
    picture = film.draw(moment)  # uint8 [540, 960, 3]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.road.track import Track
from experiments.film import canvas as drawing
from experiments.film.canvas import ACCENT, ALARM, BACKGROUND, MUTED, SECOND, TEXT, Box, Picture, enlarge, fit
from experiments.film.neurons import ActivityPanel, CircuitPanel, OwnRange
from experiments.film.panels import MapPanel, SeenPanel, SteeringPanel, StripPanel
from policies.cores import LTC
from policies.explain import Insight
from policies.policy import DrivingPolicy

HEIGHT, WIDTH = 540, 960
"""Size of a film, pixels."""
VIEW = Box(12, 12, 624, 312)
"""Where the camera's picture goes."""
MEMORY_S = 10.0
"""Time that the strips reach back, seconds."""
_UNITS_SHOWN = 32
"""State values shown of a core without a wiring."""


@dataclass(frozen=True)
class Moment:
    """One frame of a drive.

    Attributes:
        view: uint8 `[h, w, 3]` picture of the camera for people, any size.
        insight: what went on inside the driver.
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
    insight: Insight
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

    def __init__(self, policy: DrivingPolicy, track: Track, period_s: float, title: str, wrong: str = ""):
        """Lay out the panels.

        Args:
            policy: the driver.
            track: the road.
            period_s: time between two pictures, s.
            title: a few words at the top of the camera's picture.
            wrong: what is wrong with the world, said beside the driver's frames.
        """
        steps = round(MEMORY_S / period_s)
        self._title = title
        note = wrong or "and where it looks"
        self._map = MapPanel(Box(648, 12, 300, 160), track)
        self._seen = SeenPanel(Box(648, 184, 300, 172), "WHAT IT SEES", note)
        self._inside = InsidePanels(policy, Box(648, 368, 300, 160), Box(174, 420, 462, 108), steps)
        self._steering = SteeringPanel(Box(12, 336, 150, 192))
        self._offset = StripPanel(
            Box(174, 336, 462, 72), "OFFSET FROM THE MIDDLE OF THE LANE", "± half a lane", 0.5, steps, (ACCENT,), 0.25
        )

    def draw(self, moment: Moment) -> Picture:
        """Draw one picture, uint8 `[540, 960, 3]`."""
        picture = np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)
        show_view(picture, moment.view)
        chip(picture, self._title, VIEW.x + 10, VIEW.y + 10)
        status = f"{moment.time_s:5.1f} s    {moment.way_m:.0f} m    {moment.speed_mps:.1f} m/s"
        chip(picture, status, VIEW.x + 10, VIEW.y + VIEW.height - 32)
        self._map.draw(picture, moment.x, moment.y, moment.yaw, moment.crashed)
        self._seen.draw(picture, moment.insight.seen.numpy(), moment.insight.saliency.numpy())
        self._steering.draw(picture, moment.steering)
        self._offset.draw(picture, moment.offset_lane)
        self._inside.draw(picture, moment.insight)
        if moment.crashed:
            banner(picture, "THE CAR LEFT THE ROAD")
        return picture


class RecordingFilm:
    """Pictures of a driver on recorded frames: the human's steering beside the driver's."""

    def __init__(self, policy: DrivingPolicy, period_s: float, title: str, limit: float = 1.0):
        """Lay out the panels.

        Args:
            policy: the driver.
            period_s: time between two frames, s.
            title: a few words at the top of the camera's picture.
            limit: largest steering that the strip shows, in (0, 1].
        """
        steps = round(MEMORY_S / period_s)
        self._title = title
        self._seen = SeenPanel(Box(648, 12, 300, 172), "WHAT IT SEES", "and where it looks")
        self._inside = InsidePanels(policy, Box(648, 196, 300, 212), Box(648, 420, 300, 108), steps)
        self._steering = SteeringPanel(Box(12, 336, 150, 192), reference="human")
        note = f"last {MEMORY_S:g} s, ± {100 * limit:.0f} %"
        self._strip = StripPanel(
            Box(174, 336, 462, 192), "STEERING OF DRIVER AND HUMAN", note, limit, steps, (SECOND, ACCENT)
        )

    def draw(self, frame: NDArray[np.uint8], insight: Insight, steering: float, human: float, time_s: float) -> Picture:
        """Draw one picture, uint8 `[540, 960, 3]`.

        Args:
            frame: uint8 `[h, w, 3]` as recorded.
            insight: what went on inside the driver.
            steering: the driver's, in [−1, 1], positive left.
            human: the recorded one.
            time_s: time since the start, s.
        """
        picture = np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)
        drawing.panel(picture, VIEW)
        show_view(picture, frame)
        chip(picture, self._title, VIEW.x + 10, VIEW.y + 10)
        chip(picture, f"{time_s:5.1f} s", VIEW.x + 10, VIEW.y + VIEW.height - 32)
        self._seen.draw(picture, insight.seen.numpy(), insight.saliency.numpy())
        self._inside.draw(picture, insight)
        self._steering.draw(picture, steering, human)
        self._strip.draw(picture, human, steering)
        return picture


class InsidePanels:
    """The inside of a driver: wiring and activity for a circuit, activity alone for other cores."""

    def __init__(self, policy: DrivingPolicy, circuit: Box, activity: Box, steps: int):
        """Lay out the panels.

        Args:
            policy: the driver.
            circuit: where the wiring goes; a core without one shows its features there.
            activity: where the last seconds go.
            steps: frames that they show.
        """
        core = policy.core
        note = f"last {MEMORY_S:g} s" + (", each over its own range" if activity.width > 400 else "")
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
            self._features = ActivityPanel(circuit, rows, steps, f"FEATURES INTO THE {policy.config.core.upper()}")
        self._activity = ActivityPanel(activity, groups, steps, "NEURON ACTIVITY", note)

    def draw(self, picture: Picture, insight: Insight) -> None:
        """Draw what went on at one frame."""
        features, activity = insight.features.numpy(), self._range(insight.activity.numpy())
        if self._circuit is not None:
            sensory, recurrent = insight.sensory_currents.numpy(), insight.recurrent_currents.numpy()
            self._circuit.draw(picture, features, activity, sensory, recurrent)
        if self._features is not None:
            self._features.draw(picture, np.tanh(features))
        self._activity.draw(picture, activity)


def show_view(picture: Picture, view: NDArray[np.uint8]) -> None:
    """Put the camera's picture in its place, whole."""
    box = fit(VIEW, view.shape[1], view.shape[0])
    box.of(picture)[:] = enlarge(view, box.width, box.height) if view.shape[:2] != (box.height, box.width) else view


def chip(picture: Picture, words: str, x: int, y: int) -> None:
    """Write words on a dark strip that any background shines through."""
    width = drawing.text_width(words, 12) + 18
    view = Box(x, y, width, 22).of(picture)
    view[:] = (0.35 * view + 0.65 * np.array(BACKGROUND)).astype(np.uint8)
    drawing.text(picture, words, x + 9, y + 7, 12, TEXT)


def banner(picture: Picture, words: str) -> None:
    """Write words across the camera's picture, in alarm."""
    view = Box(VIEW.x, VIEW.y + VIEW.height // 2 - 24, VIEW.width, 48).of(picture)
    view[:] = (0.25 * view + 0.75 * np.array(ALARM)).astype(np.uint8)
    drawing.text(picture, words, VIEW.x + VIEW.width / 2, VIEW.y + VIEW.height // 2 - 8, 20, TEXT, True, "m")


def closing(picture: Picture, words: str) -> Picture:
    """Return a picture dimmed, with words in the middle: the last second of a film."""
    dim = (0.35 * picture + 0.65 * np.array(BACKGROUND)).astype(np.uint8)
    drawing.text(dim, words, WIDTH / 2, HEIGHT / 2 - 8, 18, TEXT, True, "m")
    drawing.text(dim, "wormwheel", WIDTH / 2, HEIGHT / 2 + 24, 12, MUTED, anchor="m")
    return dim
