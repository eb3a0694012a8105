"""Make the wiring that a core's config names."""

from __future__ import annotations

from typing import Any

from policies.wiring.wiring import Wiring

WIRINGS = ("ncp", "fully_connected", "random", "published_driver")
"""Names of wirings that are drawn from a size and a seed."""


def check_wiring(wiring: str | dict[str, Any]) -> None:
    """Raise ValueError if the wiring is a name that is not in `WIRINGS`."""
    if isinstance(wiring, str) and wiring not in WIRINGS:
        raise ValueError(f"wiring must be one of {', '.join(WIRINGS)}, or a wiring's to_json(), got {wiring!r}.")


def choose_wiring(
    wiring: str | dict[str, Any], units: int, sparsity: float, seed: int, inputs: int, outputs: int
) -> Wiring:
    """Draw the named wiring, or read the one given as JSON values.

    Args:
        wiring: a name in `WIRINGS` or what `Wiring.to_json` returned.
        units: N, neurons in all, of a wiring that is drawn.
        sparsity: share of the possible synapses left out by "ncp" and "random".
        seed: of the draws.
        inputs: F, features a step.
        outputs: M, motor neurons.

    Raises:
        ValueError: if the name is unknown, or the wiring has other numbers of inputs or outputs.
    """
    check_wiring(wiring)
    if wiring == "ncp":
        return Wiring.auto_ncp(units, outputs, inputs, sparsity, seed)
    if wiring == "random":
        return Wiring.random(units, outputs, inputs, sparsity, seed)
    if wiring == "fully_connected":
        return Wiring.fully_connected(units, outputs, inputs, seed)
    made = Wiring.published_driver(seed) if isinstance(wiring, str) else Wiring.from_json(wiring)
    if (made.inputs, made.outputs) != (inputs, outputs):
        raise ValueError(
            f"the wiring has {made.inputs} inputs and {made.outputs} outputs, needed are {inputs} and {outputs}."
        )
    return made
