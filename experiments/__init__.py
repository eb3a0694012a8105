"""What a person runs: one file per verb of the `wormwheel` command."""

import wormwheel  # noqa: F401 - says what hides a room
