"""Short runs of the long ones: kills, bad commands, damaged files, a few steps. `make kill` and the others run more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reliability import bad_commands, fuzz_readers, kill
from tests.reliability.commands import COMMANDS, Command
from tests.reliability.outcomes import differences, snapshot
from tests.reliability.steps import drive
from tests.reliability.zygote import Place, Strike, import_verbs, run_child

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def record() -> Iterator[Command]:
    """A recording of two episodes in less than a second."""
    import_verbs(("record",))
    words = list(COMMANDS["record"].words)
    words[words.index("--frames") + 1], words[words.index("--episode-s") + 1] = "18", "0.45"
    yield Command(tuple(words), ("--resume",))


def test_a_killed_recording_resumes_to_the_same(tmp_path: Path, record: Command):
    reference = kill.refer(record, {}, tmp_path / "reference")
    assert len(reference.operations) > 10 and any("config.json" in line for line in reference.operations)
    trials = kill.plan("record", reference, ("operation",), 0, 0)
    for trial in random.Random(0).sample(trials, 3):
        assert kill.attempt(trial, record, {}, reference, tmp_path / "trial") == "", str(trial)


def test_a_full_disk_is_one_line_and_the_rest_is_recorded_later(tmp_path: Path, record: Command):
    reference = kill.refer(record, {}, tmp_path / "reference")
    trials = [one for one in kill.plan("record", reference, ("full",), 0, 0) if "steering" in str(one)]
    assert kill.attempt(trials[0], record, {}, reference, tmp_path / "trial") == "", str(trials[0])


def test_the_harness_sees_what_is_wrong(tmp_path: Path, record: Command):
    place = Place(tmp_path / "place")
    whole = run_child(record.words, place, watch=True)
    assert whole.code == 0 and not whole.orphans and whole.complaint == ""
    before = snapshot(place.work)
    assert differences(before, snapshot(place.work)) == []
    steering = next((place.work / "run").rglob("steering.npy"))
    steering.write_bytes(steering.read_bytes()[:-1] + b"x")
    (place.work / "run" / ".left.partial-01234567").touch()
    found = differences(before, snapshot(place.work))
    assert any(line.startswith("other: run/episode_000000/steering.npy") for line in found)
    assert any(line.startswith("left over: run/.left.partial-") for line in found)
    rename = next(line for line in whole.operations if "os.rename" in line)
    killed = run_child(record.words, Place(tmp_path / "other"), Strike(kill_before=rename))
    assert killed.code is None and killed.signal == 9


def test_bad_commands_are_one_line(tmp_path: Path):
    import_verbs(("record", "gallery", "data info"))
    things = {**dict.fromkeys(("policy", "space"), "nowhere"), "data": str(tmp_path / "m" / "data"), "tub": "nowhere"}
    (tmp_path / "m").mkdir()
    for words in (
        ("record", "--out", "new", "--height", "100000000"),
        ("record", "--out", "new", "--period-s", "nan"),
        ("record", "--out", "new", "--frames", "1e"),
        ("gallery", "--out", "new.txt"),
        ("data", "info", "nowhere/at/all"),
        ("recrod",),
    ):
        assert bad_commands.examine(bad_commands.Bad(words), things, tmp_path / "trial") == "", words
    good = bad_commands.examine(bad_commands.Bad(("gallery", "--help")), things, tmp_path / "trial")
    assert good.startswith("ended with 0"), "the harness sees a command that is not refused"


def test_every_option_gets_bad_values():
    made = list(bad_commands.from_declarations(random.Random(0)))
    assert len(made) > 500
    assert any(bad.words[-2:] == ("--episode-s", "nan") for bad in made)


@pytest.mark.parametrize("name", fuzz_readers.READERS)
def test_damage_ends_in_one_line_that_names_the_file(tmp_path: Path, name: str):
    for package in fuzz_readers.READERS[name].needs:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    assert list(fuzz_readers.run([name], 12, 0, tmp_path)) == []


@pytest.mark.parametrize("vehicle", ["bicycle", "bullet"])
def test_random_steps_stay_in_the_space(vehicle: str):
    if vehicle == "bullet":
        pytest.importorskip("pybullet")
    assert drive(vehicle, 300, 0).steps == 300
