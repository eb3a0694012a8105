"""Kills, stops and full disks for every verb: the same command again must end as if nothing had been.

    python -m tests.reliability.kill --verbs record "train imitation" --kills 20 --seed 0

Each trial strikes a command once, runs it again (with --resume where the verb has it), and compares everything that it
has left, logs and temporary files included, with an undisturbed run: clocks aside it must be the same, byte for byte,
and nothing more. Strikes are

    moment     SIGKILL at a seeded moment, and in a third of the trials the second run is killed as well
    operation  SIGKILL just before each distinct file operation, the first and the last time
    full       the disk is full from each of those operations on: one line, exit code 2, then again with room
    term       SIGTERM at a seeded moment
    ctrl-c     SIGINT once, to the whole process group: one line, exit code 130, no traceback
    ctrl-c-2   SIGINT twice, a moment apart: no traceback

Faults are printed with what reproduces them; the exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.commands import COMMANDS, Command, make_materials
from tests.reliability.outcomes import differences, snapshot
from tests.reliability.zygote import Ended, Place, Strike, import_verbs, run_child

KINDS = ("moment", "operation", "full", "term", "ctrl-c", "ctrl-c-2")
"""What can befall a command."""
SLOWEST_S = 120.0
"""Longest time that a command may take, its work included."""


@dataclass(frozen=True)
class Reference:
    """An undisturbed run."""

    left: dict[str, str]
    """What it has left where it works."""
    temporary: dict[str, str]
    """What it has left in the folder of temporary files."""
    operations: list[str]
    """Its file operations, in order."""
    seconds: float
    """How long it took."""
    code: int


@dataclass(frozen=True)
class Trial:
    """One strike at one verb."""

    verb: str
    kind: str
    strike: Strike
    again: Strike | None = None
    """What befalls the second run, before a third."""

    def __str__(self) -> str:
        """Say what happens, in a line."""
        strike = self.strike
        what = strike.kill_before or strike.full_before or f"{strike.kill_after_s or strike.signals}"
        return f"{self.verb}, {self.kind} {what}" + (f", then {self.again.kill_after_s:.3f} s" if self.again else "")


def refer(command: Command, materials: dict[str, str], root: Path) -> Reference:
    """Run a command undisturbed."""
    place = Place(root)
    shutil.rmtree(root, ignore_errors=True)
    ended = run_child(command.given(materials), place, watch=True, prepare=command.prepare, timeout_s=600)
    assert ended.code == 0, ended.err
    left = Reference(snapshot(place.work), snapshot(place.temporary), ended.operations, ended.seconds, ended.code)
    shutil.rmtree(root)
    return left


def plan(verb: str, reference: Reference, kinds: Sequence[str], count: int, seed: int) -> list[Trial]:
    """Return the trials of a verb: `count` of each kind at seeded moments, and all points."""
    rng = random.Random(f"{seed} {verb}")
    longest_s = 1.05 * reference.seconds
    trials = []
    for kind in kinds:
        if kind in ("operation", "full"):
            points = _points(reference.operations, space=kind == "full")
            for point in points:
                strike = Strike(kill_before=point) if kind == "operation" else Strike(full_before=point)
                trials.append(Trial(verb, kind, strike))
            continue
        for _ in range(count):
            moment_s = rng.uniform(0, longest_s)
            if kind == "moment":
                again = Strike(kill_after_s=rng.uniform(0, longest_s)) if rng.random() < 1 / 3 else None
                trials.append(Trial(verb, kind, Strike(kill_after_s=moment_s), again))
            elif kind == "term":
                trials.append(Trial(verb, kind, Strike(signals=((moment_s, signal.SIGTERM),))))
            else:
                moments = [moment_s] if kind == "ctrl-c" else [moment_s, moment_s + rng.uniform(0, 0.1)]
                trials.append(Trial(verb, kind, Strike(signals=tuple((one, signal.SIGINT) for one in moments))))
    return trials


def _points(operations: list[str], space: bool) -> list[str]:
    """Return the first and the last time of each distinct operation; only those that need space if asked."""
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    for numbered in operations:
        name = numbered.rpartition(" #")[0]
        if space and not name.startswith(("open", "os.mkdir")):
            continue
        first.setdefault(name, numbered)
        last[name] = numbered
    return list(dict.fromkeys([*first.values(), *last.values()]))


def attempt(trial: Trial, command: Command, materials: dict[str, str], reference: Reference, root: Path) -> str:
    """Strike, run again, compare; returns what is wrong, "" if nothing is."""
    shutil.rmtree(root, ignore_errors=True)
    place = Place(root)
    words = command.given(materials)
    struck = run_child(words, place, trial.strike, SLOWEST_S, prepare=command.prepare)
    if fault := _fault_of_end(trial, struck):
        return fault
    if struck.code == 0:
        return compare(place, reference, struck)
    if trial.again is not None:
        run_child([*words, *command.resume], place, trial.again, SLOWEST_S, prepare=command.prepare)
    ended = run_child([*words, *command.resume], place, timeout_s=SLOWEST_S, prepare=command.prepare)
    if ended.code == 2 and command.resume and "Leave out --resume" in ended.err:
        ended = run_child(words, place, timeout_s=SLOWEST_S, prepare=command.prepare)
    if ended.code == 2 and command.resume and "already holds results" in ended.err:
        return f"neither starts nor resumes: {ended.complaint}"
    if ended.code == 2 and "not empty, and nothing is written over" in ended.err:
        return compare(place, reference, struck)  # It was struck when all was done.
    if ended.code != 0:
        return f"the second run ended with {ended.code or ended.signal}: {ended.complaint or ended.err[-1500:]}"
    return compare(place, reference, ended)


def _fault_of_end(trial: Trial, ended: Ended) -> str:
    """Say what is wrong with how a command ended that was struck."""
    if ended.timed_out:
        return f"hung: {ended.err[-500:]}"
    if ended.orphans:
        return f"left {len(ended.orphans)} processes behind"
    if "Traceback" in ended.err or "Exception ignored" in ended.err:
        return f"a traceback: {ended.err[-1500:]}"
    if ended.code == 0:
        return ""
    wanted = {"full": (2,), "ctrl-c": (130,), "ctrl-c-2": (130, -signal.SIGINT)}
    wanted |= {"moment": (-signal.SIGKILL,), "operation": (-signal.SIGKILL,), "term": (-signal.SIGTERM, 143)}
    code = ended.code if ended.code is not None else -(ended.signal or 0)
    if code not in wanted[trial.kind]:
        return f"ended with {code}: {ended.err[-500:]}"
    if trial.kind in ("full", "ctrl-c") and len(ended.complaint.splitlines()) != 1:
        return f"not one line: {ended.err[-800:]}"
    return ""


def compare(place: Place, reference: Reference, ended: Ended) -> str:
    """Say in what a command has left something else than an undisturbed run, "" if in nothing."""
    found = differences(reference.left, snapshot(place.work))
    found += [f"in tmp, {line}" for line in differences(reference.temporary, snapshot(place.temporary))]
    if ended.orphans:
        found.append(f"{len(ended.orphans)} processes left behind")
    return "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")


def run(
    verbs: Sequence[str],
    kinds: Sequence[str],
    count: int,
    seed: int,
    root: Path,
    most: int | None = None,
    materials_at: Path | None = None,
) -> Iterator[tuple[Trial, str]]:
    """Yield every trial with what is wrong with it.

    Args:
        verbs: names of `COMMANDS`.
        kinds: of `KINDS`.
        count: trials at seeded moments, for each verb and kind.
        seed: of the moments.
        root: directory to work in.
        most: a seeded sample of so many trials of each verb.
        materials_at: where what the commands need is made, and found if it is there already; below `root` when None.
    """
    import_verbs([*verbs, "record", "train imitation"])
    place = materials_at or root / "materials"
    place.mkdir(exist_ok=True)
    materials = make_materials(place)
    for verb in verbs:
        command = COMMANDS[verb]
        refer(command, materials, root / "first")  # Once before: kernels are compiled and caches filled.
        reference = refer(command, materials, root / "reference")
        trials = plan(verb, reference, kinds, count, seed)
        if most is not None:
            trials = random.Random(seed).sample(trials, min(most, len(trials)))
        for trial in trials:
            yield trial, attempt(trial, command, materials, reference, root / "trial")
        print(f"{verb}: {len(trials)} trials", file=sys.stderr, flush=True)


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", nargs="*", default=list(COMMANDS), choices=list(COMMANDS), metavar="VERB")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--kills", type=int, default=20, help="trials at seeded moments, for each verb and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="a seeded sample of so many trials of each verb")
    parser.add_argument("--verbose", action="store_true", help="a line for each trial")
    parser.add_argument("--materials", type=Path, help="directory in which what they are given is made and kept")
    options = parser.parse_args()
    materials = options.materials.absolute() if options.materials else None
    verbs = []
    for verb in options.verbs:
        missing = [name for name in COMMANDS[verb].needs if importlib.util.find_spec(name) is None]
        if missing:
            print(f"left out: {verb}, for want of {', '.join(missing)}")
        else:
            verbs.append(verb)
    tried: Counter[tuple[str, str]] = Counter()
    faults: Counter[tuple[str, str]] = Counter()
    begun_s = time.monotonic()
    # In memory where there is such a folder: thousands of small files are forced to the disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        root = Path(directory)
        for trial, fault in run(verbs, options.kinds, options.kills, options.seed, root, options.most, materials):
            tried[trial.verb, trial.kind] += 1
            if fault:
                faults[trial.verb, trial.kind] += 1
                print(f"FAULT {trial}: {fault}", flush=True)
            elif options.verbose:
                print(f"as if nothing had been: {trial}", flush=True)
    print(f"{'verb':<18}" + "".join(f"{kind:>16}" for kind in options.kinds))
    for verb in verbs:
        cells = [f"{tried[verb, kind]} / {faults[verb, kind]}" for kind in options.kinds]
        print(f"{verb:<18}" + "".join(f"{cell:>16}" for cell in cells))
    total, wrong = sum(tried.values()), sum(faults.values())
    print(f"{total:,} trials of {len(verbs)} verbs in {(time.monotonic() - begun_s) / 60:.0f} min: {wrong} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
