"""What a person runs: one file per verb of the `wormwheel` command."""

from experiments.interrupts import is_command, leave_at_once

if is_command():
    leave_at_once()  # Before anything that takes time.

import wormwheel  # noqa: E402, F401 - says what hides a room
