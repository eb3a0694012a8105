"""Do the shares of an account predict what happens when a part is taken away?

    python -m experiments.explain.ablation --policy runs/ltc runs/lstm --moments 500

At random moments of drives in LaneKeeping, a random region of the picture is made that of the reference for the last K
frames, and the change of the steering is compared with what was predicted: rank correlation (Spearman) over all
moments. Predicted twice: by the slope of the circuit and the head run without the region (`predicted_removal`), and by
the region's share in the account, beside the largest gap between the shares' sum and the change. For LTCs the same
with synapses: one is cut for the K frames, predicted from the gradient of its conductance. `--closed-loop N` does it
on the road at N moments: the region of the camera's picture itself keeps what it showed at the first of K frames, or
the synapse is cut from there on, the car drives on, and what it steers at the last, and where it is then, is compared
with the drive that was left alone. The prediction knows nothing of where the car goes instead and what it sees there:
a car that steers less to the left soon sees that it should steer more.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from scipy.stats import spearmanr

from experiments.cli import run_script
from experiments.console import check_json, progress, table, write_results
from experiments.explain.watch import Watched, watch_drive
from experiments.policy_paths import name_policies
from policies.checkpoint import load_policy
from policies.explain.account import explain_decision, measured_change, predicted_removal, region_masks
from policies.explain.activity import run_activity
from policies.policy import DrivingPolicy


@dataclass(frozen=True, config={"extra": "forbid"})
class AblationOptions:
    """Compare predicted with measured changes of the steering."""

    policy: tuple[Path, ...] = field(default_factory=tuple)
    """Policies: policy directories, or run directories that hold one."""
    moments: PositiveInt = 500
    """Moments for each policy."""
    frames: Annotated[int, Field(ge=2)] = 8
    """K, frames back in time."""
    reference: Literal["held", "blank"] = "held"
    """What the pictures are compared with: the oldest of the K held still, or pictures without contrast."""
    grid: tuple[int, int] = (2, 4)
    """Rows and columns of regions."""
    shares: bool = True
    """Compare the shares of regions too, whose integrals take most of the time."""
    closed_loop: Annotated[int, Field(ge=0)] = 0
    """Moments at which a region is covered on the road, and a synapse is cut, for each policy; costs a drive each."""
    seed: Annotated[int, Field(ge=0)] = 3000
    """Seed of the first road, and of the draws."""
    json: Path | None = None
    """File for the figures and every moment, as JSON."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Agreement:
    """How well shares predict.

    Attributes:
        spearman: rank correlation of predicted and measured change.
        gap: largest part of a change that the shares miss, over moments whose change is at least 0.01.
        moments: how many.
        predicted: change of the steering as predicted, moment by moment.
        measured: as measured.
    """

    spearman: float
    gap: float
    moments: int
    predicted: tuple[float, ...]
    measured: tuple[float, ...]


def run(options: AblationOptions) -> None:
    """Compare, print, write."""
    check_json(options.json)
    if not options.policy:
        raise ValueError("nothing to explain: give --policy with one or more policy directories.")
    found: dict[str, dict[str, Agreement]] = {}
    for name, path in name_policies(options.policy).items():
        policy = load_policy(path)
        found[name] = {"region": removals(policy, options)}
        if options.shares:
            found[name]["region, by its share"] = regions(policy, options)
        if has_synapses(policy):
            found[name]["synapse"] = synapses(policy, options)
        if options.closed_loop:
            found[name] |= on_the_road(policy, options)
            if has_synapses(policy):
                found[name] |= synapses_on_the_road(policy, options)
    rows = [
        [name, part, f"{one.moments}", f"{one.spearman:.3f}", "–" if np.isnan(one.gap) else f"{one.gap:.2%}"]
        for name, parts in found.items()
        for part, one in parts.items()
    ]
    columns = ["policy", "taken away", "moments", "Spearman", "largest gap of the shares' sum"]
    table(f"predicted against measured change of the steering, K = {options.frames}", columns, rows, left=2)
    write_results(options.json, "ablation", options, found)


def moments(policy: DrivingPolicy, options: AblationOptions, count: int, kind: int) -> Any:
    """Yield `(seed, drive, states, first frame, generator)` at random moments, a few from each drive."""
    each, rng, made, seed = 25, np.random.default_rng([options.seed, kind]), 0, options.seed
    while made < count:
        drive = watch_drive(policy, seed, 10.0)
        if len(drive.frames) > 3 * options.frames:
            states = run_activity(policy, torch.from_numpy(drive.frames), torch.from_numpy(drive.elapsed)).states
            firsts = rng.integers(options.frames, len(drive.frames) - options.frames, min(each, count - made))
            for first in firsts:
                yield seed, drive, states, int(first), rng
            made += len(firsts)
        seed += 1
        if seed > options.seed + 40 * (count // each + 1):
            raise ValueError("this driver does not stay on the road long enough to be explained.")


def regions(policy: DrivingPolicy, options: AblationOptions) -> Agreement:
    """Take a random region away at each moment; predicted by its share in the account."""
    fit = policy.config.preprocessing
    masks = region_masks(fit.height, fit.width, options.grid)
    predicted, measured, gaps = [], [], []
    with progress("shares", options.moments, "moments") as bar:
        for _, drive, states, first, rng in moments(policy, options, options.moments, 0):
            span = slice(first, first + options.frames)
            given = torch.from_numpy(drive.frames[span]), states[first - 1 : first]
            times = torch.from_numpy(drive.elapsed[span])
            account = explain_decision(policy, *given, times, options.reference, options.grid)
            number = int(rng.integers(len(masks)))
            predicted.append(float(account.regions.sum(0).flatten()[number]))
            measured.append(
                float(measured_change(policy, *given, masks[number : number + 1], times, options.reference)[0])
            )
            if abs(account.change) >= 0.01:
                gaps.append(account.gap)
            bar.advance()
    return _agree(predicted, measured, max(gaps, default=float("nan")))


def removals(policy: DrivingPolicy, options: AblationOptions) -> Agreement:
    """Take a random region away at each moment; predicted for that question (`predicted_removal`)."""
    fit = policy.config.preprocessing
    masks = region_masks(fit.height, fit.width, options.grid)
    predicted, measured = [], []
    with progress("regions", options.moments, "moments") as bar:
        for _, drive, states, first, rng in moments(policy, options, options.moments, 0):
            span = slice(first, first + options.frames)
            number = int(rng.integers(len(masks)))
            given = torch.from_numpy(drive.frames[span]), states[first - 1 : first], masks[number : number + 1]
            more = torch.from_numpy(drive.elapsed[span]), options.reference
            predicted.append(float(predicted_removal(policy, *given, *more)[0]))
            measured.append(float(measured_change(policy, *given, *more)[0]))
            bar.advance()
    return _agree(predicted, measured)


def has_synapses(policy: DrivingPolicy) -> bool:
    """Whether synapses can be cut one by one."""
    from policies.cores import LTC

    return isinstance(policy.core, LTC) and policy.core.config.solver == "fused"


def synapses(policy: DrivingPolicy, options: AblationOptions) -> Agreement:
    """Cut a random recurrent synapse at each moment."""
    from policies.explain.account import cut_change, predicted_cut

    predicted, measured = [], []
    with progress("synapses", options.moments, "moments") as bar:
        for _, drive, states, first, rng in moments(policy, options, options.moments, 1):
            span = slice(first, first + options.frames)
            given = torch.from_numpy(drive.frames[span]), states[first - 1 : first]
            times = torch.from_numpy(drive.elapsed[span])
            shares = predicted_cut(policy, *given, times)
            number = int(rng.integers(len(shares)))
            predicted.append(float(shares[number]))
            measured.append(cut_change(policy, *given, number, times))
            bar.advance()
    return _agree(predicted, measured)


def on_the_road(policy: DrivingPolicy, options: AblationOptions) -> dict[str, Agreement]:
    """Cover a random region while the car drives on; predicted by `predicted_removal` and by its share."""
    fit = policy.config.preprocessing
    masks = region_masks(fit.height, fit.width, options.grid)
    rows, columns = (masks[:, :, 0].shape[1], masks.shape[2])
    if (rows, columns) != (fit.source_height, fit.source_width):
        raise ValueError("--closed-loop needs a policy whose camera gives what its head sees, without crop or resize.")
    predicted: list[float] = []
    shares: list[float] = []
    measured: list[float] = []
    moved: list[float] = []
    with progress("on the road", options.closed_loop, "moments") as bar:
        for seed, drive, states, first, rng in moments(policy, options, options.closed_loop, 2):
            span = slice(first, first + options.frames)
            given = torch.from_numpy(drive.frames[span]), states[first - 1 : first]
            times = torch.from_numpy(drive.elapsed[span])
            account = explain_decision(policy, *given, times, options.reference, options.grid)
            number = int(rng.integers(len(masks)))
            last = first + options.frames - 1
            mask = masks[number].numpy()
            covered = watch_drive(policy, seed, 10.0, cover=(first, mask), stop=last + 1)
            if len(covered.steering) > last:  # else it is off the road before
                removed = predicted_removal(policy, *given, masks[number : number + 1], times, options.reference)
                predicted.append(float(removed[0]))
                shares.append(float(account.regions.sum(0).flatten()[number]))
                _note(drive, covered, last, measured, moved)
            bar.advance()
    return {
        "region, on the road": _agree(predicted, measured),
        "region, on the road, by its share": _agree(shares, measured),
        "region, on the road: place": _agree(predicted, moved),
        "region, on the road, by its share: place": _agree(shares, moved),
    }


def synapses_on_the_road(policy: DrivingPolicy, options: AblationOptions) -> dict[str, Agreement]:
    """Cut a random recurrent synapse while the car drives on."""
    from policies.explain.account import predicted_cut

    predicted: list[float] = []
    measured: list[float] = []
    moved: list[float] = []
    with progress("cut on the road", options.closed_loop, "moments") as bar:
        for seed, drive, states, first, rng in moments(policy, options, options.closed_loop, 3):
            span, last = slice(first, first + options.frames), first + options.frames - 1
            given = torch.from_numpy(drive.frames[span]), states[first - 1 : first]
            changes = predicted_cut(policy, *given, torch.from_numpy(drive.elapsed[span]))
            number = int(rng.integers(len(changes)))
            without = watch_drive(policy, seed, 10.0, stop=last + 1, without=(first, number))
            if len(without.steering) > last:
                predicted.append(float(changes[number]))
                _note(drive, without, last, measured, moved)
            bar.advance()
    return {
        "synapse, on the road": _agree(predicted, measured),
        "synapse, on the road: place": _agree(predicted, moved),
    }


def _note(alone: Watched, changed: Watched, last: int, measured: list[float], moved: list[float]) -> None:
    """Add by how much a changed drive steers less at its last step, and how much less far left it is."""
    measured.append(float(alone.steering[last] - changed.steering[last]))
    moved.append(float(alone.quantities["offset"][last] - changed.quantities["offset"][last]))


def _agree(predicted: list[float], measured: list[float], gap: float = float("nan")) -> Agreement:
    found = float(spearmanr(predicted, measured).statistic)
    return Agreement(found, gap, len(predicted), tuple(predicted), tuple(measured))


if __name__ == "__main__":
    run_script(AblationOptions, run)
