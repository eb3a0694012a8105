"""Checkpoints that can be told whole from damaged: a manifest of SHA-256 sums, and the ones before the last kept.

    with new_checkpoint(run / "last", keep=2) as directory:  # run/last, and run/last-1 behind it
        save_policy(policy, directory)
    newest_whole(run / "last")  # run/last, or run/last-1 when the first is damaged

A checkpoint is made beside its place and moved there in one piece, so a kill leaves the one before it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.runs.files import clear_errors, replacing_directory, write_json
from agents.runs.reading import DamagedFile, check_regular, possible_name, read_object

MANIFEST = "manifest.json"
"""Name of the file that lists the others with their sums."""
UNSIGNED = ("config.json", "README.md", "model.safetensors", "training.safetensors", "learner.safetensors")
"""What checkpoints of earlier versions, which have no manifest, are made of."""
_LOG = logging.getLogger(__name__)


class DamagedCheckpoint(ValueError):
    """No checkpoint is whole."""


@contextmanager
def new_checkpoint(directory: Path, keep: int = 1) -> Iterator[Path]:
    """Give an empty directory to fill; sign it and move it to `directory` when the block ends well.

    Args:
        directory: place of the newest checkpoint.
        keep: how many are kept, the newest included; the others are `directory` with -1, -2, … behind its name. Files
            that are not of a checkpoint's making move on to the newest one.

    Raises:
        WriteError: if it cannot be written; the checkpoints that were there are kept.
    """
    places = [directory, *(directory.with_name(f"{directory.name}-{number}") for number in range(1, keep))]
    with replacing_directory(directory) as partial:
        yield partial
        sign(partial)
        with clear_errors(directory):
            _carry_foreign(directory, partial)
            for newer, older in reversed(list(zip(places[:-1], places[1:], strict=True))):
                if newer.is_dir() and not damage(newer):
                    if older.is_dir():
                        shutil.rmtree(older)
                    os.rename(newer, older)


def sign(directory: Path) -> None:
    """Write the manifest of the files in a directory."""
    write_json(directory / MANIFEST, {name: _digest(directory / name) for name in _files(directory)})


def damage(directory: Path) -> str:
    """Say what is wrong with a checkpoint, "" if nothing is; one of an earlier version, without a manifest, passes."""
    if not os.path.lexists(directory / MANIFEST):
        return ""
    try:
        expected = {str(name): str(digest) for name, digest in read_object(directory / MANIFEST).items()}
    except (OSError, ValueError):
        return f"{MANIFEST} cannot be read"
    for name, digest in expected.items():
        if not possible_name(name) or Path(name).name != name:
            return f"{MANIFEST} names what is no file of a checkpoint"
        try:
            if _digest(directory / name) != digest:
                return f"{name} is not what was written"
        except (OSError, DamagedFile):
            return f"{name} is missing or cannot be read"
    return ""


def newest_whole(directory: Path) -> Path | None:
    """Return the newest checkpoint that is whole, or None when there is none at all; a damaged one is logged.

    Raises:
        DamagedCheckpoint: if there are some and none is whole.
    """
    number = 0
    troubles: list[str] = []
    while True:
        place = directory if number == 0 else directory.with_name(f"{directory.name}-{number}")
        if place.is_dir():
            trouble = damage(place)
            if not trouble:
                if troubles:
                    _LOG.warning("%s: resuming from %s.", "; ".join(troubles), place)
                return place
            troubles.append(f"{place} is damaged ({trouble})")
        elif number:
            break
        number += 1
    if troubles:
        raise DamagedCheckpoint(f"{'; '.join(troubles)}, and none before it is kept: restore a copy or train again.")
    return None


def _carry_foreign(old: Path, new: Path) -> None:
    """Copy what somebody else put into a checkpoint to the one that takes its place."""
    if not old.is_dir():
        return
    ours = {MANIFEST, *UNSIGNED}
    try:
        ours |= set(read_object(old / MANIFEST))
    except (OSError, ValueError):
        pass  # Without a manifest that can be read, what checkpoints are usually made of is ours.
    for entry in old.iterdir():
        if entry.name not in ours and not (new / entry.name).exists():
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, new / entry.name)


def _files(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir() if entry.is_file() and entry.name != MANIFEST)


def _digest(path: Path) -> str:
    check_regular(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
