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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.cli import VERBS, Verb
from experiments.help.declared import Option, read_options
from tests.experiments.verbs import ROAD
from tests.reliability.commands import make_materials
from tests.reliability.zygote import Ended, Place, import_verbs, run_child

SLOWEST_S = 5.0
"""Most time of the processor that a refusal may take, s; twelve times that by the clock counts as hung."""
MOST_BYTES = 1 << 30
"""Memory beyond that of the process that forks."""
START: dict[str, tuple[str, ...]] = {
    "record": ("--out", "new", "--frames", "20", *ROAD),
    "train imitation": ("--data", "{data}", "--out", "new", "--epochs", "1"),
    "train ppo": ("--out", "new", "--steps", "64", "--vehicle", "bicycle"),
    "train dagger": (
        *("--out", "new", "--rounds", "1", "--frames", "30", "--core", "gru", "--learning.epochs", "1", *ROAD[:4]),
        *ROAD[6:],
    ),
    "adapt": (
        *("--policy", "{policy}", "--replay", "{data}", "--out", "new", "--friction", "0.5", "--vehicle", "bicycle"),
        *("--updates", "1", "--episodes", "1", "--steps", "1", "--suite-roads", "1", "--measure-roads", "1"),
    ),
    "sweep": ("{space}", "--out", "new"),
    "table": ("{data}",),
    "drive": ("--out", "new", "--no-browser", "--vehicle", "bicycle"),
    "evaluate": ("--policy", "{policy}", "--episodes", "1", "--episode-s", "1", "--vehicle", "bicycle"),
    "fit": ("--policy", "{policy}", "--data", "{data}"),
    "gate": ("--policy", "{policy}", "--require", "crashes <= 9", "--out", "new", "--perturbations", "fog:1"),
    "robustness": ("--policy", "{policy}", "--out", "new", "--perturbations", "fog:1", "--workers", "1"),
    "render": ("--policy", "{policy}", "--out", "new.mp4", "--seconds", "0.2"),
    "explain": ("--policy", "{policy}", "--out", "new", "--seconds", "0.6"),
    "export": ("--policy", "{policy}", "--out", "new", "--check-frames", "5"),
    "bench latency": ("--policy", "{policy}", "--frames", "5"),
    "demo": ("--quick", "--out", "new"),
    "gallery": ("--out", "new.png", "--families", "noise"),
    "data info": ("{data}",),
    "data check": ("{data}",),
    "data convert": ("{data}", "--out", "new", "--to", "donkeycar"),
    "data view": ("{data}", "--out", "new.mp4"),
    "data fix": ("{tub}", "--out", "new"),
    "data cross-validate": ("{data}", "--out", "new"),
    "info": ("cores",),
}
"""By verb: options with which it would do something small."""
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

CONTRADICTIONS = """
record --throttle
record --workers 0
record --workers -1
record --frames 0
record --frames -5
record --height 1 --width 1
train imitation --hold-out 0.9 --validation 0.9
train imitation --window 4 --burn-in 4
train imitation --resume
train imitation --seeds 1 1
train imitation --device cuda:9
train imitation --core ltcc
train imitation --core-options units
train imitation --core no.such:Core
train imitation --core-options units=-3
train imitation --core-options colour=red
train imitation --crop-top 999
train imitation --split odd
train imitation --head big
train imitation --data {data} {data}
train imitation --out {data}
train ppo --env Nowhere-v9
train ppo --env evil:Env-v0
train ppo --workers 99
train ppo --n-steps 100 --chunk 33
train ppo --imitator-kl-coef 1
train ppo --env CartPole-v1 --height 24
train ppo --env FrozenLake-v1
train ppo --resume
train ppo --core-options units=1e99
train ppo --perturbations fogg
evaluate --laps 1 --episode-s 5
evaluate --expert --data {data}
evaluate --policy {policy} {policy}
evaluate --perturbations fog:9
evaluate --env CartPole-v1
evaluate --track random.csv
evaluate --throttle
gate --require crashes
gate --require snow.crashes <= 0
gate --budget 2
gate --require crashes <= nan
gate --severities 0
gate --against nowhere
robustness --world none
robustness --severities 6
robustness --baseline other
robustness --policy a={policy} a={policy}
robustness --ray nonsense
robustness --expert --world none --data {data}
robustness --suite hard
render --side-by-side
render --policy {policy} {policy}
render --perturbation fog:
render --preview p.bmp
render --data {data} --side-by-side --perturbation fog:1
explain --data {data} --perturbation fog:1
explain --counterfactual fogg
explain --frames 1
explain --every 0
explain --seconds 0.1
export --data {data}
export --check-frames 0
gallery --families none
gallery --severities 7
gallery --zoom 0
gallery --quality 0
gallery --columns 0
gallery --height 0
demo --seed -1
demo --vehicle horse
record --vehicle horse
record --renderer crayon
data convert --to vhs
data convert --from-s 9 --to-s 1
data convert --episodes 99
data convert --out {data}
data fix --out {tub}
data view --seconds 0
data check --hold-out 2
bench latency --engines steam
bench latency --frames 0
sweep --trials 0
sweep --seed -1
"""
"""Options that contradict one another, or name what there is not."""
ABSURD = """
record --height 100000000
record --width 2147483648
record --height 60000 --width 60000
record --roads.length-m 1e9 1e9
record --roads.corners 1000000000 1000000000
record --roads.length-m 50 10
record --speed-mps 0 0
record --speed-mps -1 2
record --period-s 1e-9
record --period-s 0
record --camera.hfov-deg 0 0
record --camera.hfov-deg 360 360
record --pixels-per-m 1e9
record --episode-s 0
record --roads.lane-width-m 0 0
record --camera.height-m -1 -1
record --disturbance.interval-s 0
record --variety -1
record --opencv-threads -5
train imitation --window 1000000000
train imitation --batch-size 1000000000000
train imitation --height 1000000 --width 1000000
train imitation --core gru --core-options hidden_size=100000000
train imitation --core-options units=1000000000
train imitation --gap-s -5
train imitation --epochs 0
train imitation --stride 0
train imitation --dropout 1
train imitation --head-learning-rate -1
train imitation --nominal-period-s 0
train ppo --envs 1000000000
train ppo --n-steps 1000000000000
train ppo --gamma 2
train ppo --height 100000 --width 100000
train ppo --clip-range -1
train ppo --evaluate-s 0
train ppo --learning-rate -1
train ppo --keep-checkpoints 0
evaluate --episodes 0
evaluate --workers 0
evaluate --noise-variance -1
evaluate --laps -1
evaluate --latency-scale -1
evaluate --seed -1
render --seconds -1
render --seed -1
render --noise-variance -0.1
gallery --height 1000000 --width 1000000
gallery --zoom 100000
explain --frames 1000000000
explain --seconds 1e12
render --seconds 1e300
export --check-frames 1000000000000
data view --seconds -3
robustness --roads 0
robustness --seeds 0
robustness --films -1
robustness --workers 0
gate --margin 0
gate --error-rate 1
"""
"""Sizes that no machine has, and ranges that are none."""


@dataclass(frozen=True)
class Bad:
    """A command that cannot be done."""

    words: tuple[str, ...]
    """What follows `wormwheel`."""
    maybe: bool = False
    """Whether it may as well be done."""

    def __str__(self) -> str:
        """Show it as it is typed, long words cut."""
        return " ".join(repr(word[:60]) if " " in word or not word else word[:60] for word in self.words)


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
            yield _bad(verb_name, f"{option_name}=perhaps")
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
            yield _bad(verb_name, option_name, *[value] * count)
        if kinds[0] != "..." and not option.value.endswith("..."):
            yield _bad(verb_name, option_name)


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
                    yield Bad((*_bad(name).words, f"{option.name}={value}"), True)
                else:
                    yield Bad((*_bad(name).words, option.name, *[value] * count), True)


def _bad(verb: str, *more: str) -> Bad:
    return Bad((*verb.split(), *START.get(verb, ()), *more))


def written_down(place: dict[str, str]) -> Iterator[Bad]:
    """Yield what people and scripts get wrong beyond single values."""
    there, gone = place, "nowhere/at/all"

    def bad(verb: str, *more: str) -> Bad:
        return _bad(verb, *more)

    # No verb.
    for words in (
        *(("recrod",), ("train",), ("train", "imitaton"), ("data",), ("data", "show", "x"), ("bench",), ("--out", "x")),
        *(("",), ("train imitation",), ("-",), ("--",), ("record", "imitation"), ("\ud800",), ("record\n",)),
        *(("info",), ("info", "everything"), ("info", "policy"), ("info", "data"), ("--help-me",), ("version",)),
    ):
        yield Bad(words)
    # Nothing where something is needed, and what is not known.
    for verb in ("train imitation", "evaluate", "fit", "gate", "robustness", "render", "explain", "export", "sweep"):
        yield Bad(tuple(verb.split()))
    for verb in VERBS:
        yield bad(verb, "--no-such-option", "1")
        yield bad(verb, "stray")
    for verb in ("data info", "data check", "data convert", "data view", "data fix"):
        yield Bad(tuple(verb.split()))
    # Files that are missing, or of another kind.
    wrong = [
        gone,
        there["text"],
        there["empty"],
        there["folder"],
        there["pipe"],
        there["zero"],
        there["loop"],
        there["binary"],
        "",
    ]
    for path in wrong:
        yield Bad(("train", "imitation", "--data", path, "--out", "new"))
        yield Bad(("data", "info", path))
        yield Bad(("data", "convert", path, "--out", "new"))
        yield Bad(("explain", "--policy", path, "--out", "new"))
        yield Bad(("export", "--policy", path, "--out", "new"))
        yield Bad(("evaluate", "--policy", path))
        yield Bad(("gate", "--policy", path, "--require", "crashes <= 1", "--out", "new"))
        yield Bad(("robustness", "--policy", path, "--out", "new"))
        yield Bad(("render", "--policy", path, "--out", "new.mp4"))
        yield Bad(("sweep", path, "--out", "new"))
        yield Bad(("train", "ppo", "--init-from", path, "--out", "new"))
        yield Bad(("record", "--track", path, "--out", "new"))
        yield bad("robustness", "--suite", path)
        yield bad("evaluate", "--latency", path)
        yield bad("render", "--fit", path)
        yield bad("fit", "--curvature", path)
        yield bad("train imitation", "--table", path)
    # A thing of ours where another thing of ours belongs.
    for one, other in (("data", "policy"), ("policy", "data"), ("space", "policy"), ("tub", "policy")):
        yield Bad(("train", "imitation", "--data", there[one if other == "data" else other], "--out", "new"))
        yield Bad(("explain", "--policy", there["data"] if other == "policy" else there["tub"], "--out", "new"))
        yield Bad(("sweep", there[other], "--out", "new"))
    # Places that cannot be written, or are somebody else's.
    outs = ["{forbidden}/new", "{text}/new", "{text}", "x" * 300, "a\0b", "{folder}", "{policy}/policy/config.json"]
    for out in outs:
        out = out.format(**there)
        for verb in (
            "record",
            "train imitation",
            "train ppo",
            "sweep",
            "gate",
            "robustness",
            "explain",
            "export",
            "demo",
        ):
            yield _with_out(verb, out)
        for verb in ("data convert", "data fix"):
            yield _with_out(verb, out)
    for out in (
        "{forbidden}/new{end}",
        "{text}/new{end}",
        "x{long}{end}",
        "a\0b{end}",
        "new.txt",
        "new",
    ):
        for verb, end in (("render", ".mp4"), ("data view", ".mp4"), ("gallery", ".png")):
            yield _with_out(verb, out.format(**there, end=end, long="x" * 300))
    with_json = [name for name, verb in VERBS.items() if _takes(verb, "--json")]
    for verb in with_json:
        yield bad(verb, "--json", f"{there['forbidden']}/figures.json")
        yield bad(verb, "--json", there["folder"])
        for place in (
            "{text}",
            "{text}/figures.json",
            "{pipe}",
            "{loop}",
            "{data}/dataset.json",
            "/dev/full",
            "x\0.json",
        ):
            yield bad(verb, "--json", place.format(**there))
        yield bad(verb, "--json", f"{'x' * 300}.json")
        yield bad(verb, "--json", "")
    # Two outputs in one place; an output in the place of an input, inside it, or around it.
    for verb in with_json:
        if _takes(VERBS[verb], "--out"):
            yield bad(verb, "--json", "new.mp4" if verb in ("render", "data view") else "new")
    yield bad("render", "--preview", "new.mp4")
    yield bad("data view", "--step", "new.mp4")
    yield bad("data view", "--step", "same.png", "--json", "same.png")
    yield bad("data check", "--picture", "same.png", "--json", "same.png")
    yield bad("data check", "--picture", "{data}/dataset.json")
    yield bad("data check", "--picture", "{folder}")
    for verb in ("data convert", "data fix", "data cross-validate", "train imitation"):
        for out in ("{data}", "{tub}", "{data}/..", "{policy}", "{policy}/policy", "{data}/episode_000000", "/"):
            yield _with_out(verb, out.format(**there))
    for verb in (
        "record",
        "train ppo",
        "train dagger",
        "adapt",
        "gate",
        "robustness",
        "explain",
        "export",
        "sweep",
        "demo",
    ):
        for out in (
            "{policy}",
            "{data}",
            "{data}/..",
            "{pipe}",
            "{zero}",
            "{loop}",
            "{space}",
            "/dev/null",
            "/proc/x",
            "",
        ):
            yield _with_out(verb, out.format(**there))
    # The same thing twice, and words that are cut or joined.
    for verb in ("record", "evaluate", "train imitation", "data convert"):
        yield bad(verb, "--episodes", "1", "--episodes", "many")
        yield bad(verb, "--=1")
        yield bad(verb, "--")
        yield bad(verb, "--js", "figures.json")
        yield bad(verb, "--seed=1=2")
        yield bad(verb, "\ud800")
        yield bad(verb, "--no-json")
    for line in filter(None, (CONTRADICTIONS + ABSURD).splitlines()):
        verb = next(name for name in sorted(VERBS, key=len, reverse=True) if line.startswith(f"{name} "))
        yield bad(verb, *line.removeprefix(verb).split())


def _with_out(verb: str, out: str) -> Bad:
    words = list(START[verb])
    words[words.index("--out") + 1] = out
    return Bad((*verb.split(), *words))


def _takes(verb: Verb, name: str) -> bool:
    return any(option.name == name for option in read_options(verb.module, verb.options).options)


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
