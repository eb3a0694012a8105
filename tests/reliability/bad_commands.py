"""Hundreds of commands that cannot be done as asked: each ends in one line and exit code 2, and nothing is made.

    python -m tests.reliability.bad_commands --seed 0

Half of them are made from the declarations: every option of every verb gets values that no such option can take (not a
number, NaN, a fraction where a whole number belongs, a number without end, no value at all). The others are written
down: files that are missing or of another kind, options that contradict one another, places that cannot be written,
sizes that no machine has, words that are no verb. A command fails if its exit code is not
2, if it says more or less than one line that begins with its name, gives a traceback, takes more than 5 s of the
processor or 1 GiB of memory, or leaves anything behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.cli import VERBS
from experiments.help.declared import Option, read_options
from tests.reliability.bad_words import Bad, bad_command, written_down
from tests.reliability.commands import make_materials
from tests.reliability.zygote import Ended, Place, import_verbs, run_child

SLOWEST_S = 5.0
"""Most time of the processor that a refusal may take, s; twelve times that by the clock counts as hung."""
MOST_BYTES = 1 << 30
"""Memory beyond that of the process that forks."""
ENDLESS = ("--to-s", "--recording.to-s", "--max-gap-s", "--recording.max-gap-s")
"""Options that may be without end."""
STRANGE = {
    "NUMBER": ("-1", "0", "1e300", "-1e300", "5e-324", "1e12"),
    "INT": ("-1", "0", "1000000000000", "2147483648", "-9223372036854775809"),
    "TEXT": ("", "\udc80", "a\0b", "x" * 5000, "a\nb", "../..", "-"),
    "PATH": ("", "\udc80", "a\0b", "x" * 5000, "a\nb", "/dev/full", "/dev/zero", "/", ".", "..", "~nobody/x"),
    "NAME": ("", "\udc80", "a\nb", "None"),
}
"""Values that an option of a kind may take or refuse: what is taken must end well, what is refused in one line."""
SERVED = ("drive",)
"""Verbs that do not end by themselves once they have begun."""


def from_declarations(rng: random.Random) -> Iterator[Bad]:
    """Yield bad values for every option of every verb; an option that several verbs share is tried with one of them."""
    owners: dict[str, list[tuple[str, Option]]] = {}
    for name, verb in VERBS.items():
        for option in read_options(verb.module, verb.options).options:
            if option.name.startswith("--"):
                owners.setdefault(option.name, []).append((name, option))
    for option_name, having in owners.items():
        verb_name, option = rng.choice(having)
        kinds = option.value.split()
        if not kinds:
            yield bad_command(verb_name, f"{option_name}=perhaps")
            continue
        count = 2 if len(kinds) > 1 and kinds[1] != "..." and kinds[1].isupper() else 1
        values = []
        if kinds[0] in ("NUMBER", "INT"):
            values += ["nan", "many", "1e"]
        if kinds[0] == "NUMBER" and option_name not in ENDLESS:
            values += ["inf" if rng.random() < 0.5 else "-inf"]
        if kinds[0] == "INT":
            values += ["1.5", "9" * 40]
        for value in values:
            yield bad_command(verb_name, option_name, *[value] * count)
        if kinds[0] != "..." and not option.value.endswith("..."):
            yield bad_command(verb_name, option_name)


def strange(rng: random.Random) -> Iterator[Bad]:
    """Yield values at the edge of what an option takes, or beyond, two for each option of each verb."""
    for name, verb in VERBS.items():
        for option in read_options(verb.module, verb.options).options:
            kinds = option.value.split()
            values = STRANGE.get(kinds[0]) if kinds and option.name.startswith("--") else None
            if values is None or (name in SERVED and kinds[0] in ("NUMBER", "TEXT")):
                continue
            count = 2 if len(kinds) > 1 and kinds[1].isupper() else 1
            for value in rng.sample(values, 2):
                if count == 1 or kinds[0] not in ("NUMBER", "INT"):
                    yield Bad((*bad_command(name).words, f"{option.name}={value}"), True)
                else:
                    yield Bad((*bad_command(name).words, option.name, *[value] * count), True)


def make_things(root: Path) -> dict[str, str]:
    """Make the recordings, drivers and other things that bad commands are given; returns the places by name."""
    place = make_materials(root)
    things = root / "things"
    if not things.exists():
        (things / "folder").mkdir(parents=True)
        (things / "folder" / "mine.txt").write_text("mine")
        (things / "text").write_text("This is no file of that kind.\n")
        (things / "empty").write_bytes(b"")
        (things / "binary").write_bytes(np.random.default_rng(0).bytes(5000))
        os.mkfifo(things / "pipe")
        (things / "zero").symlink_to("/dev/zero")
        (things / "loop").symlink_to(things / "loop")
    forbidden = "/sys/kernel"
    if os.geteuid() != 0:
        (things / "forbidden").mkdir(mode=0o500, exist_ok=True)
        forbidden = str(things / "forbidden")
    names = ("folder", "text", "empty", "binary", "pipe", "zero", "loop")
    return {**place, **{name: str(things / name) for name in names}, "forbidden": forbidden}


def examine(bad: Bad, place: dict[str, str], root: Path) -> str:
    """Run a bad command; returns what is wrong with how it ended, "" if nothing is."""
    shutil.rmtree(root, ignore_errors=True)
    words = [word.format(**place) if word.startswith("{") or "={" in word else word for word in bad.words]
    before = _tree(Path(place["data"]).parent)
    ended = run_child(words, Place(root), timeout_s=12 * SLOWEST_S, prepare=_limit)
    if bad.maybe and ended.code == 0 and not ended.timed_out:
        done = "Traceback" in ended.err or ended.orphans
        return f"done, but: {len(ended.orphans)} orphans, {ended.err[-700:]}" if done else ""
    fault = _fault(ended)
    left = [*_tree(root / "work"), *_tree(root / "tmp")]
    if left:
        fault = fault or f"left {', '.join(left[:4])}"
    if _tree(Path(place["data"]).parent) != before:
        fault = fault or "changed what it was given"
    return fault


def _fault(ended: Ended) -> str:
    if ended.timed_out or ended.cpu_s > SLOWEST_S:
        return f"took {ended.cpu_s:.1f} s of {ended.seconds:.1f} s: {ended.err[-200:]!r}"
    if "Traceback" in ended.err:
        return f"a traceback: {ended.err[-700:]}"
    if ended.code != 2:
        return f"ended with {ended.code if ended.code is not None else -(ended.signal or 0)}: {ended.err[-300:]!r}"
    if len(ended.complaint.splitlines()) != 1 or not ended.err.rstrip().splitlines()[-1].startswith("wormwheel: "):
        # Help that is shown for no arguments at all is the only other end.
        if not (ended.out.startswith("usage: wormwheel") and not ended.err):
            return f"not one line: {ended.err[-500:]!r}"
    grown = ended.peak_bytes - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if grown > MOST_BYTES:
        return f"took {grown >> 20} MiB"
    if ended.orphans:
        return f"left {len(ended.orphans)} processes"
    return ""


def _limit() -> None:
    """Let the child take some GiB and no more, so that this machine lives on."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30),) * 2)


def _tree(path: Path) -> list[str]:
    """Return everything below a directory with its size and time of change."""
    found = []
    for entry in sorted(path.rglob("*")):
        status = entry.lstat()
        found.append(f"{entry.relative_to(path)} {status.st_size if entry.is_file() else ''} {status.st_mtime_ns}")
    return found


def all_commands(place: dict[str, str], seed: int) -> list[Bad]:
    """Return all bad commands."""
    made = [*written_down(place), *from_declarations(random.Random(seed)), *strange(random.Random(f"strange {seed}"))]
    return list(dict.fromkeys(made))


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="a seeded sample of so many; all when not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="those that contain this text")
    parser.add_argument("--out", type=Path, help="file for the faults, as JSON")
    parser.add_argument("--part", default="1/1", help="as 2/5: the second fifth of them")
    parser.add_argument("--materials", type=Path, help="directory in which what they are given is made and kept")
    options = parser.parse_args()
    memory = Path("/dev/shm")
    faults = []
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        import_verbs(list(VERBS))
        place = make_things((options.materials or Path(directory) / "materials").absolute())
        commands = all_commands(place, options.seed)
        if options.only:
            commands = [one for one in commands if options.only in str(one)]
        if options.count is not None:
            commands = random.Random(options.seed).sample(commands, min(options.count, len(commands)))
        part, parts = map(int, options.part.split("/"))
        commands = commands[part - 1 :: parts]
        for bad in commands:
            fault = examine(bad, place, Path(directory) / "trial")
            if fault:
                faults.append({"command": list(bad.words), "fault": fault})
                print(f"FAULT {bad}: {fault}".replace(directory, "…"), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(faults, indent=1))
    print(f"{len(commands)} bad commands: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
