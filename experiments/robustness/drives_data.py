"""What stands behind a cell or a point of the report: its drives, each with the command that films it again.

The page holds them as one JSON value; `templates/drives.js` lists those of the cell that was opened.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.driving.driver_options import DriverSpec
from agents.driving.recorded_world import RecordedWorld
from agents.driving.trials import Place
from experiments.robustness.films import (
    SECONDS_MORE,
    FailureFilm,
    driver_arguments,
    size_arguments,
    world_arguments,
)
from experiments.robustness.findings import Findings

if TYPE_CHECKING:
    import pandas as pd


def drives_json(
    table: pd.DataFrame,
    findings: Findings,
    policies: Mapping[tuple[str, int], Path | DriverSpec],
    world: Place,
    films: Sequence[FailureFilm],
) -> dict[str, Any]:
    """Return the drives as JSON values.

    Args:
        table: of the drives; rows are `experiments.robustness.jobs.DriveRow`.
        findings: about them.
        policies: directory, or what opens a driver of others, by driver and training run; others have no command.
        world: where.
        films: that were made; by their number on the page.

    Returns:
        `drives`: rows of driver, run, perturbation, road, draw, lane error, seconds, whether it left the road;
        `kinds`: of each perturbation its name, family and severity; `begin` and `end`: of the command, for each driver
        and run; `filmed`: whether it films; `films`: number of the film by the drive's key; `most_s`: longest film.
    """
    rows = [
        [
            str(row.driver),
            int(row.run),
            str(row.perturbation),
            int(row.road_seed),
            int(row.effect_seed),
            round(float(row.lane_error), 4),
            round(float(row.duration_s), 2),
            int(bool(row.crashed)),
        ]
        for row in table.itertuples()
    ]
    verb = "evaluate" if isinstance(world, RecordedWorld) else "render"  # no film of a recording at the command line
    begin = {
        f"{driver} {run}": shlex.join(["wormwheel", verb, *driver_arguments(policy), *size_arguments(policy, world)])
        for (driver, run), policy in policies.items()
    }
    return {
        "drives": rows,
        "kinds": {one.perturbation: [one.name, one.family, one.severity] for one in findings.conditions},
        "begin": begin,
        "end": shlex.join(world_arguments(world)),
        "filmed": verb == "render",
        "most_s": world.episode_s,
        "more_s": SECONDS_MORE,
        "films": {
            " ".join(
                map(
                    str,
                    (
                        one.failure.driver,
                        one.failure.run,
                        one.failure.condition.perturbation,
                        one.failure.road_seed,
                        one.failure.effect_seed,
                    ),
                )
            ): number
            for number, one in enumerate(films)
        },
    }
