"""`wormwheel explain`: why does it steer as it does?

    wormwheel explain --policy runs/mine                              # a page about twelve seconds of driving
    wormwheel explain --policy runs/mine --data tub --seconds 20      # about a recording
    wormwheel explain --policy runs/mine --counterfactual fog         # how much fog turns a kept lane into a crash

The page is one file: circuit, slider, frames, saliency, voltages, currents, and the account of each moment. What a
share means, and what about it is exact, stands in docs/explain.md.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from agents.recordings import load_episodes
from agents.recordings.options import ReadOptions
from agents.runs.directory import command
from agents.runs.files import write_text
from agents.runs.ours import check_ours
from envs.perturbations import parse
from experiments.console import check_json, check_place, progress, say, write_results
from experiments.explain.counterfactual import Counterfactual, film_pair, smallest_dose
from experiments.explain.page import explain, explain_page
from experiments.explain.rerun_file import check_rerun, write_rerun
from experiments.explain.watch import WORLD, Watched, watch_drive, watch_recording
from experiments.machine import one_thread
from experiments.policy_paths import find_policy
from policies.checkpoint import load_policy
from policies.cores import LTC
from policies.explain.roles import silenced
from policies.policy import DrivingPolicy

PAGE = "explain.html"
"""Name of the page."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, config={"extra": "forbid"})
class ExplainOptions:
    """Make a page on which a driver can be watched as it thinks."""

    policy: Path
    """The policy: its directory, or a run directory that holds one."""
    data: tuple[Path, ...] = field(default_factory=tuple)
    """Recordings; the first episode is explained. Without any, the policy drives LaneKeeping."""
    recording: ReadOptions = ReadOptions()
    """How the recordings are read."""
    out: Path = Path("runs/explain")
    """Directory for `explain.html`, and of the films of --counterfactual."""
    seed: Annotated[int, Field(ge=0)] = 7
    """Seed of road, look and start in LaneKeeping."""
    seconds: Positive = 12.0
    """Longest drive, s."""
    perturbation: str = ""
    """What is wrong with the world, such as fog:3."""
    frames: Annotated[int, Field(ge=2, le=1000)] = 8
    """Frames that an account goes back."""
    reference: Literal["held", "blank"] = "held"
    """What accounts compare with: the oldest of these frames held still, or pictures without contrast."""
    every: PositiveInt = 4
    """Frames between two accounts."""
    silence: bool = True
    """Drive once more without each neuron of an LTC, to say what it is good for; in LaneKeeping only."""
    counterfactual: str | None = None
    """Name of a perturbation: find the smallest dose that turns a kept lane into a crash, by bisection on --seed, and
    film both drives side by side. Instead of the page."""
    rerun: Path | None = None
    """Also write what the page shows as a recording for the Rerun viewer, .rrd; needs the extra `rerun`."""
    json: Path | None = None
    """File for the figures, as JSON."""

    def __post_init__(self) -> None:
        """Check what does not go together."""
        parse(self.perturbation)
        if not self.data and self.recording != ReadOptions():
            raise ValueError("--recording.… say how recordings are read: give --data, or leave them out.")
        if self.data and (self.perturbation or self.counterfactual):
            raise ValueError("--perturbation and --counterfactual drive LaneKeeping: leave --data out.")
        if self.counterfactual and self.rerun:
            raise ValueError("--rerun holds what the page shows, which --counterfactual does not make: leave one out.")
        if self.counterfactual and self.perturbation:
            raise ValueError("--counterfactual names its perturbation itself: leave --perturbation out.")


def run(options: ExplainOptions) -> None:
    """Explain, and say where the page is."""
    check_json(options.json)
    path = find_policy(options.policy)
    policy = load_policy(path)
    out = options.out
    if options.rerun is not None:
        check_rerun(options.rerun)
    check_ours(out / PAGE if options.counterfactual is None else out / f"{options.counterfactual}.mp4")
    check_place(out)
    name = path.resolve().parent.name if path.name == "policy" else path.name
    with one_thread():
        if options.counterfactual:
            _counterfactual(policy, options, out, name)
            return
        drive, about = _drive(policy, options)
        if len(drive.frames) <= options.frames:
            raise ValueError(
                f"the drive lasted {len(drive.frames)} frames, an account of {options.frames} needs more: give "
                "more --seconds, another --seed, or fewer --frames."
            )
        silence = _silence(policy, options, drive) if options.silence and not options.data else {}
        with progress("accounts", len(drive.frames) // options.every, "moments") as bar:
            found = explain(
                policy, drive, options.frames, options.reference, options.every, silence, lambda: bar.advance()
            )
    ended = "it left the road" if drive.crashed else "it stayed on the road" if not options.data else "beside a human"
    title = f"{name} ({policy.config.core.upper()}) {about}: {drive.duration_s:.1f} s, {ended}"
    page = out / PAGE
    write_text(page, explain_page(found, title, command()))
    keep = ("accounts", "roles", "silence", "components", "largest_step", "crashed")
    write_results(options.json, "explain", options, {key: found[key] for key in keep})
    if options.rerun is not None:
        write_rerun(options.rerun, found, name)
        say(f"for the Rerun viewer: {options.rerun}")
    say(f"page: {page}")


def _drive(policy: DrivingPolicy, options: ExplainOptions) -> tuple[Watched, str]:
    """The drive to explain, and what it is in a few words."""
    if options.data:
        episode = load_episodes(list(options.data), options=options.recording, to_test_on=True)[0]
        fit = policy.config.preprocessing
        size = episode.frames(0, 1).shape[1:3]
        if size != (fit.source_height, fit.source_width):
            raise ValueError(
                f"the recording has frames of {size[1]}×{size[0]} pixels, the policy sees "
                f"{fit.source_width}×{fit.source_height}: give a recording of that size."
            )
        return watch_recording(policy, episode, options.seconds), f"on {options.data[0].name}"
    drive = watch_drive(policy, options.seed, options.seconds, options.perturbation)
    return drive, f"under {options.perturbation}" if options.perturbation else f"on the road of seed {options.seed}"


def _silence(policy: DrivingPolicy, options: ExplainOptions, plain: Watched) -> dict[int, str]:
    """What becomes of the same drive when each neuron of an LTC says nothing."""
    if not isinstance(policy.core, LTC):
        return {}
    found: dict[int, str] = {}
    offset = float(np.abs(plain.quantities["offset"]).mean())
    heard = {int(source) for source, _, _ in policy.core.wiring.recurrent}
    with progress("silenced", len(heard), "neurons") as bar:
        for neuron in sorted(heard):
            with silenced(policy, neuron):
                drive = watch_drive(policy, options.seed, options.seconds, options.perturbation)
            here = float(np.abs(drive.quantities["offset"]).mean())
            if drive.crashed and not plain.crashed:
                found[neuron] = f"the car leaves the road after {drive.duration_s:.1f} s"
            else:
                found[neuron] = f"mean offset {100 * here:.1f} cm instead of {100 * offset:.1f} cm"
            bar.advance()
    return found


def _counterfactual(policy: DrivingPolicy, options: ExplainOptions, out: Path, name: str) -> None:
    """Find the dose, film both drives."""
    assert options.counterfactual is not None
    with progress("drives", 8, "drives") as bar:
        found = smallest_dose(
            policy, options.counterfactual, options.seed, options.seconds, on_drive=lambda: bar.advance()
        )
    write_results(options.json, "explain", options, _figures(found))
    film = out / f"{found.name}.mp4"
    period_s = WORLD.period_s
    with progress("filming", round(options.seconds / period_s), "pictures") as bar:
        film_pair(found, policy, name, options.seed, options.seconds, film, on_frame=lambda: bar.advance())
    if found.dose is None:
        say(
            f"{found.name}: stayed on the road at the largest dose there is, {found.survived:g} ({found.unit}), on the "
            f"road of seed {options.seed}; another --seed may show a crash. Film: {film}"
        )
    elif found.survived != found.survived:
        say(f"{found.name}: crashed at the mildest severity already, {found.dose:.4g} ({found.unit}); film: {film}")
    else:
        say(
            f"{found.name}: stayed on the road at {found.survived:.4g}, crashed at {found.dose:.4g} ({found.unit}), on "
            f"the road of seed {options.seed}; film: {film}"
        )


def _figures(found: Counterfactual) -> dict[str, Any]:
    return {
        "perturbation": found.name,
        "unit": found.unit,
        "dose": found.dose,
        "survived": found.survived,
        "tried": found.tried,
    }
