"""Keeping what was driven: two data sets, one of what a person drove and one of what the policy drove.

    keeper = Keeper(Path("runs/drive"))
    keeper.begin(HUMAN, "start", meta)
    keeper.add(frame, steering=0.1, time_s=0.0, speed_mps=1.5)
    keeper.cut()

A drive is cut where the wheel changes hands, where something about the world changes, and where it ends, so whatever is
in `human/` is what a person did and can be trained on as it stands. An intervention is an episode of `human/` that
began by a take-over. What a person did in the last `UNSURE_S` before leaving the road is left out: nobody should learn
that. Of the policy's driving everything is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeMeta
from agents.recordings.writer import EpisodeRecording, EpisodeWriter

HUMAN, POLICY = "human", "policy"
"""Who drives, and the data sets below the directory."""
UNSURE_S = 2.0
"""Time before a person leaves the road that is not kept, s."""
LEAST_FRAMES = 10
"""Shorter stretches are not kept: nothing is trained on half a second."""

_Step = tuple[NDArray[np.uint8], float, float, dict[str, Any]]


class Keeper:
    """Writes stretches of driving as they are driven.

    Attributes:
        out: directory that holds the two data sets.
        frames: frames kept so far, by who drove.
        stretches: episodes kept so far, by who drove.
        interventions: episodes kept so far that began by a take-over.
    """

    def __init__(self, out: Path):
        self.out = out
        self.frames = {HUMAN: 0, POLICY: 0}
        self.stretches = {HUMAN: 0, POLICY: 0}
        self.interventions = 0
        self._writers: dict[str, EpisodeWriter] = {}
        self._episode: EpisodeRecording | None = None
        self._who, self._cause = HUMAN, "start"
        self._waiting: deque[_Step] = deque()
        self._delay = 0

    @property
    def is_open(self) -> bool:
        """Whether a stretch is being kept."""
        return self._episode is not None

    @property
    def pending(self) -> int:
        """Frames of the stretch that is being kept."""
        return 0 if self._episode is None else len(self._episode) + len(self._waiting)

    def begin(self, who: str, cause: str, meta: EpisodeMeta, extra: Mapping[str, Any] | None = None) -> None:
        """Begin a stretch; the one before, if there is one, is completed.

        Args:
            who: HUMAN or POLICY.
            cause: why it begins: "start", "take-over", "hand-over", "change".
            meta: of the episode.
            extra: goes into its `extra`, with `driver` and `began_by`.

        Raises:
            OSError: if nothing can be written.
        """
        self.cut()
        if who not in self._writers:
            self._writers[who] = EpisodeWriter(self.out / who)
        self._who, self._cause = who, cause
        extra = {**(extra or {}), "driver": who, "began_by": cause}
        self._episode = self._writers[who].episode(replace(meta, extra=extra))
        self._delay = round(UNSURE_S / meta.nominal_period_s) if who == HUMAN else 0

    def add(self, frame: NDArray[np.uint8], steering: float, time_s: float, **extras: Any) -> None:
        """Keep one step; see `EpisodeRecording.append`.

        Raises:
            OSError: if it cannot be written; the stretch is given up.
        """
        if self._episode is None:
            raise ValueError("nothing is being kept: call begin first.")
        self._waiting.append((frame, steering, time_s, extras))
        if len(self._waiting) > self._delay:
            self._write()

    def cut(self, crashed: bool = False) -> Path | None:
        """Complete the stretch.

        Args:
            crashed: whether it ended off the road.

        Returns:
            The directory of the episode; None where there was nothing to keep.

        Raises:
            OSError: if it cannot be written; the stretch is given up.
        """
        if self._episode is None:
            return None
        episode = self._episode
        try:
            if crashed and self._who == HUMAN:
                self._waiting.clear()
            while self._waiting:
                self._write()
            if len(episode) < LEAST_FRAMES:
                self.drop()
                return None
            episode.meta = replace(episode.meta, extra={**episode.meta.extra, "crashed": crashed})
            kept = len(episode)
            path = episode.finish()
        except BaseException:
            self.drop()
            raise
        self._episode = None
        self.frames[self._who] += kept
        self.stretches[self._who] += 1
        self.interventions += self._cause == "take-over"
        return path

    def drop(self) -> None:
        """Give the stretch up."""
        self._waiting.clear()
        if self._episode is not None:
            self._episode.abort()
        self._episode = None

    def _write(self) -> None:
        assert self._episode is not None
        frame, steering, time_s, extras = self._waiting.popleft()
        self._episode.append(frame, steering, time_s, **extras)
