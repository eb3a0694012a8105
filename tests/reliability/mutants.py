"""Mutation testing: small deliberate breaks, and whether a test notices.

    python -m tests.reliability.mutants --named              # breaks that once passed unnoticed, and their neighbours
    python -m tests.reliability.mutants --count 20 --seed 0  # a seeded sample over the modules that decide figures

A driver of our own: mutmut rewrites every function to a trampoline, which numba's kernels, dataclasses that are read
from source and `inspect` do not survive; cosmic-ray starts Python, and so imports torch, for each break. Here one
process imports what is not ours and forks for each break; the fork takes a copy of the tree with the break in it, and
runs the tests of that module (`MODULES`; tests mirror the rooms) until the first fails.

A break that a test notices is killed, as is one that makes the tests run five times as long. Survivors are printed with
their line. Kernels are left out: each break would be compiled anew, and they are held to their reference anyway.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
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

from tests.reliability.named_mutants import NAMED, Named

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
    "agents/imitation/train.py": (f"{_AGENTS}/imitation/test_train.py", f"{_AGENTS}/imitation/test_loss.py"),
    "agents/ppo/distributions.py": (f"{_AGENTS}/ppo/test_distributions.py",),
    "agents/ppo/evaluate.py": (f"{_AGENTS}/ppo/test_surroundings.py", f"{_AGENTS}/ppo/test_line.py"),
    "agents/ppo/replay.py": (f"{_AGENTS}/ppo/test_surroundings.py", f"{_AGENTS}/ppo/test_resume.py"),
    "agents/ppo/rollout.py": (f"{_AGENTS}/ppo/test_rollout.py", f"{_AGENTS}/ppo/test_update.py"),
    "agents/ppo/update.py": (f"{_AGENTS}/ppo/test_update.py",),
    "agents/recordings/episodes.py": (f"{_AGENTS}/recordings/test_episodes.py",),
    "agents/recordings/splits.py": (f"{_AGENTS}/recordings/test_episodes.py",),
    "envs/lane_keeping/env.py": (f"{_ENVS}/lane_keeping/test_env.py",),
    "envs/perturbations/families/timing.py": (
        f"{_ENVS}/perturbations/test_doses.py",
        f"{_ENVS}/perturbations/test_env.py",
    ),
    "envs/perturbations/families/noise.py": (f"{_ENVS}/perturbations",),
    "envs/road/track.py": (f"{_ENVS}/road/test_track.py",),
    "envs/vehicle/vehicle.py": (f"{_ENVS}/vehicle/test_vehicle.py",),
    "experiments/gate/judge.py": (f"{_VERBS}/gate/test_judge.py",),
    "experiments/gate/sequential.py": (f"{_VERBS}/gate/test_judge.py",),
    "experiments/robustness/analysis.py": (
        f"{_VERBS}/robustness/test_report.py",
        f"{_VERBS}/robustness/test_robustness.py",
    ),
    "experiments/robustness/findings.py": (
        f"{_VERBS}/robustness/test_report.py",
        f"{_VERBS}/robustness/test_robustness.py",
    ),
    "policies/cores/cfc.py": (f"{_POLICIES}/cores/test_cfc.py", f"{_POLICIES}/cores/test_core_contract.py"),
    "policies/cores/ltc.py": (f"{_POLICIES}/cores/test_ltc.py",),
    "policies/kernels/ltc/reference.py": (f"{_POLICIES}/cores/test_ltc.py",),
    "policies/perception.py": (f"{_POLICIES}/test_perception.py",),
    "policies/preprocessing.py": (f"{_POLICIES}/test_policy.py", f"{_POLICIES}/test_perception.py"),
    "policies/wiring/draws.py": (f"{_POLICIES}/wiring/test_wiring.py",),
}
"""Modules that decide figures, and the tests that hold them."""
CALLS = {
    **{"min": "max", "max": "min", "mean": "median", "median": "mean", "any": "all", "all": "any", "sum": "max"},
    **{"floor": "ceil", "ceil": "floor", "sin": "cos", "cos": "sin", "argmax": "argmin", "argmin": "argmax"},
    **{"nanmean": "nanmedian", "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "ones_like": "zeros_like"},
}
"""Functions that are taken for one another."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult},
}


@dataclass(frozen=True)
class Break:
    """One change of one line."""

    path: str
    line: int
    was: str
    now: str
    source: str
    """The module with it."""

    def __str__(self) -> str:
        """Say what it is."""
        return f"{self.path}:{self.line}: {self.was}  →  {self.now}"


def breaks_of(path: str, source: str) -> list[Callable[[], Break]]:
    """Return all breaks of a module, made when they are asked for."""
    tree = ast.parse(source)
    found: list[Callable[[], Break]] = []
    for index, node in enumerate(_nodes(tree)):
        for number in range(len(list(_changes(node)))):
            found.append(lambda index=index, number=number: _make(path, source, index, number))  # type: ignore[misc]
    return found


def _make(path: str, source: str, index: int, number: int) -> Break:
    tree = ast.parse(source)
    node = list(_nodes(tree))[index]
    was = ast.unparse(node)
    list(_changes(node))[number]()
    return Break(path, getattr(node, "lineno", 0), was[:100], ast.unparse(node)[:100], ast.unparse(tree))


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what may be changed: no docstrings, annotations, messages or defaults of declarations."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
            ):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield child
            yield from _nodes(child)


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield the ways to change a node in place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        swapped = COMPARISONS[type(node.ops[0])]
        yield lambda: node.ops.__setitem__(0, swapped())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        other = OPERATORS[type(node.op)]
        yield lambda: setattr(node, "op", other())
    elif isinstance(node, ast.BoolOp):
        yield lambda: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda: setattr(node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda: setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda: setattr(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield lambda: setattr(node, "value", node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield lambda: setattr(node, "value", node.value * 1.5 if node.value else 1.0)
    elif isinstance(node, ast.If):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.IfExp):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CALLS:
            field = "attr" if isinstance(node.func, ast.Attribute) else "id"
            yield lambda: setattr(node.func, field, CALLS[name])
        if len(node.args) >= 2 and not any(isinstance(one, ast.Starred) for one in node.args):
            yield lambda: node.args.insert(0, node.args.pop(1))
        for keyword in list(node.keywords):
            if keyword.arg is not None:
                yield lambda keyword=keyword: node.keywords.remove(keyword)  # type: ignore[misc]


class Nursery:
    """A copy of the tree, in which a forked process tries breaks."""

    def __init__(self, place: Path) -> None:
        self.place = place
        kept = shutil.ignore_patterns("*.pyc", ".git", ".venv", "site", "build")
        for name in (*ROOMS, "docs"):
            shutil.copytree(ROOT / name, place / name, ignore=kept)
        for path in [*ROOT.glob("*.toml"), *ROOT.glob("*.md"), *ROOT.glob("*.txt"), *ROOT.glob("*.py")]:
            shutil.copy(path, place)

    def tests_fail(self, path: str, source: str, tests: Sequence[str], log: Path) -> bool:
        """Put a source in the place of a module, run tests in a fork, put the module back."""
        module = self.place / path
        clean = module.read_text(encoding="utf-8")
        module.write_text(source, encoding="utf-8")
        try:
            child = os.fork()
            if child == 0:
                self._be_child(tests, log)
            return self._ended(child)
        finally:
            module.write_text(clean, encoding="utf-8")

    def _ended(self, child: int) -> bool:
        deadline_s = time.monotonic() + 10 * LONGEST_S
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status != 0
            if time.monotonic() > deadline_s:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)

    def _be_child(self, tests: Sequence[str], log: Path) -> None:
        code = 1
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_S, LONGEST_S))
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
                del sys.modules[name]
            os.chdir(self.place)
            sys.path[:] = [str(self.place), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
            os.environ["PYTHONPATH"] = str(self.place)
            sys.dont_write_bytecode = True
            import pytest

            code = int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))
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


def _apply(named: Named) -> str:
    source = (ROOT / named.path).read_text(encoding="utf-8")
    assert source.count(named.was) >= 1, f"{named.path} does not hold {named.was!r} any more"
    return source.replace(named.was, named.now, 1)


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


def main() -> int:
    """Run from the command line; returns the exit code: 0 when every break was noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--named", action="store_true", help="the breaks of named_mutants.py instead of a sample")
    parser.add_argument("--only", default="", help="those whose description holds this text")
    parser.add_argument("--least", type=float, default=1.0, help="share that must be killed for exit code 0")
    options = parser.parse_args()
    tried: list[tuple[str, str, str, tuple[str, ...]]]
    if options.named:
        tried = [(str(one), one.path, _apply(one), one.tests) for one in NAMED]
    else:
        tried = [(str(one), one.path, one.source, MODULES[one.path]) for one in sample(options.count, options.seed)]
    tried = [one for one in tried if options.only in one[0]]
    os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "kernels"))
    import_others()
    survivors, broken = [], False
    with tempfile.TemporaryDirectory() as directory:
        nursery = Nursery(Path(directory) / "tree")
        log = Path(directory) / "log"
        for suite in dict.fromkeys(tests for *_, tests in tried):
            path = next(one[1] for one in tried if one[3] == suite)
            if nursery.tests_fail(path, (ROOT / path).read_text(encoding="utf-8"), suite, log):
                print(log.read_text(errors="replace")[-2000:])
                print(f"the tests fail without any break: {' '.join(suite)}", flush=True)
                tried, broken = [one for one in tried if one[3] != suite], True
        for words, path, source, tests in tried:
            killed = nursery.tests_fail(path, source, tests, log)
            print(f"{'killed  ' if killed else 'SURVIVED'} {words}", flush=True)
            if not killed:
                survivors.append(words)
    share = 1 - len(survivors) / max(1, len(tried))
    print(f"{len(tried) - len(survivors)} of {len(tried)} breaks killed ({share:.0%})")
    return 2 if broken else 0 if share >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
