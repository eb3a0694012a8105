"""Wiring: which neuron talks to which, and with what sign.

A wiring is a value: frozen, hashable, saved with the policy. Neuron ids run motor first, then command, then inter,
so the first `outputs` neurons are always the motor neurons. The neural circuit policy (NCP) layout is the one of
Lechner et al., "Neural circuit policies enabling auditable autonomy", Nature Machine Intelligence 2020:
sensory inputs → inter → command (recurrent) → motor. `draws` has the random draws, `read_csv`
reads a measured circuit from a file, `plot` draws one.

    wiring = Wiring.auto_ncp(units=19, outputs=1, inputs=32)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.limits import MOST_NEURONS
from policies.wiring import draws as wiring_draws
from policies.wiring.synapses import Synapse, as_array, as_matrix, from_matrix, in_order

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Wiring:
    """A sparse circuit: neurons in layers, synapses from the inputs and among the neurons."""

    inputs: int
    """I, number of sensory inputs (features)."""

    layers: tuple[tuple[str, int], ...]
    """Name and size of each layer, in the order of the neuron ids. The first one is the motor layer."""

    sensory: tuple[Synapse, ...]
    """Synapses from input `source` to neuron `target`; sorted by target, then source."""

    recurrent: tuple[Synapse, ...]
    """Synapses from neuron `source` to neuron `target`; sorted by target, then source."""

    names: tuple[str, ...] = ()
    """Name of every neuron, for wirings read from a file; empty when they have none."""

    def __post_init__(self) -> None:
        """Put the synapses in order and check every number.

        Raises:
            ValueError: if a size is not positive, a synapse ends outside the circuit or comes twice, or a polarity is
                not +1 or −1.
        """
        if self.inputs < 1:
            raise ValueError(f"A wiring needs at least 1 input, got {self.inputs}.")
        if not self.layers or any(size < 1 for _, size in self.layers):
            raise ValueError(f"Every layer needs at least 1 neuron, got {self.layers}.")
        if max(self.units, self.inputs) > MOST_NEURONS:
            raise ValueError(
                f"A wiring must have at most {MOST_NEURONS:,} neurons and as many inputs, got {self.units:,} and "
                f"{self.inputs:,}."
            )
        if self.names and len(self.names) != self.units:
            raise ValueError(f"names must name all {self.units} neurons, got {len(self.names)}.")
        sensory = in_order(self.sensory, self.inputs, self.units, "sensory")
        recurrent = in_order(self.recurrent, self.units, self.units, "recurrent")
        object.__setattr__(self, "layers", tuple((str(name), int(size)) for name, size in self.layers))
        object.__setattr__(self, "sensory", sensory)
        object.__setattr__(self, "recurrent", recurrent)

    @classmethod
    def ncp(
        cls,
        inputs: int,
        inter: int,
        command: int,
        motor: int,
        sensory_fanout: int,
        inter_fanout: int,
        recurrent_command_synapses: int,
        motor_fanin: int,
        seed: int = 22222,
    ) -> Wiring:
        """Draw a neural circuit policy.

        The random draws come in the order of the reference package, so a seed gives the same circuit there and here.

        Args:
            inputs: number of sensory inputs.
            inter: number of inter neurons.
            command: number of command neurons.
            motor: number of motor neurons, the outputs.
            sensory_fanout: inter neurons that each input reaches.
            inter_fanout: command neurons that each inter neuron reaches.
            recurrent_command_synapses: draws of a synapse among the command neurons; the same pair may come twice.
            motor_fanin: command neurons that each motor neuron listens to.
            seed: seed of the draws.

        Raises:
            ValueError: if a fan-out is larger than the layer it goes to, or a size is not positive.
        """
        sizes = inputs, inter, command, motor
        fans = sensory_fanout, inter_fanout, recurrent_command_synapses, motor_fanin
        return cls(inputs, *wiring_draws.draw_ncp(*sizes, *fans, seed))

    @classmethod
    def auto_ncp(cls, units: int, outputs: int, inputs: int, sparsity: float = 0.5, seed: int = 22222) -> Wiring:
        """Draw a neural circuit policy from its size alone.

        Args:
            units: neurons in all.
            outputs: motor neurons; less than `units − 2`.
            inputs: number of sensory inputs.
            sparsity: share of the possible synapses between layers that is left out, from 0.1 to 1.
            seed: seed of the draws.

        Raises:
            ValueError: if `outputs` or `sparsity` is out of range.
        """
        return cls(inputs, *wiring_draws.draw_auto_ncp(units, outputs, inputs, sparsity, seed))

    @classmethod
    def published_driver(cls, seed: int = 22222) -> Wiring:
        """Draw the lane-keeping circuit of the Nature Machine Intelligence paper.

        32 features, 12 inter, 6 command and 1 motor neuron with 253 synapses: 192 sensory, 48 to the command layer,
        7 among it and 6 to the motor neuron. The command pairs are drawn again, from the next seed, until they differ.
        """
        return cls(32, *wiring_draws.draw_published_driver(seed))

    @classmethod
    def fully_connected(
        cls, units: int, outputs: int, inputs: int, seed: int = 1111, self_connections: bool = True
    ) -> Wiring:
        """Connect everything to everything; two of three synapses excite, by the draws of the reference package.

        Args:
            units: neurons in all.
            outputs: motor neurons, at most `units`.
            inputs: number of sensory inputs.
            seed: seed of the polarities.
            self_connections: whether a neuron has a synapse onto itself.
        """
        return cls(inputs, *wiring_draws.draw_fully_connected(units, outputs, inputs, seed, self_connections))

    @classmethod
    def random(cls, units: int, outputs: int, inputs: int, sparsity: float = 0.5, seed: int = 1111) -> Wiring:
        """Draw every possible synapse with equal chance, `1 − sparsity` of them in all.

        Args:
            units: neurons in all.
            outputs: motor neurons, at most `units`.
            inputs: number of sensory inputs.
            sparsity: share of the possible synapses that is left out, in [0, 1).
            seed: seed of the draws.

        Raises:
            ValueError: if `sparsity` is out of range.
        """
        return cls(inputs, *wiring_draws.draw_random(units, outputs, inputs, sparsity, seed))

    @classmethod
    def from_adjacency(
        cls, sensory: NDArray[Any], recurrent: NDArray[Any], outputs: int, layers: tuple[tuple[str, int], ...] = ()
    ) -> Wiring:
        """Take the synapses from two matrices of polarities.

        Args:
            sensory: `[I, N]`, 0 where there is no synapse, else its polarity.
            recurrent: `[N, N]`, row is source, column is target.
            outputs: motor neurons, the first ones.
            layers: as the attribute; a motor and an inter layer when empty.
        """
        sensory, recurrent = np.asarray(sensory), np.asarray(recurrent)
        units = recurrent.shape[0]
        if recurrent.shape != (units, units) or sensory.ndim != 2 or sensory.shape[1] != units:
            raise ValueError(f"sensory must be [I, N] and recurrent [N, N], got {sensory.shape} and {recurrent.shape}.")
        layers = layers or wiring_draws.flat_layers(units, outputs)
        return cls(sensory.shape[0], layers, from_matrix(sensory), from_matrix(recurrent))

    def with_inputs(self, inputs: int, fanout: int, targets: Iterable[int] | None = None, seed: int = 0) -> Wiring:
        """Return this circuit with its sensory synapses replaced by random ones; for connectomes without inputs.

        Args:
            inputs: number of features.
            fanout: neurons that each feature reaches.
            targets: ids of the neurons that may be reached; all when None.
            seed: seed of the draws.
        """
        reachable = np.arange(self.units) if targets is None else np.asarray(sorted(set(targets)))
        sensory = wiring_draws.draw_inputs(inputs, reachable, fanout, seed)
        return Wiring(inputs, self.layers, sensory, self.recurrent, self.names)

    @property
    def units(self) -> int:
        """N, neurons in all."""
        return sum(size for _, size in self.layers)

    @property
    def outputs(self) -> int:
        """M, motor neurons: ids 0 to M − 1."""
        return self.layers[0][1]

    @property
    def synapse_count(self) -> int:
        """Synapses in all, sensory ones included."""
        return len(self.sensory) + len(self.recurrent)

    def layer(self, name: str) -> range:
        """Return the ids of the neurons of a layer.

        Raises:
            ValueError: if there is no layer of that name.
        """
        start = 0
        for layer, size in self.layers:
            if layer == name:
                return range(start, start + size)
            start += size
        raise ValueError(f"There is no layer {name!r}; the layers are {', '.join(layer for layer, _ in self.layers)}.")

    def layer_of(self, neuron: int) -> str:
        """Return the name of the layer that a neuron id belongs to."""
        for layer, size in self.layers:
            if neuron < size:
                return layer
            neuron -= size
        raise ValueError(f"There are {self.units} neurons only.")

    @cached_property
    def sensory_array(self) -> NDArray[np.int64]:
        """`[S_in, 3]` source, target, polarity of the sensory synapses; read-only."""
        return as_array(self.sensory)

    @cached_property
    def recurrent_array(self) -> NDArray[np.int64]:
        """`[S_rec, 3]` source, target, polarity of the recurrent synapses; read-only."""
        return as_array(self.recurrent)

    def adjacency(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the polarities as matrices, `[I, N]` sensory and `[N, N]` recurrent; 0 where there is no synapse."""
        sensory = as_matrix(self.sensory_array, self.inputs, self.units)
        return sensory, as_matrix(self.recurrent_array, self.units, self.units)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain JSON values that `from_json` reads."""
        return {
            "format": FORMAT_VERSION,
            "inputs": self.inputs,
            "layers": [list(layer) for layer in self.layers],
            "sensory": [list(synapse) for synapse in self.sensory],
            "recurrent": [list(synapse) for synapse in self.recurrent],
            "names": list(self.names),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Wiring:
        """Read what `to_json` wrote.

        Raises:
            ValueError: if a key is missing or malformed, or the format is newer than this code.
        """
        try:
            if data["format"] != FORMAT_VERSION:
                raise ValueError(
                    f"The wiring has format {data['format']}, this version reads {FORMAT_VERSION}. Update wormwheel."
                )
            return cls(
                int(data["inputs"]),
                tuple((str(name), int(size)) for name, size in data["layers"]),
                tuple((int(s), int(t), int(p)) for s, t, p in data["sensory"]),
                tuple((int(s), int(t), int(p)) for s, t, p in data["recurrent"]),
                tuple(str(name) for name in data.get("names", ())),
            )
        except (KeyError, TypeError, OverflowError, AttributeError) as error:
            raise ValueError(f"This is no wiring: {error!r} in {str(data)[:80]}") from error
