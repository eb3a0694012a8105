"""Draw a wiring: layers from left to right, excitatory and inhibitory synapses by colour.

ax = plot(Wiring.auto_ncp(units=19, outputs=1, inputs=32))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.wiring.wiring import Wiring

EXCITATORY = "#2374c6"
INHIBITORY = "#d9731a"
LAYER_COLOURS = {"sensory": "#8d99ae", "inter": "#4f8fc0", "command": "#8e6bbf", "motor": "#e9a03b"}
_DEFAULT_COLOUR = "#4f8fc0"


def plot(wiring: Wiring, ax: Any = None) -> Any:
    """Draw the circuit on matplotlib axes.

    Args:
        wiring: the circuit.
        ax: axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    if ax is None:
        _, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    columns = ["sensory", *(name for name, _ in reversed(wiring.layers))]
    inputs_at = _column(wiring.inputs, 0)
    neurons_at = np.zeros((wiring.units, 2))
    for x, name in enumerate(columns[1:], start=1):
        neurons_at[wiring.layer(name)] = _column(len(wiring.layer(name)), x)
    # A layer's neurons stand in one line; a slight bow lets synapses inside a layer be seen.
    for array, sources_at in ((wiring.sensory_array, inputs_at), (wiring.recurrent_array, neurons_at)):
        for polarity, colour in ((1, EXCITATORY), (-1, INHIBITORY)):
            chosen = array[array[:, 2] == polarity]
            paths = [_bow(sources_at[s], neurons_at[t]) for s, t, _ in chosen]
            ax.add_collection(LineCollection(paths, colors=colour, linewidths=0.7, alpha=0.55, zorder=1))
    for x, name in enumerate(columns):
        at = inputs_at if x == 0 else neurons_at[wiring.layer(name)]
        colour = LAYER_COLOURS.get(name, _DEFAULT_COLOUR)
        size = 90 if len(at) <= 40 else 12
        ax.scatter(at[:, 0], at[:, 1], s=size, color=colour, edgecolors="white", linewidths=0.8, zorder=2)
        ax.text(x, 1.08, f"{name}\n{len(at)}", ha="center", va="bottom", fontsize=9)
    handles = [Line2D([], [], color=EXCITATORY, label="excites"), Line2D([], [], color=INHIBITORY, label="inhibits")]
    ax.legend(handles=handles, loc="lower right", frameon=False, fontsize=8)
    ax.set_xlim(-0.4, len(columns) - 0.6)
    ax.set_ylim(-1.2, 1.35)
    ax.axis("off")
    return ax


def _column(count: int, x: float) -> np.ndarray:
    """Return the points of `count` neurons, evenly spaced around the middle; a few stand closer together."""
    half = min(1.0, 0.12 * (count - 1))
    return np.stack([np.full(count, float(x)), np.linspace(half, -half, count)], axis=1)


def _bow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the points of a curve; between neurons of one column it bends to the right, onto itself it is a loop."""
    along = np.linspace(0.0, 1.0, 16)[:, None]
    line = start + along * (end - start)
    if start[0] != end[0]:
        return line
    if start[1] == end[1]:
        angle = 2 * np.pi * along[:, 0]
        return start + 0.06 * np.stack([1.0 - np.cos(angle), np.sin(angle)], axis=1)
    line[:, 0] += (0.08 + 0.15 * abs(end[1] - start[1])) * np.sin(np.pi * along[:, 0])
    return line
