"""What to do about a word that was misspelt, and about a package that is missing."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    **{"stable-baselines3": "stable_baselines3", "sb3-contrib": "sb3_contrib", "opencv-python-headless": "cv2"},
    **{"pillow": "PIL", "box2d": "Box2D", "box2d-py": "Box2D", "scikit-learn": "sklearn", "pyyaml": "yaml"},
    **{"rerun-sdk": "rerun"},
}
"""Names under which distributions are imported, where it is not the name with underscores."""
BROUGHT = {"gymnasium[box2d]": ("Box2D", "pygame"), "gymnasium[mujoco]": ("mujoco", "imageio")}
"""Modules that come by an extra of another distribution."""
ADVISED = re.compile(r"pip install (?:-e )?'(?:wormwheel|\.)\[([\w,-]+)\]'")
"""An extra as messages in the rooms below advise it."""


def did_you_mean(word: str, known: Iterable[str], most: int = 3) -> str:
    """Return " Did you mean …?" with the nearest known words; "" when none is near."""
    near = nearest(word, known, most)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known words that a misspelt one may stand for, the nearest first.

    Of an option with a dotted name such as `--expert.lookahead-s`, the last part alone is enough.
    """
    known = list(known)
    wanted = word.replace("_", "-").lstrip("-").rpartition(".")[2].lower()
    last = {one: one.lstrip("-").rpartition(".")[2].lower() for one in known}
    exact = [one for one, part in last.items() if part == wanted]
    close = difflib.get_close_matches(wanted, list(last.values()), most, 0.7)
    longer = [
        part for part in last.values() if len(wanted) > 3 and (part.startswith(wanted) or wanted.startswith(part))
    ]
    ranked = exact + [one for part in [*close, *longer] for one in known if last[one] == part]
    return list(dict.fromkeys(ranked))[:most]


def extras() -> dict[str, list[str]]:
    """Return what each extra of this project installs, as requirements; empty when it is not installed.

    A checkout is read itself: what was noted down at its installation may be older.
    """
    if (ROOT / "pyproject.toml").is_file() and sys.version_info >= (3, 11):
        import tomllib

        with (ROOT / "pyproject.toml").open("rb") as file:
            given = tomllib.load(file)["project"]["optional-dependencies"]
        plain = {name: [one.partition(";")[0].replace(" ", "") for one in needs] for name, needs in given.items()}
        return {name: [one for one in needs if not one.startswith("wormwheel")] for name, needs in plain.items()}
    try:
        required = metadata.requires("wormwheel") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in required:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra and not requirement.strip().startswith("wormwheel"):
            found.setdefault(extra[1], []).append(requirement.replace(" ", ""))
    return found


def extra_of(module: str) -> str | None:
    """Name the extra that brings a module, the first one declared of several; None when none does."""
    top = module.split(".")[0]
    bringing = [name for name, needs in extras().items() if any(top in _modules(one) for one in needs)]
    return next((name for name in bringing if name != "dev"), bringing[0] if bringing else None)


def install_advice(module: str) -> str:
    """Return the command that installs what a missing module needs; it runs as given."""
    extra = extra_of(module)
    if extra is not None:
        return install_extra(extra)
    top = module.split(".")[0]
    own = {one: name for name, one in MODULES.items()}
    return f"pip install {own.get(top, top).replace('_', '-')}"


def install_extra(extra: str) -> str:
    """Return the command that installs an extra: from the checkout, or the packages themselves beside a wheel."""
    if (ROOT / "pyproject.toml").is_file():
        place = "." if Path(os.path.realpath(os.curdir)) == ROOT else str(ROOT)
        return f"pip install -e '{place}[{extra}]'"
    needs = [one for name in extra.split(",") for one in extras().get(name, [])]
    return "pip install " + " ".join(f"'{one}'" for one in needs) if needs else f"pip install 'wormwheel[{extra}]'"


def adapt_advice(text: str) -> str:
    """Rewrite the extras that a message advises to commands that run here."""
    return ADVISED.sub(lambda found: install_extra(found[1]), text)


def _modules(requirement: str) -> set[str]:
    """Return the modules that a requirement brings."""
    found = re.match(r"([\w.-]+)(\[[\w,]+\])?", requirement)
    if found is None:
        return set()
    name = re.sub(r"[_.]+", "-", found[1]).lower()
    if found[2]:
        return set(BROUGHT.get(f"{name}{found[2]}", ()))
    return {MODULES.get(name, name.replace("-", "_"))}
