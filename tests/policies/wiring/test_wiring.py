"""Wirings: the reference package's circuits from the same seed, values that cannot change, files with clear errors."""

from __future__ import annotations

import itertools
import json

import ncps.wirings
import numpy as np
import pytest

from policies.wiring.plot import plot
from policies.wiring.read_csv import read_csv
from policies.wiring.wiring import Wiring

SIZES = [(5, 2, 1, 0.5, 0)]  # as many motor neurons as can be
SIZES += [
    (units, outputs, inputs, sparsity, seed)
    for units, outputs, inputs, sparsity, seed in itertools.product(
        (5, 19, 64), (1, 3), (1, 7, 32), (0.1, 0.5, 0.9, 1.0), (22222, 0)
    )
    if outputs < units - 2
]


def assert_same(wiring: Wiring, peer: ncps.wirings.Wiring) -> None:
    sensory, recurrent = wiring.adjacency()
    np.testing.assert_array_equal(sensory, peer.sensory_adjacency_matrix)
    np.testing.assert_array_equal(recurrent, peer.adjacency_matrix)


@pytest.mark.parametrize(("units", "outputs", "inputs", "sparsity", "seed"), SIZES)
def test_auto_ncp_is_the_peers(units: int, outputs: int, inputs: int, sparsity: float, seed: int) -> None:
    peer = ncps.wirings.AutoNCP(units, outputs, sparsity_level=sparsity, seed=seed)
    peer.build(inputs)
    wiring = Wiring.auto_ncp(units, outputs, inputs, sparsity, seed)
    assert_same(wiring, peer)
    for neuron in range(units):
        assert wiring.layer_of(neuron) == peer.get_type_of_neuron(neuron)


@pytest.mark.parametrize("seed", range(40))
def test_ncp_is_the_peers(seed: int) -> None:
    """Random sizes: among them fan-outs so small that neurons are left over and have to be connected afterwards."""
    rng = np.random.default_rng(seed)
    inputs, inter, command, motor = (int(n) for n in rng.integers(1, 30, 4))
    sensory_fanout = int(rng.integers(1, inter + 1))
    inter_fanout, motor_fanin = (int(n) for n in rng.integers(1, command + 1, 2))
    recurrent = int(rng.integers(0, 3 * command))
    sizes = inter, command, motor, sensory_fanout, inter_fanout, recurrent, motor_fanin
    peer = ncps.wirings.NCP(*sizes, seed=seed)
    peer.build(inputs)
    assert_same(Wiring.ncp(inputs, *sizes, seed=seed), peer)


@pytest.mark.parametrize(("units", "outputs", "inputs"), [(1, 1, 1), (7, 2, 3), (19, 1, 32)])
def test_dense_and_random_are_the_peers(units: int, outputs: int, inputs: int) -> None:
    peer = ncps.wirings.FullyConnected(units, outputs, self_connections=units > 5)
    peer.build(inputs)
    assert_same(Wiring.fully_connected(units, outputs, inputs, self_connections=units > 5), peer)
    peer = ncps.wirings.Random(units, outputs, sparsity_level=0.4)
    peer.build(inputs)
    assert_same(Wiring.random(units, outputs, inputs, sparsity=0.4), peer)


def test_sizes_of_the_documented_circuits() -> None:
    wiring = Wiring.auto_ncp(units=19, outputs=1, inputs=32)
    assert wiring.layers == (("motor", 1), ("command", 7), ("inter", 11))
    assert (len(wiring.recurrent), len(wiring.sensory)) == (46, 160)
    driver = Wiring.published_driver()
    assert driver.layers == (("motor", 1), ("command", 6), ("inter", 12))
    assert (driver.inputs, driver.outputs, driver.units, driver.synapse_count) == (32, 1, 19, 253)
    assert driver.layer("command") == range(1, 7)


def test_every_neuron_of_an_ncp_is_reached() -> None:
    for seed in range(20):
        wiring = Wiring.ncp(4, 12, 9, 3, 1, 1, 2, 1, seed=seed)
        assert {t for _, t, _ in wiring.sensory} == set(wiring.layer("inter"))
        assert {t for _, t, _ in wiring.recurrent} >= {*wiring.layer("command"), *wiring.layer("motor")}
        assert {s for s, _, _ in wiring.recurrent} >= {*wiring.layer("command"), *wiring.layer("inter")}


def test_is_a_value() -> None:
    first, second = (Wiring.auto_ncp(19, 1, 8) for _ in range(2))
    assert first == second and hash(first) == hash(second) and first != Wiring.auto_ncp(19, 1, 8, seed=1)
    with pytest.raises(AttributeError):
        first.inputs = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        first.sensory_array[0, 0] = 1
    shuffled = Wiring(first.inputs, first.layers, first.sensory[::-1], first.recurrent[::-1])
    assert shuffled == first
    assert Wiring.from_json(json.loads(json.dumps(first.to_json()))) == first
    assert Wiring.from_adjacency(*first.adjacency(), outputs=1, layers=first.layers) == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensory": [[8, 0, 1]]}, "must go from 0..7 to 0..18, got 8 → 0"),
        ({"recurrent": [[0, 19, 1]]}, "got 0 → 19"),
        ({"recurrent": [[0, 1, 2]]}, r"polarity of recurrent synapse 0 → 1 must be \+1 or −1, got 2"),
        ({"recurrent": [[0, 1, 1], [0, 1, -1]]}, "0 → 1 comes twice"),
        ({"layers": [["motor", 0]]}, "at least 1 neuron"),
        ({"inputs": 0}, "at least 1 input"),
        ({"names": ["a"]}, "must name all 19"),
        ({"format": 2}, "Update wormwheel"),
        ({"sensory": 3}, "no wiring"),
    ],
)
def test_broken_json_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wiring.from_json({**Wiring.auto_ncp(19, 1, 8).to_json(), **change})


def test_missing_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no wiring: KeyError"):
        Wiring.from_json({"format": 1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wiring.auto_ncp(5, 3, 1), "outputs must be between 1 and units − 3 = 2, got 3"),
        (lambda: Wiring.auto_ncp(19, 1, 8, sparsity=0.05), "sparsity must be between 0.1 and 1"),
        (lambda: Wiring.ncp(8, 4, 3, 1, 5, 2, 2, 2), "sensory_fanout must be between 1 and the 4 inter neurons, got 5"),
        (lambda: Wiring.ncp(8, 4, 3, 1, 2, 2, 2, 4), "motor_fanin must be between 1 and the 3 command neurons, got 4"),
        (lambda: Wiring.ncp(0, 4, 3, 1, 2, 2, 2, 2), "inputs and motor must be at least 1"),
        (lambda: Wiring.random(5, 1, 2, sparsity=1.0), r"sparsity must be in \[0, 1\), got 1.0"),
        (lambda: Wiring.fully_connected(5, 6, 2), "outputs must be between 1 and the 5 units, got 6"),
        (lambda: Wiring.auto_ncp(19, 1, 8).layer("hidden"), "layers are motor, command, inter"),
        (lambda: Wiring.auto_ncp(19, 1, 8).with_inputs(3, 20), "fanout must be between 1 and the 19"),
        (lambda: Wiring.from_adjacency(np.ones((2, 3)), np.ones((4, 4)), 1), r"got \(2, 3\) and \(4, 4\)"),
    ],
)
def test_impossible_sizes_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


WORM = "source,target,polarity\ninput:1,AVA,1\n AVA , RIM,-1\n\nRIM,AVA,+1\nAVA,VB1,1\n"


def test_reads_a_named_connectome(tmp_path) -> None:
    path = tmp_path / "worm.csv"
    path.write_text(WORM)
    wiring = read_csv(path, motors=("VB1",))
    assert wiring.names == ("VB1", "AVA", "RIM") and wiring.inputs == 2
    assert wiring.layers == (("motor", 1), ("inter", 2))
    assert wiring.sensory == ((1, 1, 1),)
    assert set(wiring.recurrent) == {(1, 2, -1), (2, 1, 1), (1, 0, 1)}
    assert Wiring.from_json(wiring.to_json()) == wiring
    wider = wiring.with_inputs(16, fanout=2, targets=(1, 2))
    assert len(wider.sensory) == 32 and {t for _, t, _ in wider.sensory} == {1, 2}


def test_reads_numbered_neurons(tmp_path) -> None:
    path = tmp_path / "circuit.csv"
    path.write_text("source,target,polarity\ninput:0,3,1\n3,0,-1\n")
    wiring = read_csv(path, motors=2, inputs=4)
    assert (wiring.units, wiring.outputs, wiring.inputs) == (4, 2, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: expected the header source,target,polarity, got ''"),
        ("a,b\n", "line 1: expected the header"),
        ("source,target,polarity\n", "there is no synapse in it"),
        ("source,target,polarity\ninput:0,0,1\n1,0\n", "line 3: expected source,target,polarity, got '1,0'"),
        ("source,target,polarity\n1,0,0.5\n", "line 2: polarity must be 1 or -1, got '0.5'"),
        ("source,target,polarity\n1,input:0,1\n", "line 2: a synapse cannot end at input:0"),
        ("source,target,polarity\ninput:0,0,1\n1,0,1\n1,0,-1\n", "line 4: the synapse 1 → 0 stands in line 3 too"),
        ("source,target,polarity\nA,B,1\n", "say which are the motor neurons"),
        ("source,target,polarity\n1,0,1\n", "the file has 0. For a file without inputs"),
        ("source,target,polarity\ninput:0,999999999,1\n", "neurons must have numbers below 100,000"),
        (f"source,target,polarity\ninput:0,{'9' * 5000},1\n", "neurons must have numbers below 100,000"),
        ("source,target,polarity\ninput:999999999,0,1\n", "features must have numbers below 100,000"),
    ],
)
def test_malformed_files_name_the_line(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_csv(path)
    assert "bad.csv" in str(error.value)


def test_file_errors(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00source")
    with pytest.raises(ValueError, match="not a CSV text file"):
        read_csv(tmp_path / "binary.csv")
    (tmp_path / "worm.csv").write_text(WORM)
    with pytest.raises(ValueError, match="not in the file: \\['VA1'\\]"):
        read_csv(tmp_path / "worm.csv", motors=("VB1", "VA1"))


def test_draws_every_neuron_and_synapse() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wiring = Wiring.auto_ncp(19, 1, 6)
    ax = plot(wiring)
    lines = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    assert sum(len(c.get_paths()) for c in lines) == wiring.synapse_count
    dots = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
    assert sorted(len(c.get_offsets()) for c in dots) == [1, 6, 7, 11]
    ax.figure.canvas.draw()
    plt.close(ax.figure)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: Wiring.fully_connected(50_000, 1, 8),
        lambda: Wiring.random(50_000, 1, 8, sparsity=0.999),
        lambda: Wiring.random(1_000, 1, 10**12, sparsity=0.999),  # inputs count too
        lambda: Wiring.fully_connected(1_000, 1, 10**12),
        lambda: Wiring.auto_ncp(50_000, 1, 8, sparsity=0.1),
        lambda: Wiring.ncp(8, 50_000, 50_000, 1, 1, 50_000, 1, 1),
        lambda: Wiring.ncp(90_000, 50, 5, 1, 40, 2, 3, 2),  # and what they reach
        lambda: Wiring(8, (("motor", 10**9),), (), ()),
        lambda: Wiring(10**9, (("motor", 1),), (), ()),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(draw) -> None:
    with pytest.raises(ValueError, match="make it smaller|at most 100,000 neurons"):
        draw()


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": float("inf")},
        {"inputs": None},
        {"layers": [["motor", float("nan")]]},
        {"layers": [[]]},
        {"layers": 3},
        {"sensory": [[0, 0]]},
        {"sensory": [["a", 0, 1]]},
        {"recurrent": [[float("inf"), 0, 1]]},
        {"names": 5},
        {"format": [1]},
    ],
)
def test_wrong_types_in_json_are_one_error(change: dict) -> None:
    with pytest.raises(ValueError):
        Wiring.from_json({**Wiring.auto_ncp(19, 1, 8).to_json(), **change})
