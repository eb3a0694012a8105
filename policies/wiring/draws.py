"""Random circuits: which synapses a seed draws, and in which order the random numbers come.

Each function returns the layers, the sensory and the recurrent synapses, which is what a `Wiring` takes after its
number of inputs. The draws come in the order of the reference package, so that a seed gives the same circuit there and
here. The classmethods of `Wiring` are the way to call them, and say what the arguments mean:

    wiring = Wiring.auto_ncp(units=19, outputs=1, inputs=32)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.limits import check_synapses
from policies.wiring.synapses import Synapse

Layers = tuple[tuple[str, int], ...]
"""Name and size of each layer, the motor layer first."""
Drawn = tuple[Layers, tuple[Synapse, ...], tuple[Synapse, ...]]
"""Layers, sensory synapses, recurrent synapses."""


def draw_ncp(
    inputs: int,
    inter: int,
    command: int,
    motor: int,
    sensory_fanout: int,
    inter_fanout: int,
    recurrent_command_synapses: int,
    motor_fanin: int,
    seed: int,
) -> Drawn:
    """Draw a neural circuit policy; see `Wiring.ncp`."""
    for what, fan, layer, size in (
        ("sensory_fanout", sensory_fanout, "inter", inter),
        ("inter_fanout", inter_fanout, "command", command),
        ("motor_fanin", motor_fanin, "command", command),
    ):
        if not 1 <= fan <= size:
            raise ValueError(f"{what} must be between 1 and the {size} {layer} neurons, got {fan}.")
    if inputs < 1 or motor < 1 or recurrent_command_synapses < 0:
        raise ValueError(
            "inputs and motor must be at least 1 and recurrent_command_synapses at least 0, got "
            f"{inputs}, {motor} and {recurrent_command_synapses}."
        )
    check_synapses(
        inputs * sensory_fanout + inter * (inter_fanout + 1) + recurrent_command_synapses + motor * motor_fanin
    )
    rng = np.random.RandomState(seed)
    motor_ids = np.arange(motor)
    command_ids = np.arange(motor, motor + command)
    inter_ids = np.arange(motor + command, motor + command + inter)
    sensory = _connect(rng, np.arange(inputs), inter_ids, sensory_fanout)
    recurrent = _connect(rng, inter_ids, command_ids, inter_fanout)
    for _ in range(recurrent_command_synapses):
        pair = int(rng.choice(command_ids)), int(rng.choice(command_ids))
        recurrent[pair] = int(rng.choice([-1, 1]))
    # Here the receiving side does the picking, so the pairs come out as (target, source).
    for (target, source), polarity in _connect(rng, motor_ids, command_ids, motor_fanin).items():
        recurrent[source, target] = polarity
    return (("motor", motor), ("command", command), ("inter", inter)), _triples(sensory), _triples(recurrent)


def draw_auto_ncp(units: int, outputs: int, inputs: int, sparsity: float, seed: int) -> Drawn:
    """Draw a neural circuit policy from its size alone; see `Wiring.auto_ncp`."""
    if not 1 <= outputs < units - 2:
        raise ValueError(f"outputs must be between 1 and units − 3 = {units - 3}, got {outputs}.")
    if not 0.1 <= sparsity <= 1.0:
        raise ValueError(f"sparsity must be between 0.1 and 1, got {sparsity}.")
    density = 1.0 - sparsity
    hidden = units - outputs
    command = max(int(0.4 * hidden), 1)
    inter = hidden - command
    return draw_ncp(
        inputs=inputs,
        inter=inter,
        command=command,
        motor=outputs,
        sensory_fanout=max(int(inter * density), 1),
        inter_fanout=max(int(command * density), 1),
        recurrent_command_synapses=max(int(command * density * 2), 1),
        motor_fanin=max(int(command * density), 1),
        seed=seed,
    )


def draw_published_driver(seed: int) -> Drawn:
    """Draw the lane-keeping circuit of the paper; see `Wiring.published_driver`."""
    for attempt in range(seed, seed + 1000):
        layers, sensory, recurrent = draw_ncp(32, 12, 6, 1, 6, 4, 7, 6, attempt)
        if len(sensory) + len(recurrent) == 253:
            return layers, sensory, recurrent
    raise AssertionError("1000 seeds in a row repeat a command synapse: the generator is broken.")


def draw_fully_connected(units: int, outputs: int, inputs: int, seed: int, self_connections: bool) -> Drawn:
    """Connect everything to everything; see `Wiring.fully_connected`."""
    check_synapses(units * (units + inputs))
    rng = np.random.default_rng(seed)
    pairs = [(s, t) for s in range(units) for t in range(units) if self_connections or s != t]
    recurrent = _polarised(rng, pairs)
    sensory = _polarised(rng, [(s, t) for s in range(inputs) for t in range(units)])
    return flat_layers(units, outputs), sensory, recurrent


def draw_random(units: int, outputs: int, inputs: int, sparsity: float, seed: int) -> Drawn:
    """Draw every possible synapse with equal chance; see `Wiring.random`."""
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}.")
    check_synapses(units * (units + inputs))  # choosing among the possible ones takes memory for all of them
    rng = np.random.default_rng(seed)

    def draw(sources: int) -> list[tuple[int, int]]:
        chosen = rng.choice(sources * units, size=round(sources * units * (1 - sparsity)), replace=False)
        return [(int(k) // units, int(k) % units) for k in chosen]

    recurrent = _polarised(rng, draw(units))
    # The reference package draws every sensory polarity twice and keeps the second.
    sensory = _polarised(rng, draw(inputs), draws=2)
    return flat_layers(units, outputs), sensory, recurrent


def draw_inputs(inputs: int, reachable: NDArray[np.int64], fanout: int, seed: int) -> tuple[Synapse, ...]:
    """Draw sensory synapses alone, `fanout` from each input to the reachable neurons; see `Wiring.with_inputs`."""
    if not 1 <= fanout <= reachable.size:
        raise ValueError(f"fanout must be between 1 and the {reachable.size} reachable neurons, got {fanout}.")
    return _triples(_connect(np.random.RandomState(seed), np.arange(inputs), reachable, fanout))


def flat_layers(units: int, outputs: int) -> Layers:
    """Return the layers of a circuit without any but motor and other neurons.

    Raises:
        ValueError: if there are more motor neurons than neurons, or none.
    """
    if not 1 <= outputs <= units:
        raise ValueError(f"outputs must be between 1 and the {units} units, got {outputs}.")
    return (("motor", outputs), ("inter", units - outputs)) if outputs < units else (("motor", units),)


def _connect(
    rng: np.random.RandomState, pickers: NDArray[np.int64], picked: NDArray[np.int64], fan: int
) -> dict[tuple[int, int], int]:
    """Let each of one side pick `fan` of the other; then give those that nobody picked their mean share of pickers.

    Returns:
        Polarity by (picker, picked).
    """
    synapses: dict[tuple[int, int], int] = {}
    forgotten = dict.fromkeys(picked.tolist())
    for one in pickers.tolist():
        for other in rng.choice(picked, size=fan, replace=False).tolist():
            forgotten.pop(other, None)
            synapses[one, other] = int(rng.choice([-1, 1]))
    share = min(max(int(pickers.size * fan / picked.size), 1), pickers.size)
    for other in forgotten:
        for one in rng.choice(pickers, size=share, replace=False).tolist():
            synapses[one, other] = int(rng.choice([-1, 1]))
    return synapses


def _polarised(rng: np.random.Generator, pairs: list[tuple[int, int]], draws: int = 1) -> tuple[Synapse, ...]:
    """Give each pair a polarity, +1 with chance 2/3: the last of `draws` draws."""
    polarity = rng.choice([-1, 1, 1], size=(len(pairs), draws))[:, -1]
    return tuple((s, t, int(p)) for (s, t), p in zip(pairs, polarity, strict=True))


def _triples(synapses: dict[tuple[int, int], int]) -> tuple[Synapse, ...]:
    return tuple((source, target, polarity) for (source, target), polarity in synapses.items())
