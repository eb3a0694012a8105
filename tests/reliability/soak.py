"""Mixed work for half an hour, with faults: how many were injected, what survived, what was lost.

    python -m tests.reliability.soak --minutes 30 --seed 0

Two lanes run side by side. Each takes one command after another, of every verb, and most of the time something befalls
it: SIGKILL, SIGTERM or Ctrl-C at some moment, a worker that is killed or halted, a disk that is full from some moment
on, two writers of one directory, a damaged input. Then the command runs again as a person would run it. It has survived
when it then ends as an undisturbed run does, logs included, and nothing is left over; what differs or does not end is
lost, and printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.reliability.commands import COMMANDS, make_materials
from tests.reliability.kill import Reference, Trial, attempt, compare, plan, refer
from tests.reliability.zygote import Place, Strike, import_verbs, run_child

LANES = 2
FAULTS = ("none", "moment", "operation", "full", "term", "ctrl-c", "ctrl-c-2", "two writers", "worker")
"""What is injected."""
WITH_WORKERS = ("record", "robustness", "gate")
"""Verbs that may work with several processes."""


def lane(
    number: int, minutes: float, seed: int, root: Path, materials: dict[str, str], references: dict[str, Reference]
) -> int:
    """Work until the time is over; writes a line for each piece of work, and returns how many were lost."""
    rng = random.Random(f"{seed} {number}")
    end_s = time.monotonic() + 60 * minutes
    lost = 0
    with (root / f"lane-{number}").open("w", encoding="utf-8", buffering=1) as log:
        while time.monotonic() < end_s:
            verb, fault = rng.choice(sorted(references)), rng.choice(FAULTS)
            wrong = work(verb, fault, rng, root / f"work-{number}", materials, references[verb])
            if wrong is None:
                continue
            lost += bool(wrong)
            log.write(f"{fault}\t{verb}\t{' '.join(wrong.split())}\n")
    return lost


def work(
    verb: str, fault: str, rng: random.Random, root: Path, materials: dict[str, str], reference: Reference
) -> str | None:
    """Do one piece of work; returns what is wrong with how it ended, None if the fault does not apply."""
    command = COMMANDS[verb]
    if fault == "none":
        strike = Trial(verb, "moment", Strike())
    elif fault == "two writers":
        return two_writers(verb, root, materials, reference) if command.resume else None
    elif fault == "worker":
        return worker(verb, rng, root, materials) if verb in WITH_WORKERS else None
    else:
        strike = rng.choice(plan(verb, reference, (fault,), 1, rng.getrandbits(30)))
    return attempt(strike, command, materials, reference, root)


def two_writers(verb: str, root: Path, materials: dict[str, str], reference: Reference) -> str:
    """Start the same command twice; one must do the work and the other refuse in one line."""
    shutil.rmtree(root, ignore_errors=True)
    command, place = COMMANDS[verb], Place(root)
    words = command.given(materials)
    place.make()
    other = os.fork()
    if other == 0:
        time.sleep(0.3 * reference.seconds)
        ended = run_child(words, Place(root / "second"), prepare=lambda: os.chdir(place.work))
        os._exit(0 if ended.code == 2 and len(ended.complaint.splitlines()) == 1 or ended.code == 0 else 1)
    first = run_child(words, place, prepare=command.prepare)
    _, status = os.waitpid(other, 0)
    if first.code not in (0, 2) or status:
        return f"the first ended with {first.code}, the second {'badly' if status else 'well'}: {first.err[-300:]}"
    return compare(place, reference, first)


def worker(verb: str, rng: random.Random, root: Path, materials: dict[str, str]) -> str:
    """Kill or halt a worker process; the command must end in seconds, clearly, with nobody left behind."""
    shutil.rmtree(root, ignore_errors=True)
    words = COMMANDS[verb].given(materials)
    words[words.index("--workers") + 1] = "2"
    number = rng.choice((signal.SIGKILL, signal.SIGSTOP))
    hitman = os.fork()
    if hitman == 0:
        try:
            _hit_a_worker(os.getppid(), number, rng.uniform(0.0, 0.5))
        finally:
            os._exit(0)  # whatever happens: this is no lane
    ended = run_child(words, Place(root), timeout_s=90)
    os.kill(hitman, signal.SIGKILL)
    os.waitpid(hitman, 0)
    if ended.timed_out or ended.orphans or "Traceback" in ended.err or ended.code not in (0, 2):
        return f"a worker was hit by {number}: {ended.code}, {len(ended.orphans)} left behind: {ended.err[-300:]}"
    return ""


def _hit_a_worker(soak: int, number: int, after_s: float) -> None:
    """Wait for a worker of the command that is running, and hit it."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        for entry in os.listdir("/proc"):
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                words = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parent, session = int(words[1]), int(words[3])
                leader = Path(f"/proc/{session}/stat").read_text().rpartition(")")[2].split()
            except (OSError, IndexError):
                continue
            if session != soak and int(leader[1]) == soak:
                if int(entry) != session and parent != soak and b"resource_tracker" not in line:
                    time.sleep(after_s)
                    try:
                        os.kill(int(entry), number)
                    except OSError:
                        pass
                    return
        time.sleep(0.02)


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="*", default=list(COMMANDS), choices=list(COMMANDS), metavar="VERB")
    options = parser.parse_args()
    found: Callable[[str], object] = importlib.util.find_spec
    verbs = [verb for verb in options.verbs if all(found(name) for name in COMMANDS[verb].needs)]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        root = Path(directory)
        import_verbs(verbs)
        (root / "materials").mkdir()
        materials = make_materials(root / "materials")
        references = {}
        for verb in verbs:
            refer(COMMANDS[verb], materials, root / "first")
            references[verb] = refer(COMMANDS[verb], materials, root / "reference")
        lanes = []
        for number in range(LANES):
            child = os.fork()
            if child == 0:
                lost = 1  # unless it comes to its end
                try:
                    lost = lane(number, options.minutes, options.seed, root, materials, references)
                finally:
                    os._exit(1 if lost else 0)
            lanes.append(child)
        for child in lanes:
            os.waitpid(child, 0)
        lines = [
            line.split("\t", 2)
            for number in range(LANES)
            for line in (root / f"lane-{number}").read_text().splitlines()
        ]
    injected, lost_by = Counter(line[0] for line in lines), Counter(line[0] for line in lines if line[2].strip())
    for fault, verb, wrong in lines:
        if wrong.strip():
            print(f"LOST {verb}, {fault}: {wrong}")
    print(f"{'fault':<14}{'injected':>10}{'survived':>10}{'lost':>8}")
    for fault in FAULTS:
        print(f"{fault:<14}{injected[fault]:>10}{injected[fault] - lost_by[fault]:>10}{lost_by[fault]:>8}")
    total, wrong_total = len(lines), sum(lost_by.values())
    print(f"{total} pieces of work in {options.minutes:g} minutes on {LANES} lanes: {wrong_total} lost")
    return 1 if wrong_total else 0


if __name__ == "__main__":
    sys.exit(main())
