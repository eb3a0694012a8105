"""Wormwheel's rooms as Python finds them: says what hides one, where a folder of one's own has its name.

Wormwheel is the packages `agents`, `envs`, `experiments` and `policies` (`from agents.driving.pilot import Pilot`). A
script's own folder comes first on Python's path, so a folder `agents` with an `__init__.py` beside the script hides
ours, and an import of `agents.ppo` finds nothing. Every room imports this module, which adds a finder that is asked
when all others have found nothing: where the file would be there but for such a folder, the error says so. Before
anything of Wormwheel is imported, nothing of it can speak: a script whose first import is a hidden room gets Python's
own words, unless it begins with `import wormwheel`.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

ROOMS = ("agents", "envs", "experiments", "policies")
"""The packages; other people have folders of these names, too."""
HERE = Path(__file__).resolve().parent
"""Where they lie, beside this file."""


class RoomFinder(MetaPathFinder):
    """Finds nothing; says what hides a module of Wormwheel that nobody else has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Raise where a module of ours is hidden; return None for everything else.

        Raises:
            ModuleNotFoundError: if the module is one of Wormwheel's, and its room is hidden.
        """
        room, _, rest = fullname.partition(".")
        if room not in ROOMS or not rest:
            return None
        file = HERE.joinpath(*fullname.split("."))
        if not (file.with_suffix(".py").is_file() or (file / "__init__.py").is_file()):
            return None
        hides = hidden_by(room)
        if hides is None:
            return None
        raise ModuleNotFoundError(f"No module named {fullname!r}: {explain(room, hides)}", name=fullname)


def hidden_by(room: str) -> Path | None:
    """Return the file or folder that Python takes for a room; None where it takes ours."""
    loaded = sys.modules.get(room)
    spec = importlib.util.find_spec(room) if loaded is None else loaded.__spec__
    if spec is None:
        file = getattr(loaded, "__file__", None)
        return None if file is None else Path(file)
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    found = [Path(place).resolve() for place in places]
    if not found or any(HERE / room in (place, *place.parents) for place in found):
        return None
    return found[0].parent if found[0].name == "__init__.py" else found[0]


def explain(room: str, hides: Path) -> str:
    """Say what hides a room, and how to go on; one line."""
    what = f"the package {room!r} should come from {HERE}, and {hides} hides it: Python looks there first."
    if {"site-packages", "dist-packages"} & set(hides.parts):
        return f"{what} Another distribution owns that name: install Wormwheel in an environment of its own."
    kind = "folder" if hides.is_dir() else "file"
    return (
        f"{what} Rename that {kind}, or move it into a package of your own, such as myproject.{room}; or keep its "
        "place off the path: start the script by `python -P` (Python 3.11 or newer), or take it out of PYTHONPATH."
    )


def main() -> int:
    """Run the `wormwheel` command; returns its exit code."""
    hides = hidden_by("experiments")
    if hides is not None:
        print(f"wormwheel: {explain('experiments', hides)}", file=sys.stderr)
        return 2
    from experiments.cli import main as command

    return command()


if not any(isinstance(finder, RoomFinder) for finder in sys.meta_path):
    sys.meta_path.append(RoomFinder())
