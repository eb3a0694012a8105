"""The world a car drives in. Importing this package registers `wormwheel/LaneKeeping-v0` with Gymnasium."""

from __future__ import annotations

import gymnasium

LANE_KEEPING = "wormwheel/LaneKeeping-v0"
"""Id of the lane-keeping environment."""

if LANE_KEEPING not in gymnasium.registry:
    # Gymnasium's passive checker looks at every observation anew and would take a third of the time of a step; the
    # tests run the full one.
    gymnasium.register(id=LANE_KEEPING, entry_point="envs.lane_keeping:LaneKeepingEnv", disable_env_checker=True)
