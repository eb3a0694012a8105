"""The time line of a set that keeps its episodes apart: one behind the other, side cameras beside the centre's.

line = Line()
start_s = line.begin(meta)  # as it was written with the episode
line.end(meta, start_s, start_s + episode.duration_s)
"""

from __future__ import annotations

from agents.recordings.episodes import EpisodeMeta, is_centre

_SLACK_S = 1e-6


class Line:
    """Where the episodes of a set begin, in the order in which they are read."""

    def __init__(self) -> None:
        self._end_s = 0.0
        self._centre: dict[str, list[tuple[float, float]]] = {}

    def begin(self, written: EpisodeMeta | None = None) -> float:
        """Return where an episode begins: behind the one before, but a side camera where the centre's frames are.

        Args:
            written: With the episode, on the time line of what it was recorded by; None where nothing was.
        """
        if written is None or is_centre(written):
            return self._end_s
        known = self._centre.get(written.source, [])
        before = [one for one in known if one[0] <= written.start_s + _SLACK_S] or known[:1]
        if not before:
            return self._end_s
        there_s, here_s = before[-1]
        return max(0.0, here_s + written.start_s - there_s)

    def end(self, written: EpisodeMeta | None, begin_s: float, end_s: float) -> None:
        """Note where an episode stands."""
        self._end_s = max(self._end_s, end_s)
        if written is not None and is_centre(written):
            self._centre.setdefault(written.source, []).append((written.start_s, begin_s))
