"""What `wormwheel VERB --help` shows first: two examples, and the options that matter.

A verb that is not listed shows the examples of its module's docstring and the first options that it declares itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MainOptions:
    """The short help of a verb."""

    examples: tuple[str, ...]
    """Commands that run as they stand in a fresh checkout after `make demo`."""
    options: tuple[str, ...]
    """Names without hyphens, in the order shown."""


MOST = 15
"""Options that the short help of an unlisted verb shows, `--json` not counted."""

_READING = (
    *("from-s", "to-s", "episodes", "nominal-rate", "table", "steering-column", "degrees", "straight", "positive"),
    "offset-s",
)
"""How recordings are read: what those need who bring their own."""

MAIN: dict[str, MainOptions] = {
    "record": MainOptions(
        (
            "wormwheel record --out runs/sim --frames 60000 --variety 0.6",
            "wormwheel record --out runs/mine --track docs/circuit.csv --frames 5000 --vehicle bicycle",
        ),
        (
            *("out", "frames", "seed", "vehicle", "variety", "track", "episode-s", "speed-mps", "height", "width"),
            *("expert.lookahead-s", "disturbance.strength", "workers", "resume"),
        ),
    ),
    "train imitation": MainOptions(
        (
            "wormwheel train imitation --data runs/sim --out runs/ltc",
            "wormwheel train imitation --data runs/sim --out runs/lstm --core lstm --epochs 8",
        ),
        (
            *("data", "out", "core", "core-options", "epochs", "batch-size", "core-learning-rate", "hold-out", "seed"),
            *("height", "width", "crop-top", "crop-bottom", "baseline", "bfloat16", "resume"),
        ),
    ),
    "train ppo": MainOptions(
        (
            "wormwheel train ppo --env LaneKeeping --core ltc --out runs/frames",
            "wormwheel train ppo --env CartPole-memory --core cfc --steps 50000",
        ),
        (
            *("env", "core", "core-options", "out", "init-from", "steps", "envs", "workers", "seed", "learning-rate"),
            *("perturbations", "noise-variance", "evaluate-every", "evaluate-episodes", "resume"),
        ),
    ),
    "evaluate": MainOptions(
        (
            "wormwheel evaluate --policy runs/demo/policy --expert --episodes 20",
            "wormwheel evaluate --policy runs/demo/policy --noise-variance 0 .1 .2 .3",
        ),
        (
            *("policy", "expert", "data", "env", "episodes", "seed", "track", "vehicle", "variety", "episode-s"),
            *("noise-variance", "perturbations", "crop-top", "crop-bottom", "workers"),
        ),
    ),
    "robustness": MainOptions(
        (
            "wormwheel robustness --policy runs/demo/policy --suite quick",
            "wormwheel robustness --policy runs/ltc runs/lstm --perturbations fog night --severities 1 3 5",
        ),
        (
            *("policy", "suite", "perturbations", "severities", "roads", "seeds", "seed", "baseline", "expert"),
            *("data", "vehicle", "workers", "ray", "films", "out"),
        ),
    ),
    "table": MainOptions(
        (
            "wormwheel table runs/robustness --latex",
            "wormwheel table runs/robustness --csv --of conditions",
        ),
        ("of", "latex", "csv", "md"),
    ),
    "drive": MainOptions(
        (
            "wormwheel drive --vehicle bicycle --out runs/mine",
            "wormwheel drive --policy runs/demo/policy --record",
        ),
        (
            *("policy", "out", "record", "seed", "account", "browser", "port", "vehicle", "track", "speed-mps"),
            *("variety", "height", "width", "crop-top"),
        ),
    ),
    "render": MainOptions(
        (
            "wormwheel render --policy runs/demo/policy --out drive.mp4",
            "wormwheel render --policy runs/demo/policy --perturbation fog:3 --seconds 20 --out fog.mp4",
        ),
        (
            *("policy", "out", "preview", "seconds", "seed", "perturbation", "noise-variance", "data", "track"),
            *("vehicle", "variety", "speed-mps"),
        ),
    ),
    "demo": MainOptions(
        ("wormwheel demo", "wormwheel demo --quick --out runs/quick"),
        ("out", "quick", "seed", "vehicle"),
    ),
    "gallery": MainOptions(
        (
            "wormwheel gallery --out gallery.jpg",
            "wormwheel gallery --families weather light --columns 1 --out weather.jpg",
        ),
        ("out", "families", "severities", "columns", "zoom", "height", "width", "seed", "quality", "policy"),
    ),
    "data info": MainOptions(
        (
            "wormwheel data info runs/sim",
            "wormwheel data info drive.mp4 --table log.csv --steering-column angle --degrees 25",
        ),
        ("PATH", *_READING, "json"),
    ),
    "data check": MainOptions(
        ("wormwheel data check runs/sim", "wormwheel data check tub --nominal-rate 20 --picture step.png"),
        ("PATH", "picture", "hold-out", "gap-s", *_READING, "json"),
    ),
    "data convert": MainOptions(
        (
            "wormwheel data convert runs/sim --to lerobot --out runs/sim-lerobot",
            "wormwheel data convert tub.tar.gz --to native --out runs/tub --from-s 10 --to-s 60",
        ),
        ("PATH", "out", "to", "exact", *_READING, "json"),
    ),
    "data view": MainOptions(
        (
            "wormwheel data view runs/sim --out sim.mp4",
            "wormwheel data view tub --from-s 20 --seconds 10 --step step.png",
        ),
        ("PATH", "out", "seconds", "step", *_READING),
    ),
    "data fix": MainOptions(
        (
            "wormwheel data fix tub --out runs/tub",
            "wormwheel data fix log --out runs/log --nominal-rate 15 --to donkeycar",
        ),
        ("PATH", "out", "to", *_READING, "json"),
    ),
    "info": MainOptions(("wormwheel info cores", "wormwheel info cores ltc"), ("WHAT", "NAMES", "json")),
}
