"""Every core of the registry, exported and driven beside itself: the table of docs/car.md.

python -m experiments.export.parity_table
"""

from __future__ import annotations

import tempfile
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from experiments.cli import run_script
from experiments.console import check_json, progress, table, write_results
from policies.cores import CORES
from policies.export.car import write_car
from policies.export.parity import TOLERANCE, Parity, measure_parity
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing


@dataclass(frozen=True, config={"extra": "forbid"})
class ParityTable:
    """Export a fresh policy of every core and compare; frames of 120×160 are cropped and resized to 48×96."""

    cores: tuple[str, ...] = field(default_factory=lambda: tuple(CORES))
    """Which cores."""
    frames: PositiveInt = 1000
    """Frames of the drive, with irregular times and fresh starts."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the weights and of the drive."""
    json: Path | None = None
    """File for the figures, as JSON."""


def run(options: ParityTable) -> None:
    """Export, drive, print.

    Raises:
        ValueError: if an export is not its policy.
    """
    check_json(options.json)
    found: dict[str, dict[str, Parity]] = {}
    fit = Preprocessing(source_height=120, source_width=160, crop_top=40, height=48, width=96)
    with tempfile.TemporaryDirectory() as place, progress("exporting", len(options.cores), "cores") as bar:
        for core in options.cores:
            policy = DrivingPolicy.create(PolicyConfig(core=core, preprocessing=fit), seed=options.seed)
            folder = write_car(policy, Path(place) / core, numpy=True)
            found[core] = measure_parity(policy, folder, options.frames, options.seed)
            bar.advance()
    rows = [[core, *(f"{one.motors:.1e}" for one in engines.values())] for core, engines in found.items()]
    engines = list(next(iter(found.values())))
    table(f"largest difference of the steering over {options.frames:,} frames", ["core", *engines], rows)
    write_results(options.json, "parity", options, found)
    wrong = [core for core, engines in found.items() if not max(e.motors for e in engines.values()) <= TOLERANCE]
    if wrong:
        raise ValueError(f"not the same to {TOLERANCE:g}: {', '.join(wrong)}.")


if __name__ == "__main__":
    run_script(ParityTable, run)
