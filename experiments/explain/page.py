"""The page of `wormwheel explain`: what was seen, where it looked, what the neurons did, why it steered so.

One HTML file with everything inside; a slider over the drive, and a circuit in which each neuron shows its synapses,
currents, time constant and role. `explain` gathers the numbers, the template and its script draw them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from experiments.explain.watch import Watched
from experiments.reports.page import render
from policies.cores import LTC
from policies.explain.account import Account, explain_decision
from policies.explain.activity import run_activity
from policies.explain.roles import correlations, largest_step, principal_components
from policies.explain.saliency import gradient_saliency, saliency
from policies.policy import DrivingPolicy

GRID = (4, 8)
"""Rows and columns of the picture's regions."""
WIDTH, HEIGHT, MARGIN = 720, 460, 26
"""Of the circuit's drawing, in its own units."""
COLUMNS = {"feature": 60.0, "inter": 270.0, "command": 470.0, "motor": 660.0}
"""Where each layer stands."""
ENLARGED = 3
"""Pictures of fewer than 100 columns are enlarged so many times."""


def explain(
    policy: DrivingPolicy,
    drive: Watched,
    frames: int = 8,
    reference: str = "held",
    every: int = 4,
    silence: dict[int, str] | None = None,
    on_moment: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Gather what the page shows, as JSON values.

    Args:
        policy: the driver.
        drive: what it saw and did.
        frames: K, how far back in time an account goes.
        reference: of the accounts.
        every: frames between two accounts.
        silence: what happened without a neuron, by its number.
        on_moment: called after each account.
    """
    pictures, elapsed = torch.from_numpy(drive.frames), torch.from_numpy(drive.elapsed)
    activity = run_activity(policy, pictures, elapsed)
    count = len(drive.frames)
    glow = torch.cat([saliency(policy, part) for part in pictures.split(64)]).numpy()
    before = torch.cat((torch.zeros_like(activity.states[:1]), activity.states[:-1]))
    slope = torch.cat(
        [
            gradient_saliency(policy, *parts)
            for parts in zip(pictures.split(64), before.split(64), elapsed.split(64), strict=True)
        ]
    ).numpy()
    seen = policy.config.preprocessing(pictures).numpy()
    accounts: dict[str, Any] = {}
    moments = [m for m in range(every - 1, count, every) if m >= frames]
    for moment in moments:
        span = slice(moment - frames + 1, moment + 1)
        start = activity.states[span.start - 1 : span.start]
        account = explain_decision(policy, pictures[span], start, elapsed[span], reference, GRID)
        accounts[str(moment)] = _account_json(account)
        if on_moment is not None:
            on_moment()
    quantities = {name: torch.from_numpy(values) for name, values in drive.quantities.items()}
    quantities = {**quantities, "steering": activity.steering}
    roles = correlations(activity.states, quantities)
    share, _ = principal_components(activity.states) if activity.states.shape[1] else (torch.zeros(0), None)
    step, size = largest_step(activity.states) if activity.states.shape[1] else (0, 0.0)
    return {
        "frames": [_jpeg(frame) for frame in seen],
        "glow": [_jpeg(_overlay(frame, heat)) for frame, heat in zip(seen, glow, strict=True)],
        "slope": [_jpeg(_overlay(frame, heat)) for frame, heat in zip(seen, slope, strict=True)],
        "period_s": drive.period_s,
        "times_s": [round(float(time_s), 3) for time_s in drive.time_s],
        "duration_s": round(drive.duration_s, 3),
        "steering": _short(activity.steering),
        "quantities": {name: _short(values) for name, values in drive.quantities.items()},
        "crashed": drive.crashed,
        "grid": GRID,
        "back": frames,
        "reference": reference,
        "accounts": accounts,
        "circuit": circuit_plan(policy),
        "states": _short(activity.states),
        "tau": None if activity.time_constants_s is None else _short(activity.time_constants_s),
        "currents": None if activity.recurrent_currents is None else _short(activity.recurrent_currents),
        "sensory": None if activity.sensory_currents is None else _short(activity.sensory_currents),
        "roles": {"names": list(quantities), "values": _short(roles)},
        "silence": silence or {},
        "components": _short(share[:6]),
        "largest_step": {"frame": step, "size": round(size, 4)},
        "core": policy.config.core,
    }


def explain_page(found: dict[str, Any], title: str, command: str) -> str:
    """Return the HTML of what `explain` gathered."""
    gaps = [account["gap"] for account in found["accounts"].values() if abs(account["change"]) >= 0.01]
    # `<` cannot end the script that the data stand in.
    data = Markup(json.dumps(found, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704
    return render(
        "explain/templates/explain.html",
        title=title,
        command=command,
        data=data,
        found=found,
        seconds=found["duration_s"],
        gap=max(gaps, default=0.0),
        width=WIDTH,
        height=HEIGHT,
    )


def _account_json(account: Account) -> dict[str, Any]:
    return {
        "steering": round(account.steering, 5),
        "reference": round(account.reference_steering, 5),
        "change": round(account.change, 5),
        "gap": round(account.gap, 5),
        "regions": _short(account.regions.sum(0), 5),
        "back": _short(account.regions.sum((1, 2)), 5),
        "features": _short(account.features.sum(0), 5),
        "layers": {
            name: {"synapses": list(account.synapses[name]), "shares": _short(shares.sum(0), 5)}
            for name, shares in account.layers.items()
        },
    }


def circuit_plan(policy: DrivingPolicy) -> dict[str, Any]:
    """Say where the neurons stand in the drawing and which hears which, as JSON values.

    Returns:
        `nodes` with `id`, `layer`, `x` and `y`; `recurrent` and `sensory` synapses as source, target and sign; the
        places of the `features`, where there are synapses from them.
    """
    core = policy.core
    features = core.input_size
    nodes: list[dict[str, Any]] = []
    if isinstance(core, LTC):
        layers = [(name, list(core.wiring.layer(name))) for name, _ in core.wiring.layers]
        recurrent = [[int(i), int(j), int(sign)] for i, j, sign in core.wiring.recurrent]
        sensory = [[int(i), int(j), int(sign)] for i, j, sign in core.wiring.sensory]
    else:
        layers, recurrent, sensory = [("unit", list(range(core.state_size)))], [], []
    for layer, ids in layers:
        x = COLUMNS.get(layer)
        for place, number in enumerate(ids):
            if x is None:  # no layers that have a place of their own: a grid
                across = max(1, int(np.ceil(np.sqrt(len(ids) * 1.6))))
                rows = -(-len(ids) // across)
                at = (
                    MARGIN + (WIDTH - 2 * MARGIN) * (place % across + 0.5) / across,
                    MARGIN + (HEIGHT - 2 * MARGIN) * (place // across + 0.5) / rows,
                )
            else:
                at = (x, MARGIN + (HEIGHT - 2 * MARGIN) * (place + 0.5) / len(ids))
            nodes.append({"id": number, "layer": layer, "x": round(at[0], 1), "y": round(at[1], 1)})
    nodes.sort(key=lambda node: node["id"])
    spots = [
        [COLUMNS["feature"], round(MARGIN + (HEIGHT - 2 * MARGIN) * (k + 0.5) / features, 1)] for k in range(features)
    ]
    return {"nodes": nodes, "recurrent": recurrent, "sensory": sensory, "features": spots if sensory else []}


def _overlay(frame: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay saliency over a grey frame: the brighter the orange, the more."""
    grey = frame.mean(-1, keepdims=True) * 0.6
    glow = heat[..., None] ** 0.7
    return np.clip(grey * (1 - glow) + glow * np.array([255.0, 150.0, 20.0]), 0, 255).astype(np.uint8)


def _jpeg(frame: NDArray[np.uint8]) -> str:
    times = ENLARGED if frame.shape[1] < 100 else 1
    large = cv2.resize(frame, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    _, coded = cv2.imencode(".jpg", large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def _short(values: Any, digits: int = 4) -> Any:
    return np.round(np.asarray(values, np.float64), digits).tolist()
