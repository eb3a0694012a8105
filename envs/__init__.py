"""Envs in which a car with a camera drives.

Importing this package registers `wormwheel/LaneKeeping-v0`, `wormwheel/Recorded-v0` and `wormwheel/CarRacing-v0` with
Gymnasium.
"""

from __future__ import annotations

import gymnasium

import wormwheel  # noqa: F401 - says what hides a room

LANE_KEEPING = "wormwheel/LaneKeeping-v0"
"""Id of the lane-keeping environment."""
RECORDED = "wormwheel/Recorded-v0"
"""Id of the env that a recording becomes; it takes the recording as `footage`."""
CAR_RACING_STEERING = "wormwheel/CarRacing-v0"
"""Id of Gymnasium's CarRacing as a steering task."""

if LANE_KEEPING not in gymnasium.registry:
    # Gymnasium's passive checker looks at every observation and would take a third of the time of a step; the
    # tests run the full one.
    gymnasium.register(id=LANE_KEEPING, entry_point="envs.lane_keeping.env:LaneKeepingEnv", disable_env_checker=True)
if RECORDED not in gymnasium.registry:
    gymnasium.register(id=RECORDED, entry_point="envs.recorded.env:RecordedEnv", disable_env_checker=True)
if CAR_RACING_STEERING not in gymnasium.registry:
    gymnasium.register(id=CAR_RACING_STEERING, entry_point="envs.car_racing:car_racing_env", disable_env_checker=True)
