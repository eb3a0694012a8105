"""The vehicle that a config names: Bullet's racecar or the kinematic bicycle.

vehicle = make_vehicle("auto", VehicleParams())
"""

from __future__ import annotations

import logging
from functools import lru_cache

from envs.vehicle.bullet import BulletVehicle, has_bullet
from envs.vehicle.vehicle import BicycleVehicle, Vehicle, VehicleParams

logger = logging.getLogger(__name__)


def make_vehicle(kind: str, params: VehicleParams) -> Vehicle:
    """Make a vehicle.

    Args:
        kind: "bullet", "bicycle", or "auto": bullet where PyBullet is installed.
        params: the car.

    Raises:
        ValueError: if Bullet is asked for and not installed.
    """
    chosen = _chosen() if kind == "auto" else kind
    return BulletVehicle(params) if chosen == "bullet" else BicycleVehicle(params)


@lru_cache(maxsize=1)
def _chosen() -> str:
    """What "auto" means here; logged once in a process."""
    kind = "bullet" if has_bullet() else "bicycle"
    logger.info('vehicle="auto" chose %s.', kind)
    return kind
