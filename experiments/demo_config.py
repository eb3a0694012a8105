"""How much of everything `wormwheel demo` does, in full and on a small scale."""

from __future__ import annotations

from dataclasses import dataclass

from agents.imitation import ImitationConfig


@dataclass(frozen=True)
class DemoConfig:
    """How much of everything; the whole must fit into the time that is promised."""

    frames: int = 60_000
    """Frames that the expert records."""
    episode_s: float = 6.0
    """Length of a recorded episode, seconds; each one has a road and a look of its own."""
    variety: float = 0.35
    """Variety of looks and cameras on the unseen roads, in [0, 1]."""
    recorded_variety: float = 0.6
    """Variety of looks and cameras in the recording, in [0, 1]: more, so that rare looks are not news on the road."""
    validation: float = 0.12
    """Share of the episodes that choose the best epoch."""
    training: ImitationConfig = ImitationConfig(epochs=8)
    """How the driver learns; the seed in it is that of the demonstration."""
    roads: int = 20
    """Unseen roads to drive."""
    road_s: float = 60.0
    """Time on each of them, seconds."""
    noise_variances: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    """Variances of the Gaussian noise on the driver's frames, pixels in [0, 1]; the first one must be 0."""
    film_s: float = 30.0
    """Length of the film, seconds."""
    workers: int = 2
    """Processes that record and drive."""


FULL = DemoConfig()
QUICK = DemoConfig(
    frames=5_000,
    episode_s=10.0,
    variety=0.15,
    recorded_variety=0.15,
    validation=0.08,
    training=ImitationConfig(epochs=8, batch_size=16, window=16, burn_in=4),
    roads=4,
    road_s=15.0,
    film_s=8.0,
    workers=1,
)
