"""`wormwheel adapt`: a driver keeps learning from interventions where the world has shifted.

    wormwheel adapt --policy runs/ltc --replay runs/record --steering-gain 0.6 --out runs/adapt
    wormwheel adapt --policy runs/ltc --replay runs/record --camera-pitch-deg 6 --rule online

A person sits beside the driver (the expert, who knows the shifted car), takes the wheel where it strays, and what that
person steers is learnt from. Interventions per kilometre are counted before, during and after, and in the old world.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.adapted.driver import Correction
from agents.driving.adapted.file import read_adapted, write_adapted
from agents.driving.record import with_vehicle
from agents.imitation.adapt import Adaptation, AdaptConfig, Update
from agents.imitation.shift import Shift
from agents.recordings import load_episodes
from agents.recordings.options import ReadOptions
from agents.runs.checkpoints import new_checkpoint
from agents.runs.directory import check_directory, open_run
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.console import check_json, new_directory, progress, say, table, with_tracks, write_results
from experiments.policy_paths import find_policy
from policies.checkpoint import ADAPTED, load_policy, save_policy

VERB = "adapt"
KEPT = ("data", "policy", ADAPTED, "results.json")
"""What is worth keeping of a run."""
REPLAYED = 120
"""Episodes of the old driving that are replayed, at most."""
BEFORE_SEED, OLD_SEED = 7_000_000, 8_000_000
"""First seeds of the roads that interventions are counted on, in the shifted world and in the old one."""


@dataclass(frozen=True, config={"extra": "forbid"})
class AdaptOptions:
    """Let a deployed driver keep learning from interventions in a shifted world, with replay of what it knew."""

    policy: Path
    """Directory of the driver, or of its run; or the adapted.json of one that has corrections for other worlds, which
    it keeps."""
    replay: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Recordings from before, replayed against forgetting: what the driver learnt from, at its own frame size."""
    recording: ReadOptions = ReadOptions()
    """How these recordings are read."""
    shift: Annotated[Shift, arg(name="")] = Shift()
    """What has changed in the world."""
    adapting: Annotated[AdaptConfig, arg(name="")] = AdaptConfig()
    """How the driver learns."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = LaneKeepingConfig(episode_s=20.0)
    """Where it drives; the frame's size is the policy's own."""
    out: Path | None = None
    """Run directory; runs/adapt-POLICY, with a number added if that is taken, when not given."""
    json: Path | None = None
    """File for the figures, as JSON; they go to results.json in the run directory anyway."""

    def __post_init__(self) -> None:
        """Check that something has changed."""
        if self.shift.is_none:
            raise ValueError(
                "nothing has shifted: give --steering-gain, --friction, --camera-pitch-deg, --camera-yaw-deg or "
                "--camera-height."
            )


def run(options: AdaptOptions) -> Path:
    """Adapt a driver; returns the run directory."""
    check_json(options.json)
    corrections: tuple[Correction, ...] = ()
    if options.policy.name == ADAPTED and options.policy.is_file():
        source, corrections = read_adapted(options.policy)
    else:
        source = find_policy(options.policy)
    policy = load_policy(source)
    old = load_episodes(options.replay, options=options.recording, to_test_on=True)
    old = replace(old, episodes=old.episodes[:REPLAYED])
    world = with_vehicle(with_tracks(options.world))
    world = replace(world, period_s=policy.config.nominal_period_s)
    adaptation = Adaptation(policy, world, options.shift, old, options.adapting, corrections)
    name = source.resolve().parent.name if source.name == "policy" else source.name
    out = new_directory(options.out, f"runs/adapt-{name}")
    check_directory(out, VERB, False, KEPT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # batches are small
    try:
        with open_run(out, VERB, options, results=KEPT) as directory:
            directory.begin()
            figures = _adapt(adaptation, options, out)
            with new_checkpoint(directory.policy) as place:
                save_policy(adaptation.policy, place, {"adapted_from": str(source)})
            write_results(out / "results.json", VERB, options, figures)
            write_results(options.json, VERB, options, figures)
            if adaptation.corrections:
                say(f"driver: {write_adapted(out, adaptation.corrections)}, and without its corrections")
            say(f"policy: {directory.policy}")
    finally:
        torch.set_num_threads(threads)
    return out


def _adapt(adaptation: Adaptation, options: AdaptOptions, out: Path) -> dict[str, Any]:
    """Measure, adapt, measure; returns the figures."""
    updates: list[Update] = []
    with progress("adapting", options.adapting.updates + 4, "parts") as bar:
        before = adaptation.measure(options.shift, BEFORE_SEED)
        bar.advance(1)
        old_before = adaptation.measure(Shift(), OLD_SEED)
        bar.advance(1)
        for update in adaptation.run(out / "data"):
            updates.append(update)
            bar.advance(1)
        after = adaptation.measure(options.shift, BEFORE_SEED)
        bar.advance(1)
        old_after = adaptation.measure(Shift(), OLD_SEED)
        bar.advance(1)
    rows = [
        [
            str(update.number),
            f"{update.interventions.per_km:.1f}",
            f"{update.frames:,}",
            update.shifted.text(3),
            update.old.text(3),
            update.step,
            "taken" if update.accepted else "not taken",
        ]
        for update in updates
    ]
    columns = [
        "update",
        "interventions per km before it",
        "frames learnt from",
        "change of lane error",
        "in the old world",
        "step",
    ]
    table("updates, with 95 % intervals of the paired suite, lane widths", [*columns, ""], rows)
    counted = {"before": before, "after": after, "old world before": old_before, "old world after": old_after}
    rows = [
        [
            name,
            met.rate.text(1),
            str(met.count),
            f"{met.driven_m / 1000:.2f}",
            str(met.crashes),
            f"{100 * met.corrected / max(met.frames, 1):.0f} %",
        ]
        for name, met in counted.items()
    ]
    table("interventions", ["", "per km", "count", "km driven itself", "crashes", "corrected"], rows)
    return {
        "directory": str(out),
        "interventions": {name.replace(" ", "_"): met.to_json() for name, met in counted.items()},
        "updates": [
            {
                "number": update.number,
                "interventions": update.interventions.to_json(),
                "frames": update.frames,
                "shifted": update.shifted.to_json(),
                "old": update.old.to_json(),
                "accepted": update.accepted,
                "step": update.step,
            }
            for update in updates
        ],
    }
