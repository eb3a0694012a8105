"""Mutation testing: small deliberate breaks, and whether a test notices.

    python -m tests.reliability.mutants --named              # breaks that once passed unnoticed, and their neighbours
    python -m tests.reliability.mutants --count 20 --seed 0  # a seeded sample over the modules that decide figures

A driver of our own: mutmut rewrites every function to a trampoline, which numba's kernels, dataclasses that are read
from source and `inspect` do not survive; cosmic-ray starts Python, and so imports torch, for each break. Here one
process imports what is not ours and forks for each break; the fork takes a copy of the tree with the break in it, and
runs the tests of that module (`MODULES`; tests mirror the rooms; those of `make test`) until the first fails, those
first that run the line.

A break that a test notices is killed, as is one that makes the tests run five times as long. Survivors are printed with
their line. Kernels are left out: each break would be compiled anew, and they are held to their reference anyway.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import ctypes
import dataclasses
import filecmp
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reliability.breaks import Break, breaks_of
from tests.reliability.named_mutants import NAMED, Named
from tests.reliability.watched import Order, Watched, Watcher

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("agents", "envs", "experiments", "policies", "tests")
LONGEST_S = 120
"""Most time of the processor for the tests of one break, s."""
_AGENTS, _ENVS, _POLICIES, _VERBS = "tests/agents", "tests/envs", "tests/policies", "tests/experiments"
MODULES: dict[str, tuple[str, ...]] = {
    "agents/driving/expert.py": (f"{_AGENTS}/driving/test_expert.py", f"{_AGENTS}/driving/test_record.py"),
    "agents/driving/latency.py": (f"{_AGENTS}/driving/test_latency.py",),
    "agents/driving/metrics.py": (f"{_AGENTS}/driving/test_metrics.py", f"{_AGENTS}/driving/test_open_loop.py"),
    "agents/driving/open_loop.py": (
        *(f"{_AGENTS}/driving/test_open_loop.py", f"{_AGENTS}/driving/test_perturbed_recording.py"),
    ),
    "agents/driving/record.py": (f"{_AGENTS}/driving/test_record.py",),
    "agents/driving/rollout.py": (
        *(f"{_AGENTS}/driving/test_rollout.py", f"{_AGENTS}/driving/test_perturbed_driving.py"),
    ),
    "agents/driving/statistics.py": (f"{_AGENTS}/driving/test_statistics.py",),
    "agents/imitation/augmentation.py": (f"{_AGENTS}/imitation/test_augmentation.py",),
    "agents/imitation/batches.py": (f"{_AGENTS}/imitation/test_batches.py",),
    "agents/imitation/train.py": (
        f"{_AGENTS}/imitation/test_steps.py",
        f"{_AGENTS}/imitation/test_loss.py",
        f"{_AGENTS}/imitation/test_options.py",
        f"{_AGENTS}/imitation/test_train.py",
    ),
    "agents/ppo/distributions.py": (f"{_AGENTS}/ppo/test_distributions.py",),
    "agents/ppo/evaluate.py": (f"{_AGENTS}/ppo/test_surroundings.py", f"{_AGENTS}/ppo/test_line.py"),
    "agents/ppo/replay.py": (
        *(f"{_AGENTS}/ppo/test_surroundings.py", f"{_AGENTS}/ppo/test_resume.py"),
        f"{_AGENTS}/ppo/test_shared_vec_env.py",
    ),
    "agents/ppo/rollout.py": (
        *(f"{_AGENTS}/ppo/test_rollout.py", f"{_AGENTS}/ppo/test_update.py", f"{_AGENTS}/ppo/test_resume.py"),
    ),
    "agents/ppo/update.py": (
        *(f"{_AGENTS}/ppo/test_update.py", f"{_AGENTS}/ppo/test_line.py", f"{_AGENTS}/ppo/test_resume.py"),
    ),
    "agents/recordings/episodes.py": (f"{_AGENTS}/recordings/test_episodes.py",),
    "agents/recordings/splits.py": (f"{_AGENTS}/recordings/test_episodes.py",),
    "envs/lane_keeping/env.py": (
        *(f"{_ENVS}/lane_keeping/test_step.py", f"{_ENVS}/lane_keeping/test_env.py"),
        f"{_ENVS}/perturbations/test_env.py",
    ),
    "envs/perturbations/families/timing.py": (
        f"{_ENVS}/perturbations/test_doses.py",
        f"{_ENVS}/perturbations/test_env.py",
    ),
    "envs/perturbations/families/noise.py": (
        f"{_ENVS}/perturbations/test_perturbations.py",
        f"{_ENVS}/perturbations/test_doses.py",
    ),
    "envs/road/track.py": (f"{_ENVS}/road/test_track.py",),
    "envs/vehicle/vehicle.py": (f"{_ENVS}/vehicle/test_vehicle.py",),
    "experiments/gate/judge.py": (f"{_VERBS}/gate/test_judge.py", f"{_VERBS}/gate/test_response.py"),
    "experiments/gate/sequential.py": (f"{_VERBS}/gate/test_judge.py",),
    "experiments/robustness/analysis.py": (
        f"{_VERBS}/robustness/test_analysis.py",
        f"{_VERBS}/robustness/test_report.py",
        f"{_VERBS}/robustness/test_robustness.py",
    ),
    "experiments/robustness/findings.py": (
        f"{_VERBS}/robustness/test_analysis.py",
        f"{_VERBS}/robustness/test_report.py",
        f"{_VERBS}/robustness/test_robustness.py",
    ),
    "policies/cores/cfc.py": (f"{_POLICIES}/cores/test_cfc.py", f"{_POLICIES}/cores/test_core_contract.py"),
    "policies/cores/ltc.py": (f"{_POLICIES}/cores/test_synapses.py", f"{_POLICIES}/cores/test_ltc.py"),
    "policies/kernels/ltc/reference.py": (f"{_POLICIES}/cores/test_synapses.py", f"{_POLICIES}/cores/test_ltc.py"),
    "policies/perception.py": (f"{_POLICIES}/test_perception.py",),
    "policies/preprocessing.py": (
        *(f"{_POLICIES}/test_policy.py", f"{_POLICIES}/test_perception.py", f"{_POLICIES}/test_preprocessing.py"),
    ),
    "policies/wiring/draws.py": (f"{_POLICIES}/wiring/test_wiring.py",),
}
"""Modules that decide figures, and the tests that hold them."""
WITH_DEFAULTS = (
    *("agents/driving/expert.py", "agents/imitation/augmentation.py", "agents/imitation/train.py"),
    *("agents/ppo/evaluate.py", "agents/recordings/episodes.py", "envs/vehicle/vehicle.py"),
    *("experiments/gate/judge.py", "policies/cores/cfc.py", "policies/cores/ltc.py", "policies/perception.py"),
)
"""Those with numbers that are taken where nobody says otherwise."""
MODULES |= {path: (*MODULES[path], "tests/test_defaults.py") for path in WITH_DEFAULTS}


class Nursery:
    """A copy of the tree, in which a forked process tries breaks."""

    def __init__(self, place: Path, kept: Path | None = None) -> None:
        self.place, self.kept = place, kept
        self._stamp_s = int(time.time()) - 10_000_000
        self._copy()
        if kept is not None:
            compileall.compile_dir(place, quiet=2)
        digest = hashlib.sha256()
        for path in sorted(place.rglob("*.py")):
            digest.update(path.read_bytes())
        self._digest = digest.hexdigest()

    def _copy(self) -> None:
        """Make the copy like the tree; what is the same already stays, and with it its byte code."""
        wanted = [path for name in (*ROOMS, "docs") for path in (ROOT / name).rglob("*") if path.is_file()]
        wanted += [path for end in ("toml", "md", "txt", "py") for path in ROOT.glob(f"*.{end}")]
        names = {path.relative_to(ROOT) for path in wanted if path.suffix != ".pyc"}
        for path in list(self.place.rglob("*")):
            if path.is_file() and path.suffix != ".pyc" and path.relative_to(self.place) not in names:
                path.unlink()
        for name in names:
            here = self.place / name
            if not here.exists() or not filecmp.cmp(ROOT / name, here, shallow=False):
                here.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, here)

    def watch(self, paths: Sequence[str], tests: Sequence[str], log: Path) -> Watched | None:
        """Run tests without any break; returns what they took and which lines they ran, None when one fails.

        Byte code is written meanwhile, so that what is not broken need not be compiled again. What was seen in a
        tree of the same contents is taken from where it is kept.
        """
        files = [file for test in tests for file in self._files(test)]
        seen: dict[str, Any] = {}
        for file in files:
            if (found := self._watch_file(paths, file, log)) is None:
                return None
            seen |= found
        return Watched.of(seen)

    def _files(self, test: str) -> list[str]:
        place = self.place / test
        found = sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
        return [str(path.relative_to(self.place)) for path in found]

    def _watch_file(self, paths: Sequence[str], file: str, log: Path) -> dict[str, Any] | None:
        watcher, found = Watcher([str(self.place / path) for path in paths]), self.place / "watched.json"
        found.unlink(missing_ok=True)
        known = None
        if self.kept is not None:
            self.kept.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256("\n".join([self._digest, *paths, file]).encode()).hexdigest()
            known = self.kept / f"{name[:16]}.json"
            if known.exists():
                content: dict[str, Any] = json.loads(known.read_text())
                return content
        child = os.fork()
        if child == 0:
            self._be_child((file,), log, watcher, lambda: found.write_text(json.dumps(watcher.found())))
        if self._ended(child) or not found.exists():
            return None
        seen: dict[str, Any] = json.loads(found.read_text())
        for ran in seen.values():
            ran[1] = [[os.path.relpath(name, self.place), line] for name, line in ran[1]]
        if known is not None:
            known.write_text(json.dumps(seen))
        return seen

    def tests_fail(self, made: Break, tests: Sequence[str], watched: Watched | None, log: Path) -> bool:
        """Put a source in the place of a module, run tests in a fork, put the module back."""
        module = self.place / made.path
        clean, times = module.read_bytes(), module.stat()
        module.write_text(made.source, encoding="utf-8")
        self._stamp_s += 1  # Byte code of another source of this length must never be taken for this one's.
        os.utime(module, (self._stamp_s, self._stamp_s))
        try:
            child = os.fork()
            if child == 0:
                self._be_child(tests, log, Order(watched.order(made)) if watched else None)
            return self._ended(child)
        finally:
            module.write_bytes(clean)
            os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _ended(self, child: int) -> bool:
        deadline_s = time.monotonic() + 10 * LONGEST_S
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status != 0
            if time.monotonic() > deadline_s:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)

    def _be_child(
        self, tests: Sequence[str], log: Path, plugin: object, afterwards: Callable[[], object] | None = None
    ) -> None:
        code = 1
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody is left behind
            resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_S, LONGEST_S))
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
                del sys.modules[name]
            os.chdir(self.place)
            sys.path[:] = [str(self.place), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
            os.environ["PYTHONPATH"] = str(self.place)
            sys.dont_write_bytecode = afterwards is None
            import pytest

            words = ["-x", "-q", "--tb=line", "-m", "not thorough", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
            code = int(pytest.main(words, plugins=[plugin] if plugin is not None else None))
            if afterwards is not None:
                afterwards()
        except BaseException as error:
            print(repr(error))
        finally:
            sys.stdout.flush()
            os._exit(code)


def import_others() -> None:
    """Import what is not ours and takes long, once."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in (
        "numba",
        "gymnasium",
        "pydantic",
        "av",
        "pandas",
        "pyarrow",
        "scipy.stats",
        "tyro",
    ):
        with contextlib.suppress(ImportError):
            __import__(name)
    for name in ("stable_baselines3", "torch.utils.tensorboard", "matplotlib.pyplot", "torchdiffeq", "ncps.torch"):
        with contextlib.suppress(ImportError):
            __import__(name)


def _apply(named: Named) -> Break:
    source = (ROOT / named.path).read_text(encoding="utf-8")
    assert source.count(named.was) >= 1, f"{named.path} does not hold {named.was!r} any more"
    line = source[: source.index(named.was)].count("\n") + 1
    now = source.replace(named.was, named.now, 1)
    return Break(named.path, line, "", named.what, now, line + named.was.rstrip("\n").count("\n"))


def sample(count: int, seed: int) -> Iterator[Break]:
    """Yield a seeded sample: each module is as likely as another, then each of its breaks."""
    rng = random.Random(seed)
    found = {
        path: breaks_of(path, (ROOT / path).read_text(encoding="utf-8")) for path in MODULES if (ROOT / path).exists()
    }
    seen: set[str] = set()
    while count:
        path = rng.choice(sorted(found))
        made = rng.choice(found[path])()
        if str(made) not in seen and made.was != made.now:
            seen.add(str(made))
            count -= 1
            yield made


@dataclass(frozen=True)
class Outcome:
    """How one break ended."""

    what: str
    killed: bool
    seconds: float


def _add(path: Path | None, values: dict[str, Any]) -> None:
    """Add a line to the file of outcomes; one without `killed` says that a break was begun."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_outcomes(path: Path) -> tuple[dict[str, Outcome], set[str]]:
    """Return the outcomes that a file holds, by break, and the breaks that were begun; a later outcome counts."""
    found, begun = {}, set()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # A kill may have cut the last line.
            values = json.loads(line)
            begun.add(str(values.get("break", values.get("what"))))
            found[values["what"]] = Outcome(**values)
    return found, begun


def main() -> int:
    """Run from the command line; returns the exit code: 1 when too few were noticed, 3 when some were not tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--named", action="store_true", help="the breaks of named_mutants.py instead of a sample")
    parser.add_argument("--only", default="", help="those whose description holds this text")
    parser.add_argument("--least", type=float, default=1.0, help="share that must be killed for exit code 0")
    parser.add_argument("--out", type=Path, help="file to which each outcome is added as it is known (JSONL)")
    parser.add_argument("--resume", action="store_true", help="leave out those of which --out holds the outcome")
    parser.add_argument(
        "--trust-tests", action="store_true", help="the tests pass without a break, as after `make test`: do not look"
    )
    parser.add_argument("--survivors", action="store_true", help="with --resume: try again those that had survived")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further break after so long")
    part = "every Nth break from number K on, for several processes"
    parser.add_argument("--part", type=int, nargs=2, metavar=("K", "N"), default=(0, 1), help=part)
    options = parser.parse_args()
    begun_s = time.monotonic()
    tried: list[tuple[str, Break, tuple[str, ...]]]
    if options.named:
        tried = [(str(one), _apply(one), one.tests) for one in NAMED]
    else:
        tried = [(str(one), one, MODULES[one.path]) for one in sample(options.count, options.seed)]
    tried = [one for one in tried if options.only in one[0]][options.part[0] :: options.part[1]]
    known, begun = read_outcomes(options.out) if options.out is not None and options.resume else ({}, set())
    if options.survivors:
        known = {what: outcome for what, outcome in known.items() if outcome.killed}
    outcomes = {what: known[what] for what, *_ in tried if what in known}
    os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "kernels"))
    import_others()
    watched: dict[tuple[str, ...], Watched | None] = {}
    kept = options.out.with_suffix(".watched") if options.out is not None else None
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        nursery = Nursery((kept.absolute() if kept is not None else Path(directory)) / "tree", kept)
        log = Path(directory) / "log"
        if not options.trust_tests:  # Those of one module follow one another: its tests are watched once.
            tried.sort(key=lambda one: (one[1].path, one[2]))
        for what, made, tests in sorted(tried, key=lambda one: one[0] in begun):
            if what in outcomes or time.monotonic() - begun_s > 60 * options.minutes:
                continue
            if tests not in watched and not options.trust_tests:
                watched[tests] = nursery.watch(sorted({one[1].path for one in tried if one[2] == tests}), tests, log)
                if watched[tests] is None:
                    print(log.read_text(errors="replace")[-2000:])
                    print(f"the tests fail without any break: {' '.join(tests)}", flush=True)
            if watched.get(tests) is None and not options.trust_tests:
                continue
            started_s = time.monotonic()
            _add(options.out, {"break": what})
            killed = nursery.tests_fail(made, tests, watched.get(tests), log)
            outcomes[what] = Outcome(what, killed, time.monotonic() - started_s)
            print(f"{'killed  ' if killed else 'SURVIVED'} {outcomes[what].seconds:5.1f} s  {what}", flush=True)
            _add(options.out, dataclasses.asdict(outcomes[what]))
    killed_count = sum(outcome.killed for outcome in outcomes.values())
    share = killed_count / max(1, len(outcomes))
    for outcome in outcomes.values():
        if not outcome.killed:
            print(f"survived: {outcome.what}")
    left = len(tried) - len(outcomes)
    print(f"{killed_count} of {len(outcomes)} breaks killed ({share:.1%})" + (f", {left} not tried" if left else ""))
    return 1 if share < options.least else 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
