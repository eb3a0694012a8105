"""Splits into training and held-out driving: by whole episodes or by blocks of time, never frame by frame.

Neighbouring frames are near copies: a random split would put copies of the training frames into the test. Side cameras,
whose labels are made up from those of the person, are for training alone: what is held out are centre frames.

    train, held_out = split_by_time_block(load_episodes(["tub"]), fraction=0.2, gap_s=2.0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from agents.recordings.episodes import Episode, EpisodeSet


def split_by_episode(episodes: EpisodeSet, fraction: float = 0.2, seed: int = 0) -> tuple[EpisodeSet, EpisodeSet]:
    """Hold out whole episodes, drawn by chance; what side cameras saw at the same time is on neither side.

    Args:
        episodes: At least two episodes.
        fraction: Share of the episodes to hold out, in (0, 1); at least one goes to each side.
        seed: Of the draw; the same seed gives the same split.

    Returns:
        The rest and the held-out episodes, each in recorded order.

    Raises:
        ValueError: if there are fewer than two episodes or the fraction is out of range.
    """
    centre = [number for number, episode in enumerate(episodes) if episode.is_centre]
    if len(centre) < 2:
        raise ValueError(f"at least 2 episodes are needed to hold one out, got {len(centre)}. Split by time block.")
    held = {centre[drawn] for drawn in _draw(len(centre), fraction, seed)}
    rest, out = _divide(episodes, [number in held for number in range(len(episodes))])
    apart = tuple(one for one in rest if one.is_centre or not any(_at_once(one, other) for other in out))
    return dataclasses.replace(rest, episodes=apart), out


def split_by_source(episodes: EpisodeSet, fraction: float = 0.2, seed: int = 0) -> tuple[EpisodeSet, EpisodeSet]:
    """Hold out all episodes of whole sources, such as the routes of comma2k19, drawn by chance.

    Args:
        episodes: Episodes of at least two sources.
        fraction: Share of the sources to hold out, in (0, 1); at least one goes to each side.
        seed: Of the draw; the same seed gives the same split.

    Returns:
        The rest and the held-out episodes, each in recorded order.

    Raises:
        ValueError: if there are fewer than two sources or the fraction is out of range.
    """
    sources = sorted({episode.meta.source for episode in episodes})
    if len(sources) < 2:
        raise ValueError(f"at least 2 sources are needed to hold one out, got {sources}. Split by time block.")
    held = {sources[number] for number in _draw(len(sources), fraction, seed)}
    rest, out = _divide(episodes, [episode.meta.source in held for episode in episodes])
    return rest, centre_of(out)


def split_by_time_block(
    episodes: EpisodeSet, fraction: float = 0.2, gap_s: float = 2.0
) -> tuple[EpisodeSet, EpisodeSet]:
    """Hold out the last block of time of every source, with a gap before it that belongs to neither side.

    Args:
        episodes: Any number of episodes of one or more sources.
        fraction: Share of each source's time line to hold out, in (0, 1).
        gap_s: Time left out before the block, seconds, >= 0, so that no near copy of a held-out frame is trained on.

    Returns:
        The rest and the held-out block.

    Raises:
        ValueError: if the fraction or the gap is out of range, or a side comes out empty.
    """
    _check_fraction(fraction)
    if not gap_s >= 0:
        raise ValueError(f"gap_s must be at least 0 seconds, got {gap_s}.")
    before: list[Episode] = []
    after: list[Episode] = []
    spans = _spans(episodes)
    for episode in episodes:
        low, high = spans[episode.meta.source]
        border_s = high - fraction * (high - low)
        line_s = episode.meta.start_s + (episode.time_s - episode.time_s[0])
        last = int(np.searchsorted(line_s, border_s - gap_s))
        first = int(np.searchsorted(line_s, border_s))
        if last > 0:
            before.append(episode.slice(0, last))
        if first < len(episode):
            after.append(episode.slice(first, len(episode)))
    if not before or not after:
        total_s = sum(high - low for low, high in spans.values())
        raise ValueError(
            f"{total_s:.1f} s of driving is too short to hold out {fraction:.0%} with a gap of {gap_s:g} s: "
            "shorten the gap or bring more data."
        )
    rest, held = (dataclasses.replace(episodes, episodes=tuple(part)) for part in (before, after))
    return rest, centre_of(held)


def cut_into_blocks(episodes: EpisodeSet, count: int, gap_s: float = 2.0) -> list[tuple[EpisodeSet, EpisodeSet]]:
    """Hold out each block of time in turn, so that every frame is tested on once by a driver that never saw it.

    Args:
        episodes: Any number of episodes of one or more sources.
        count: Blocks that each source's time line is cut into, at least 2.
        gap_s: Time left out of the rest on both sides of a block, seconds, >= 0.

    Returns:
        `count` pairs of the rest and the block.

    Raises:
        ValueError: if an argument is out of range, or a side of a pair comes out empty.
    """
    if count < 2:
        raise ValueError(f"at least 2 blocks are needed to hold one out, got {count}.")
    if not gap_s >= 0:
        raise ValueError(f"gap_s must be at least 0 seconds, got {gap_s}.")
    spans = _spans(episodes)
    pairs = []
    for number in range(count):
        rest: list[Episode] = []
        held: list[Episode] = []
        for episode in episodes:
            low, high = spans[episode.meta.source]
            line_s = episode.meta.start_s + (episode.time_s - episode.time_s[0])
            begin_s, end_s = (low + (high - low) * k / count for k in (number, number + 1))
            first, last = (int(np.searchsorted(line_s, at)) for at in (begin_s, end_s))
            # The time line ends one period behind its last frame, so the last block holds that frame too.
            before = int(np.searchsorted(line_s, begin_s - gap_s)) if number > 0 else 0
            after = int(np.searchsorted(line_s, end_s + gap_s)) if number < count - 1 else len(episode)
            rest += [episode.slice(*part) for part in ((0, before), (after, len(episode))) if part[0] < part[1]]
            if first < last:
                held.append(episode.slice(first, last))
        if not rest or not held:
            total_s = sum(high - low for low, high in spans.values())
            raise ValueError(
                f"{total_s:.1f} s of driving is too short for {count} blocks with a gap of {gap_s:g} s: make fewer "
                "blocks, shorten the gap, or bring more data."
            )
        left, block = (dataclasses.replace(episodes, episodes=tuple(part)) for part in (rest, held))
        pairs.append((left, centre_of(block)))
    return pairs


def centre_of(episodes: EpisodeSet) -> EpisodeSet:
    """Return the episodes that may be tested on: those whose labels are those of the person.

    Raises:
        ValueError: if there is none.
    """
    kept = episodes.centre
    if len(kept) == 0 and len(episodes) > 0:
        raise ValueError(
            "no frame of the centre camera is left to test on, and the labels of side cameras are made up: hold out "
            "more, or give a recording of the centre camera."
        )
    return kept


def _at_once(one: Episode, other: Episode) -> bool:
    """Whether two episodes are of the same time of one source, such as two cameras of a drive."""
    begin_s = max(one.meta.start_s, other.meta.start_s)
    end_s = min(one.meta.start_s + one.duration_s, other.meta.start_s + other.duration_s)
    return one.meta.source == other.meta.source and begin_s < end_s


def _spans(episodes: EpisodeSet) -> dict[str, tuple[float, float]]:
    """Return where each source's time line begins and ends, seconds."""
    spans: dict[str, tuple[float, float]] = {}
    for episode in episodes:
        low, high = spans.get(episode.meta.source, (np.inf, -np.inf))
        begin = episode.meta.start_s
        spans[episode.meta.source] = (min(low, begin), max(high, begin + episode.duration_s))
    return spans


def _draw(count: int, fraction: float, seed: int) -> set[int]:
    """Draw the numbers of what is held out."""
    _check_fraction(fraction)
    held = min(max(round(count * fraction), 1), count - 1)
    return set(np.random.default_rng(seed).permutation(count)[:held].tolist())


def _divide(episodes: EpisodeSet, held: Sequence[bool]) -> tuple[EpisodeSet, EpisodeSet]:
    """Divide into the rest and what is held out."""
    rest, out = (
        tuple(episode for episode, is_held in zip(episodes, held, strict=True) if is_held == side)
        for side in (False, True)
    )
    return dataclasses.replace(episodes, episodes=rest), dataclasses.replace(episodes, episodes=out)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
