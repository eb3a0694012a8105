"""`wormwheel sweep`: try options of a training verb, drop what falls behind, and show what was best.

    wormwheel sweep space.toml --out runs/sweep

The file names the verb, what all trials share and what differs; names are those of the command line:

    verb = "train imitation"
    trials = 20

    [options]
    data = ["runs/record"]
    epochs = 6

    [space]
    core = ["ltc", "cfc"]
    core-learning-rate = {low = 1e-3, high = 1e-1, log = true}
    batch-size = {low = 8, high = 32, step = 8}

Optuna (Akiba et al. 2019) chooses by its tree of Parzen estimators and prunes by the median of the trials so far, after
every epoch or evaluation. Each trial is a run directory, `trial-N`. A sweep that was stopped resumes by the same
command with --resume, the trial that was under way from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from agents.driving.metrics import Estimate
from agents.recordings import load_episodes
from agents.recordings.fingerprint import fingerprint
from agents.runs.directory import check_directory, open_run
from agents.runs.reading import DamagedFile, damaged, one_line, parse_json, read_bytes, read_object
from experiments.cli import VERBS, describe, parse_options
from experiments.console import check_json, new_directory, say, show, table, write_results
from experiments.options import check_resume, parse_core_options
from experiments.training_runs import saved_estimate

tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

EXTRA = "pip install -e '.[sweep]'"
"""How to get what this needs."""
TRAINERS = ("train imitation", "train ppo")
"""Verbs that can be swept."""
FIXED = ("out", "resume", "json", "seeds")
"""Options of the verb that the sweep sets itself."""
VERB = "sweep"
JOURNAL = "trials.log"
"""Name of Optuna's journal in the sweep's directory."""


@dataclass(frozen=True, config={"extra": "forbid"})
class SweepOptions:
    """Try options of a training verb and show what was best."""

    space: Positional[Path]
    """TOML file: the verb, what all trials share, and what differs."""
    out: Path | None = None
    """Directory of the trials; runs/sweep-NAME, with a number added if that is taken, when not given."""
    trials: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    """Trials in all; what the file says when not given."""
    seed: NonNegativeInt = 0
    """Seed of the choices."""
    resume: bool = False
    """Continue the sweep in --out; --trials may have grown."""
    json: Path | None = None
    """File for the table, as JSON; it goes to results.json in the directory anyway."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Range:
    """Numbers that an option may take."""

    low: float
    """Least."""
    high: float
    """Largest."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance between two of them; any number in between when not given."""

    def __post_init__(self) -> None:
        """Check that the range is one, and that its scale is possible."""
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low:g} and {self.high:g}.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range needs low above 0 and no step.")


@dataclass(frozen=True, config={"extra": "forbid"})
class Space:
    """What a sweep's file says."""

    verb: str
    """One of `TRAINERS`."""
    space: Annotated[dict[str, list[Any] | Range], Field(min_length=1)]
    """By option: its range, or a list of choices."""
    options: dict[str, Any] = Field(default_factory=dict)
    """By option: its value in all trials."""
    trials: PositiveInt = 20
    """Trials in all."""

    def __post_init__(self) -> None:
        """Check verb and names."""
        if self.verb not in TRAINERS:
            raise ValueError(f"verb must be one of {', '.join(TRAINERS)}, got {self.verb!r}.")
        for name in [*self.space, *self.options]:
            if name.replace("-", "_") in FIXED:
                raise ValueError(f"{name} is set by the sweep itself; leave it out of the file.")
        if both := set(self.space) & set(self.options):
            raise ValueError(f"{sorted(both)[0]} stands in [options] and in [space]; leave one of them out.")
        for name, choices in self.space.items():
            if isinstance(choices, list) and not choices:
                raise ValueError(f"{name} must have one choice or more, got none.")


def run(options: SweepOptions) -> Path:
    """Run the trials that are missing, show the table; returns the directory."""
    optuna = _optuna()
    check_json(options.json)
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the sweep.")
    space = read_space(options.space)
    wanted = options.trials or space.trials
    _check_trial(space)
    out = new_directory(options.out, f"runs/sweep-{options.space.stem}")
    check_directory(out, VERB, options.resume, RESULTS)
    if options.resume:
        check_resume(out, options, ("out", "trials", "resume", "json"))
    with open_run(out, VERB, options, options.resume, RESULTS, _fingerprint(space)) as directory:
        directory.begin()
        study = _open_study(optuna, out / JOURNAL, space)
        _requeue(optuna, study)
        while (finished := _finished(optuna, study)) < wanted:
            trial = study.ask()
            say(f"trial {finished + 1} of {wanted}")
            _run_trial(optuna, study, trial, space, out, (options.seed, finished))
        rows = _rows(optuna, study, space, out)
        _show(rows, space)
        write_results(out / "results.json", VERB, options, {"trials": rows})
        write_results(options.json, VERB, options, {"trials": rows})
    return out


def _open_study(optuna: Any, journal: Path, space: Space) -> Any:
    """Open the study that a journal holds, or begin one.

    Raises:
        DamagedFile: if the journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if os.path.lexists(journal):
        content = read_bytes(journal, MOST_JOURNAL_BYTES)
        if content and not content.endswith(b"\n"):
            # A kill has cut the last line; what Optuna would add to it could never be read.
            os.truncate(journal, content.rfind(b"\n") + 1)
    with damaged(journal, REMOVE):
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        study = optuna.create_study(
            storage=storage,
            study_name=VERB,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            load_if_exists=True,
        )
        for trial in study.get_trials():
            for name, value in trial.params.items():
                if isinstance(space.space[name], list):
                    json.loads(value)
            done = trial.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
            if done and set(trial.params) != set(space.space):
                raise ValueError(f"trial {trial.number} has other options than the sweep")
            place = trial.user_attrs.get("directory", "" if done else "trial-0")
            if not isinstance(place, str) or not TRIAL.fullmatch(place):
                raise ValueError(f"a trial should lie in trial-N, it lies in {place!r:.80}")
    return study


RESULTS = (JOURNAL,)
"""What is worth keeping of a sweep."""


TRIAL = re.compile(r"trial-\d+")
"""Name of a trial's directory."""
MOST_JOURNAL_BYTES = 1 << 28
"""Largest journal of trials, bytes."""
MOST_BYTES = 1 << 20
"""Largest file that describes a sweep, bytes."""
REMOVE = "remove the sweep's directory and start it again"
"""What to do about a damaged trial."""


def read_space(path: Path) -> Space:
    """Read a sweep's file.

    Raises:
        ValueError: if it cannot be read or says what a sweep does not know.
    """
    try:
        content = tomllib.loads(read_bytes(path, MOST_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; give a TOML file that describes the sweep.") from None
    except DamagedFile:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as TOML ({one_line(error)}).") from error
    try:
        return Space(**content)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{path}: {describe(error)}") from error


def options_of(space: Space, chosen: Mapping[str, Any]) -> Any:
    """Return the verb's options for one trial, made as the command line makes them.

    Raises:
        ValueError: if the verb does not know an option or a value.
    """
    module = importlib.import_module(VERBS[space.verb].module)
    kind, program = getattr(module, VERBS[space.verb].options), f"wormwheel {space.verb}"
    words = [word for name, value in {**space.options, **chosen}.items() for word in _words(name, value)]
    options = parse_options(kind, program, words)
    return parse_options(kind, program, words, default=module.defaults_for(options))


def _words(name: str, value: Any) -> list[str]:
    """Return what stands for an option on the command line."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *(str(one) for one in (value if isinstance(value, list) else [value]))]


def _check_trial(space: Space) -> None:
    """Check before anything is made that both ends of every range, and every choice, are options of the verb."""
    first = {name: _ends(kind)[0] for name, kind in space.space.items()}
    for name, kind in space.space.items():
        for value in _ends(kind):
            options = options_of(space, {**first, name: value})
            parse_core_options(options.core, options.core_options)


def _ends(kind: list[Any] | Range) -> list[Any]:
    return kind if isinstance(kind, list) else [_number(kind, kind.low), _number(kind, kind.high)]


def _number(kind: Range, value: float) -> float | int:
    """Return a number as the verb takes it: whole when the ends and the step are."""
    whole = all(float(x).is_integer() for x in (kind.low, kind.high, kind.step or 1.0))
    return int(value) if whole and not (kind.log and kind.low < 1) else value


def _choose(trial: Any, name: str, kind: list[Any] | Range) -> Any:
    if isinstance(kind, list):
        # As JSON: Optuna keeps numbers and words only.
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in kind]))
    if isinstance(_number(kind, kind.low), int):
        return trial.suggest_int(name, int(kind.low), int(kind.high), step=int(kind.step or 1), log=kind.log)
    return trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)


def _run_trial(optuna: Any, study: Any, trial: Any, space: Space, out: Path, drawn_by: tuple[int, int]) -> None:
    """Train with one choice of options, and tell the study how it went.

    Args:
        optuna: the package.
        study: of the sweep.
        trial: new, or queued again after a kill.
        space: what the file says.
        out: directory of the sweep.
        drawn_by: seed of the sweep and number of trials before this one. Each option is drawn by these alone, so that a
            sweep which is killed, between two draws even, goes through the same trials.
    """
    chosen = {}
    for number, (name, kind) in enumerate(space.space.items()):
        draws = np.random.SeedSequence([*drawn_by, number])
        study.sampler = optuna.samplers.TPESampler(seed=int(draws.generate_state(1)[0]))
        chosen[name] = _choose(trial, name, kind)
    known = trial.user_attrs.get("directory")
    place = out / known if known else _free(out, drawn_by[1])
    trial.set_user_attr("directory", place.name)
    options = replace(options_of(space, chosen), out=place, resume=place.exists())
    values: list[float] = []
    for step, value in trial.user_attrs.get("reported", {}).items():
        values.append(value)
        trial.report(value, int(step))

    def note(step: int, value: float) -> None:
        values.append(value)
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    trainer: Callable[..., Any] = importlib.import_module(VERBS[space.verb].module).run
    try:
        trainer(options, note)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        say(f"{place.name}: pruned after {len(values)}")
    except ValueError as error:  # Diverged, most likely: as bad as can be, and no reason to end the sweep.
        if not values and not (place / "metrics.jsonl").exists():
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        say(f"{place.name}: ended early ({error})")
    else:
        study.tell(trial, _outcome(place, space)[0])


def _free(out: Path, number: int) -> Path:
    """Return the directory of a new trial."""
    while (place := out / f"trial-{number}").exists():
        number += 1
    return place


def _outcome(place: Path, space: Space) -> tuple[float, Estimate | None]:
    """Return what a finished run is judged by, and its figure with an interval."""
    results = read_object(place / "results.json")
    if space.verb == "train ppo":
        with damaged(place / "results.json", REMOVE):
            best = results["figures"]["best"]
            bounds = {"low": best["reward_low"], "high": best["reward_high"]}
            return -float(best["reward"]), saved_estimate({"value": best["reward"], **bounds})
    with damaged(place / "results.json", REMOVE):
        held_out = results["figures"]["held_out"]
        own = next((one for name, one in held_out.items() if name not in ("feedforward", "mean", "straight")), None)
        own = own or held_out.get("feedforward")
        figure = saved_estimate(own["rmse"]) if own is not None else None
    with damaged(place / "metrics.jsonl", REMOVE):
        return min(float(line["validation_rmse"]) for line in _log(place)), figure


def _log(place: Path) -> list[dict[str, Any]]:
    """Return the lines of a trial's log."""
    content = read_bytes(place / "metrics.jsonl").decode("utf-8", "replace")
    return [parse_json(line, place / "metrics.jsonl") for line in content.splitlines()]


def _finished(optuna: Any, study: Any) -> int:
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=ended))


def _requeue(optuna: Any, study: Any) -> None:
    """Queue the trial that a killed sweep was at once more, to be resumed in its directory."""
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        reported = {str(step): value for step, value in trial.intermediate_values.items()}
        study.enqueue_trial(trial.params, user_attrs={**trial.user_attrs, "reported": reported})


def _rows(optuna: Any, study: Any, space: Space, out: Path) -> list[dict[str, Any]]:
    """Return the trials that ended, the best first, then those that were pruned."""
    rows = []
    for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)):
        complete = trial.state == optuna.trial.TrialState.COMPLETE
        place = out / trial.user_attrs["directory"]
        figure = _outcome(place, space)[1] if complete else None
        chosen = {
            name: json.loads(value) if isinstance(space.space[name], list) else value
            for name, value in trial.params.items()
        }
        rows.append(
            {
                "directory": place.name,
                "options": chosen,
                "value": trial.value if complete else None,
                "figure": figure.to_json() if figure is not None else None,
                "points": len(_log(place)),
                "pruned": not complete,
            }
        )
    return sorted(rows, key=lambda row: (row["pruned"], row["value"] or 0.0, row["directory"]))


def _show(rows: list[dict[str, Any]], space: Space) -> None:
    """Print one table of all trials."""
    ppo = space.verb == "train ppo"
    columns = ["trial", *space.space, "best reward" if ppo else "validation RMSE"]
    columns += ["with 95 % interval" if ppo else "held-out RMSE, 95 %", "evaluations" if ppo else "epochs"]
    cells = []
    for row in rows:
        value = "pruned" if row["pruned"] else f"{-row['value'] if ppo else row['value']:.4g}"
        figure = row["figure"]
        shown = "–" if figure is None else show(saved_estimate(figure), 3)
        options = [
            f"{row['options'][name]:.4g}" if isinstance(row["options"][name], float) else str(row["options"][name])
            for name in space.space
        ]
        cells.append([row["directory"], *options, value, shown, str(row["points"])])
    table(f"{len(rows)} trials of {space.verb}, the best first", columns, cells, left=1 + len(space.space))


def _fingerprint(space: Space) -> str:
    """Return a digest of what a sweep's file says, but for the number of trials, and of what all trials learn from."""
    content = {"verb": space.verb, "options": space.options, "space": {n: repr(k) for n, k in space.space.items()}}
    if space.verb == "train imitation":
        options = options_of(space, {name: _ends(kind)[0] for name, kind in space.space.items()})
        content["data"] = fingerprint(load_episodes(options.data, options=options.reading))
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError(f"a sweep needs Optuna, which is not installed: {EXTRA}") from None
    return optuna
