"""What drives and what learns: expert, recordings, imitation, rollouts, metrics."""

import wormwheel  # noqa: F401 - says what hides a room
