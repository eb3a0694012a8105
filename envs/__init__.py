"""The world a car drives in. Importing this package registers `wormwheel/LaneKeeping-v0` with Gymnasium."""

from __future__ import annotations

import gymnasium

LANE_KEEPING = "wormwheel/LaneKeeping-v0"
"""Id of the lane-keeping environment."""

if LANE_KEEPING not in gymnasium.registry:
    gymnasium.register(id=LANE_KEEPING, entry_point="envs.lane_keeping:LaneKeepingEnv")
