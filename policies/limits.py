"""Declared ranges that several configs share, and what a config may ask for: checked before memory is.

@dataclass(frozen=True, config={"extra": "forbid"})
class CTRNNConfig:
units: Units = 32
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MOST_PARAMETERS = 20_000_000
"""Most numbers that a core or a head may learn: a thousand times what drives; 80 MB, several times over in training."""

MOST_NEURONS = 100_000
"""Most inputs or neurons of a wiring."""

MOST_SYNAPSES = 2_000_000
"""Most synapses of a wiring; a fruit fly's brain has some fifty million, a worm's seven thousand."""

Units = Annotated[int, Field(ge=1, le=100_000)]
"""Units, neurons or channels of a layer."""

Layers = Annotated[int, Field(ge=0, le=256)]

Substeps = Annotated[int, Field(ge=1, le=1000)]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


LEAST_ELAPSED, MOST_ELAPSED = 1e-30, 1e30
"""Range of a time between two frames, nominal frame periods; beyond it single precision has no quotients of it."""


def check_parameters(what: str, count: int) -> None:
    """Raise ValueError if there would be more than `MOST_PARAMETERS` numbers to learn."""
    if count > MOST_PARAMETERS:
        raise ValueError(f"{what} would have {count:,} parameters, allowed are {MOST_PARAMETERS:,}: make it smaller.")


def check_synapses(count: int) -> None:
    """Raise ValueError if there would be more than `MOST_SYNAPSES`."""
    if count > MOST_SYNAPSES:
        raise ValueError(f"this wiring would have {count:,} synapses, allowed are {MOST_SYNAPSES:,}: make it smaller.")
