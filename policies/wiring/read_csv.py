"""Read a wiring from a CSV file, so that a measured connectome can drive.

    source,target,polarity
    input:0,AVA,1
    AVA,motor,-1

One synapse a line. A source `input:3` is feature number 3; every other name is a neuron.

    wiring = read_csv("worm.csv", motors=("motor",))
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from policies.limits import MOST_NEURONS, MOST_SYNAPSES
from policies.wiring.synapses import Synapse
from policies.wiring.wiring import Wiring

HEADER = ["source", "target", "polarity"]
_INPUT = re.compile(r"input:(\d{1,9})")


def read_csv(path: str | Path, motors: int | Sequence[str] = 1, inputs: int | None = None) -> Wiring:
    """Read a circuit, for instance a measured connectome, from a CSV file.

    Args:
        path: file with the header `source,target,polarity`; sources named `input:0`, `input:1`, … are features.
        motors: names of the motor neurons in the order of the outputs; or, for neurons that are numbered from 0,
            how many of the first ones are motor neurons.
        inputs: number of features; the highest one in the file plus one when None.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is malformed; the message names file and line.
    """
    path = Path(path)
    rows = _read_rows(path)
    neurons = _order_neurons(path, rows, motors)
    number = {name: index for index, name in enumerate(neurons)}
    sensory: dict[tuple[int, int], tuple[int, int]] = {}
    recurrent: dict[tuple[int, int], tuple[int, int]] = {}
    for line, source, target, polarity in rows:
        match = _INPUT.fullmatch(source)
        pair = (int(match[1]) if match else number[source], number[target])
        into = sensory if match else recurrent
        if pair in into:
            raise ValueError(
                f"{path}, line {line}: the synapse {source} → {target} stands in line {into[pair][0]} too."
            )
        into[pair] = line, polarity
    found = max((source for source, _ in sensory), default=-1) + 1
    if found > MOST_NEURONS:
        raise ValueError(f"{path}: features must have numbers below {MOST_NEURONS:,}, got input:{found - 1}.")
    if inputs is None:
        inputs = found
    if inputs < max(found, 1):
        raise ValueError(
            f"{path}: expected features input:0 to input:{inputs - 1}, the file has {found}. "
            "For a file without inputs give their number and call with_inputs on the wiring."
        )
    motor_count = motors if isinstance(motors, int) else len(motors)
    layers = (("motor", motor_count), ("inter", len(neurons) - motor_count))
    return Wiring(inputs, layers[: 1 + (layers[1][1] > 0)], _synapses(sensory), _synapses(recurrent), tuple(neurons))


def _synapses(found: dict[tuple[int, int], tuple[int, int]]) -> tuple[Synapse, ...]:
    return tuple((source, target, polarity) for (source, target), (_, polarity) in found.items())


def _read_rows(path: Path) -> list[tuple[int, str, str, int]]:
    """Return line number, source, target and polarity of every synapse."""
    rows: list[tuple[int, str, str, int]] = []
    if path.exists() and not path.is_file():  # Opening a pipe would wait for its writer for ever.
        raise ValueError(f"{path} should be a CSV file, it is a directory, a pipe or a device.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.reader(file)
            header = [cell.strip().lower() for cell in next(reader, [])]
            if header != HEADER:
                raise ValueError(
                    f"{path}, line 1: expected the header {','.join(HEADER)}, got {','.join(header)!r:.80}."
                )
            for cells in reader:
                line, cells = reader.line_num, [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if len(cells) != 3 or not cells[0] or not cells[1]:
                    raise ValueError(
                        f"{path}, line {line}: expected source,target,polarity, got {','.join(cells)!r:.80}."
                    )
                if cells[2] not in ("1", "+1", "-1"):
                    raise ValueError(f"{path}, line {line}: polarity must be 1 or -1, got {cells[2]!r:.80}.")
                if _INPUT.fullmatch(cells[1]):
                    raise ValueError(f"{path}, line {line}: a synapse cannot end at {cells[1]}, inputs only send.")
                if len(rows) == MOST_SYNAPSES:
                    raise ValueError(f"{path}, line {line}: there are more than {MOST_SYNAPSES:,} synapses.")
                rows.append((line, cells[0], cells[1], int(cells[2])))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not a CSV text file: {error}") from error
    if not rows:
        raise ValueError(f"{path}: there is no synapse in it.")
    return rows


def _order_neurons(path: Path, rows: list[tuple[int, str, str, int]], motors: int | Sequence[str]) -> list[str]:
    """Return the neurons' names by id, the motor neurons first."""
    names = list(dict.fromkeys(name for _, s, t, _ in rows for name in (s, t) if not _INPUT.fullmatch(name)))
    if isinstance(motors, int):
        if not all(name.isdecimal() for name in names):
            raise ValueError(f"{path}: the neurons have names, so say which are the motor neurons: motors=('NAME', …).")
        # Longer ones are refused by length: digits without end take time to read as a number.
        count = max((int(name) if len(name) < 10 else 10**9) for name in names) + 1
        if count > MOST_NEURONS:
            raise ValueError(
                f"{path}: neurons must have numbers below {MOST_NEURONS:,}, got one of {count - 1:,} or more."
            )
        if not 1 <= motors <= count:
            raise ValueError(f"{path}: motors must be between 1 and the {count} neurons, got {motors}.")
        return [str(number) for number in range(count)]
    motors = [str(name) for name in motors]
    missing = [name for name in motors if name not in names]
    if missing or not motors or len(set(motors)) < len(motors):
        raise ValueError(
            f"{path}: motors must name neurons of the file, each once; got {motors}, not in the file: {missing}."
        )
    return motors + [name for name in names if name not in motors]
