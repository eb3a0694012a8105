"""Commands that cannot be done as asked, written down: what people and scripts get wrong beyond single values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.cli import VERBS, Verb
from experiments.help.declared import read_options
from tests.experiments.verbs import ROAD

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


def bad_command(verb: str, *more: str) -> Bad:
    return Bad((*verb.split(), *START.get(verb, ()), *more))


def written_down(place: dict[str, str]) -> Iterator[Bad]:
    """Yield what people and scripts get wrong beyond single values."""
    there, gone = place, "nowhere/at/all"

    def bad(verb: str, *more: str) -> Bad:
        return bad_command(verb, *more)

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
