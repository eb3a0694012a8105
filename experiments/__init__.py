"""What a person runs: one file per verb of the `wormwheel` command."""

import wormwheel  # noqa: F401 - says what hides a room
from experiments.interrupts import is_command, leave_at_once

if is_command():
    leave_at_once()
