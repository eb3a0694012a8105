"""From any format to any that is written, as a stream: memory holds one run of frames, and a stop costs one episode.

    convert(load_episodes("tub"), "tub-as-lerobot", "lerobot")

What is complete is noted in `OUT/.partial-conversion.json`; the same call after a stop resumes behind it. The mark
goes when all is done. A directory that holds anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from agents.recordings.episodes import EpisodeSet
from agents.recordings.reading.files import read_json
from agents.recordings.writers.donkeycar import DonkeycarTarget
from agents.recordings.writers.lerobot import LeRobotTarget
from agents.recordings.writers.minari import MinariTarget
from agents.recordings.writers.native import NativeTarget
from agents.recordings.writers.target import Target, Written
from agents.runs.files import PARTIAL, clear_leftovers, is_half_made, make_directory, write_json

Format = Literal["native", "lerobot", "minari", "donkeycar"]
"""The formats that are written."""
TARGETS: dict[str, type[Target]] = {
    "native": NativeTarget,
    "lerobot": LeRobotTarget,
    "minari": MinariTarget,
    "donkeycar": DonkeycarTarget,
}
"""How each is written."""
MARK = f"{PARTIAL}conversion.json"
"""In the directory while a conversion is under way."""


@dataclass(frozen=True)
class Converted:
    """What a conversion made."""

    episodes: int
    """Episodes written."""
    frames: int
    """Frames written."""
    bad: int
    """Frames left out because their picture cannot be decoded."""
    resumed: int
    """Episodes that stood there from an earlier call."""


def convert(
    episodes: EpisodeSet,
    directory: str | os.PathLike[str],
    to: Format = "native",
    exact: bool = True,
    on_progress: Callable[[int], None] | None = None,
    on_complete: Callable[[Converted], None] | None = None,
) -> Converted:
    """Write episodes in another format.

    Args:
        episodes: With pictures of one size.
        directory: Where to write; empty, absent, or left by a conversion of the same episodes that was stopped.
        to: The format.
        exact: Pictures come back as they are, where the format can; else they take its usual, smaller form.
        on_progress: Called with the frames done since the last call.
        on_complete: Called when all is written; a stop before its end counts as one before all was written, so that
            the same call again comes to it once more.

    Returns:
        What was made.

    Raises:
        ValueError: if the directory holds something else, there are no pictures, or none can be decoded.
        WriteError: if it cannot be written to; what is complete stays and is not written again.
    """
    out = Path(directory)
    height, _ = episodes.frame_size
    if height == 0:
        raise ValueError(f"{episodes[0].meta.source} has no pictures, only logs: there is nothing to convert.")
    fingerprint = _fingerprint(episodes, to, exact)
    done = _resume(out, fingerprint)
    resumed = len(done)
    target = TARGETS[to](out, exact)
    report = on_progress or (lambda frames: None)
    kept: list[tuple[int, Written]] = []
    for number, episode in enumerate(episodes):
        if number in done:
            written = Written(*done[number])
            report(len(episode))
        else:
            written = target.write(number, episode, report)
            done[number] = written
            write_json(out / MARK, {"fingerprint": fingerprint, "done": done})
        if written.frames:
            kept.append((number, written))
    if not kept:
        raise ValueError(f"no picture of {episodes[0].meta.source} can be decoded; there is nothing to convert.")
    target.finish([(number, episodes[number], written) for number, written in kept])
    target.clean()
    frames, bad = sum(w.frames for _, w in kept), sum(Written(*w).bad for w in done.values())
    made = Converted(len(kept), frames, bad, resumed)
    if on_complete is not None:
        on_complete(made)
    (out / MARK).unlink()
    return made


def _fingerprint(episodes: EpisodeSet, to: str, exact: bool) -> str:
    """Return what tells one conversion from another: the labels, the clock and the columns of what is converted."""
    digest = hashlib.blake2b(f"{to} {exact}".encode(), digest_size=16)
    for episode in episodes:
        digest.update(json.dumps(episode.meta.to_json(), sort_keys=True, default=str).encode("utf-8", "replace"))
        digest.update(episode.steering.tobytes() + episode.time_s.tobytes())
        for name, values in sorted(episode.extras.items()):
            digest.update(name.encode("utf-8", "replace") + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _resume(out: Path, fingerprint: str) -> dict[int, Written]:
    """Return what stands there already of this conversion.

    Raises:
        ValueError: if the directory holds something else.
    """
    mark = out / MARK
    if mark.is_file():
        state = read_json(mark)
        if not isinstance(state, dict) or state.get("fingerprint") != fingerprint:
            raise ValueError(
                f"{out} holds a conversion of other recordings, or with other options, that was stopped; finish it "
                "with the options of the first call, or give another directory."
            )
        return {int(number): Written(*written) for number, written in dict(state.get("done", {})).items()}
    if out.exists() and (not out.is_dir() or not all(is_half_made(entry.name) for entry in out.iterdir())):
        raise ValueError(f"{out} is not empty, and nothing is written over; name a new directory.")
    make_directory(out)
    clear_leftovers(out)  # of a process that was killed before it had written the mark
    write_json(mark, {"fingerprint": fingerprint, "done": {}})
    return {}
