"""TensorBoard's event files, cut back to a checkpoint, so that a resumed run shows every figure once.

cut_back(run.tensorboard, lambda tag, step: step <= steps_done)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from agents.runs.files import replacing
from agents.runs.reading import check_regular, damaged

PATTERN = "events.out.tfevents.*"
"""Names of event files."""
HYPERPARAMETERS = "run/"
"""What the tags of the figures begin with that runs are compared by."""


def write_hyperparameters(directory: Path, options: Mapping[str, Any], measured: Mapping[str, float]) -> None:
    """Write what a run was made with, and what came out, to the page of hyperparameters.

    Args:
        directory: of the events.
        options: JSON values; nested ones are named by their path.
        measured: what runs are compared by.
    """
    flat = dict(_flat("", options))
    with closing(SummaryWriter(str(directory))) as board:
        for summary in hparams(flat, {f"{HYPERPARAMETERS}{name}": 0 for name in measured}):
            board._get_file_writer().add_summary(summary)
        for name, value in measured.items():
            board.add_scalar(f"{HYPERPARAMETERS}{name}", value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, bool | float | str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    else:
        yield name, value if isinstance(value, (bool, int, float, str)) else json.dumps(value, default=str)


def cut_back(directory: Path, keep: Callable[[str, int], bool]) -> None:
    """Take figures out of all event files below a directory; files without any left are removed.

    Args:
        directory: of the events; need not exist.
        keep: called with the tag and the step of a figure; whether it stays.

    Raises:
        WriteError: if a file cannot be written; it is as it was then.
        DamagedFile: if a file is damaged otherwise than by being cut short, or is no file.
    """
    for folder in list(directory.iterdir()) if directory.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()  # A kill came before its file; the next one would be the second.
    for path in sorted(directory.rglob(PATTERN)):
        check_regular(path)
        with damaged(path, "remove it; the figures stand in metrics.jsonl as well"):
            events = [Event.FromString(content) for content in _records(path)]
        left, some = [], False
        for event in events:
            if event.HasField("summary"):
                kept = [value for value in event.summary.value if _stays(value.tag) and keep(value.tag, event.step)]
                if not kept:
                    continue
                some = True
                if len(kept) < len(event.summary.value):
                    del event.summary.value[:]
                    event.summary.value.extend(kept)
            left.append(event.SerializeToString())
        if not some:
            path.unlink()
            if path.parent != directory and not any(path.parent.iterdir()):
                path.parent.rmdir()
            continue
        with replacing(path) as partial, partial.open("wb") as file:
            writer = RecordWriter(file)
            for content in left:
                writer.write(content)


def _stays(tag: str) -> bool:
    """Whether a figure may stay: those of hyperparameters are written at the end of a run, once."""
    return not tag.startswith((HYPERPARAMETERS, "_hparams_/"))


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file, up to one that a kill cut off."""
    yield from RawEventFileLoader(str(path)).Load()
