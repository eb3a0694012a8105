"""Batches for learning: windows cut from episodes, or parallel streams that walk through whole episodes.

`Windows` draws short stretches in a new order each epoch; each begins with a fresh state, so its first `burn_in` steps
only warm the circuit up and do not count. `Streams` walks B episodes side by side, each batch going on where the row
left off, so that state is carried from batch to batch (truncated back-propagation through time).

    for batch in Windows(episodes, length=16, burn_in=4, batch_size=32, seed=0):   # one epoch
        steering, _ = policy(batch.frames, elapsed=batch.elapsed, starts=batch.starts)

Both read from disk in a background thread a few batches ahead, change what was read there if asked to (augmentation),
and hold no more than these batches: memory does not grow with the data. Both can stop anywhere and resume:
`state_dict()` after a batch, `load_state_dict()` before the next.

Reading ahead in a background thread, with a bounded queue, errors passed on and no thread left behind.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import EpisodeSet

Item = TypeVar("Item")

_POLL_S = 0.05


@contextmanager
def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Run an iterable in a thread, up to `depth` items ahead of whoever consumes it.

    Args:
        items: What to produce; only the thread touches it.
        depth: Items kept ready, at least 0; 0 makes no thread and produces on demand.

    Yields:
        An iterator over the items. An exception in the thread is raised at the item it belongs to. When the context is
        left, early or not, the thread ends before it returns.
    """
    if depth == 0:
        yield iter(items)
        return
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(last: bool, content: Item | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put((last, content), timeout=_POLL_S)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(False, item)
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            put(True, error)
        else:
            put(True, None)

    def consume() -> Iterator[Item]:
        while True:
            last, content = ready.get()
            if not last:
                yield content  # type: ignore[misc]
            elif content is not None:
                raise content  # type: ignore[misc]
            else:
                return

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Batch:
    """B sequences of T steps."""

    frames: NDArray[np.uint8]
    """`[B, T, H, W, 3]` RGB; zeros on padding."""
    steering: NDArray[np.float32]
    """`[B, T]` in [-1, 1], positive left; 0 on padding."""
    elapsed: NDArray[np.float32]
    """`[B, T]` nominal periods since the previous frame; 1 on padding."""
    starts: NDArray[np.bool_]
    """`[B, T]` True at the first step of an episode, where the state begins afresh."""
    valid: NDArray[np.bool_]
    """`[B, T]` False on padding and burn-in: these steps count in no loss."""
    episodes: NDArray[np.intp]
    """`[B]` number of the episode that a row begins with."""
    of: NDArray[np.intp]
    """`[B, T]` number of the episode that a step is of; 0 on padding."""


class _Piece(NamedTuple):
    """Steps `start` to `stop` of an episode, shown from `column` of a row on; only those from `counted` on count."""

    episode: int
    start: int
    stop: int
    column: int
    counted: int


class _Batches(ABC):
    """A resumable pass, read ahead, over batches that a subclass plans."""

    def __init__(
        self,
        episodes: EpisodeSet,
        length: int,
        batch_size: int,
        seed: int,
        prefetch: int,
        change: Callable[[Batch], Batch] | None,
    ) -> None:
        for name, value, least in (("length", length, 1), ("batch_size", batch_size, 1), ("prefetch", prefetch, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        self.episodes = episodes
        self.height, self.width = episodes.frame_size
        if self.height == 0:
            raise ValueError(f"{episodes[0].meta.source} has no pictures, only logs: a driver cannot learn from it.")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.prefetch = prefetch
        self.change = change
        self.epoch = 0
        self.position = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def _plan(self, epoch: int) -> Callable[[int], Sequence[Sequence[_Piece]]]:
        """Return the function from a batch's number in this epoch to the pieces of each of its rows."""

    def __iter__(self) -> Iterator[Batch]:
        """Go through the rest of the current epoch; the pass after that is the next epoch."""
        rows_of = self._plan(self.epoch)
        change = self.change or (lambda batch: batch)
        batches = (change(self._read(rows_of(number))) for number in range(self.position, len(self)))
        with read_ahead(batches, self.prefetch) as ready:
            for batch in ready:
                self.position += 1
                yield batch
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Return where the pass stands, as plain numbers to be kept beside a checkpoint."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resume from where `state_dict` was taken, over the same episodes and with the same sizes.

        Raises:
            ValueError: if the position lies beyond the end of an epoch of these episodes.
        """
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"position must lie within the {len(self)} batches of an epoch, got {state['position']}.")
        self.seed, self.epoch, self.position = int(state["seed"]), int(state["epoch"]), int(state["position"])

    def _read(self, rows: Sequence[Sequence[_Piece]]) -> Batch:
        """Read one batch from disk."""
        shape = (len(rows), self.length)
        batch = Batch(
            frames=np.zeros((*shape, self.height, self.width, 3), np.uint8),
            steering=np.zeros(shape, np.float32),
            elapsed=np.ones(shape, np.float32),
            starts=np.zeros(shape, bool),
            valid=np.zeros(shape, bool),
            episodes=np.array([pieces[0].episode if pieces else 0 for pieces in rows], np.intp),
            of=np.zeros(shape, np.intp),
        )
        for row, pieces in enumerate(rows):
            for index, start, stop, column, counted in pieces:
                episode = self.episodes[index]
                here = slice(column, column + stop - start)
                batch.frames[row, here] = episode.frames(start, stop)
                batch.steering[row, here] = episode.steering[start:stop]
                batch.elapsed[row, here] = episode.elapsed(start, stop)
                batch.starts[row, column] = start == 0
                batch.of[row, here] = index
                batch.valid[row, column + counted - start : here.stop] = True
        return batch


class Windows(_Batches):
    """Shuffled windows of fixed length, each to be run from a fresh state.

    With the default stride every step of every episode counts exactly once an epoch: a window that begins with its
    episode counts from its first step, any other after its burn-in, and the last one of an episode is moved back to end
    with it. Episodes shorter than a window are padded.

    Args:
        episodes: Pictures of one size.
        length: T, steps a window, burn-in included.
        burn_in: Steps at the head of a window that do not count, unless the episode begins there; in [0, T).
        stride: Steps from one window to the next; T − burn-in when None. Less makes windows overlap, more leaves steps
            out.
        batch_size: B; the last batch of an epoch may have fewer rows.
        seed: Of the order, together with the epoch.
        prefetch: Batches read ahead; 0 reads in the calling thread.
        change: Applied to each batch, in order, by the thread that reads it.

    Raises:
        ValueError: if an argument is out of range, or the episodes have no pictures or differ in their size.
    """

    def __init__(
        self,
        episodes: EpisodeSet,
        length: int,
        burn_in: int = 0,
        stride: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
        prefetch: int = 3,
        change: Callable[[Batch], Batch] | None = None,
    ) -> None:
        super().__init__(episodes, length, batch_size, seed, prefetch, change)
        if not 0 <= burn_in < length:
            raise ValueError(f"burn_in must lie in [0, length) = [0, {length}), got {burn_in}.")
        stride = length - burn_in if stride is None else stride
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}.")
        self.burn_in = burn_in
        self.stride = stride
        self.pieces = [
            piece for index, episode in enumerate(episodes) for piece in self._windows_of(index, len(episode))
        ]

    def __len__(self) -> int:
        return -(-len(self.pieces) // self.batch_size)

    def _windows_of(self, index: int, steps: int) -> Iterator[_Piece]:
        """Cut one episode."""
        covered = 0
        for start in range(0, steps, self.stride):
            counted = start + self.burn_in if start > 0 else 0
            if counted >= steps:
                break
            stop = start + self.length
            if stop <= steps or start == 0:
                yield _Piece(index, start, min(stop, steps), 0, counted)
                covered = min(stop, steps)
            elif covered < steps:
                moved = max(steps - self.length, 0)
                yield _Piece(index, moved, steps, 0, counted)
                break

    def _plan(self, epoch: int) -> Callable[[int], Sequence[Sequence[_Piece]]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pieces))

        def rows_of(number: int) -> Sequence[Sequence[_Piece]]:
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            return [[self.pieces[index]] for index in chosen]

        return rows_of


class Streams(_Batches):
    """B parallel rows that walk through whole episodes; carry the state from each batch to the next.

    Episodes are dealt to the rows in a new order each epoch, longest queue last. A row goes from one episode straight
    to the next, within a batch too, and `starts` marks the place. Rows that run out are padded. The first batch of an
    epoch starts every row, so state carried over from the epoch before does no harm.

    Args:
        episodes: Pictures of one size. With few or uneven episodes, `episodes.cut(n)` balances the rows.
        length: T, steps a batch.
        batch_size: B; fewer rows are made when there are fewer episodes.
        seed: Of the order, together with the epoch.
        shuffle: Deal in a new order each epoch; False keeps the recorded order, for validation.
        prefetch: Batches read ahead; 0 reads in the calling thread.
        change: Applied to each batch, in order, by the thread that reads it.

    Raises:
        ValueError: if an argument is out of range, or the episodes have no pictures or differ in their size.
    """

    def __init__(
        self,
        episodes: EpisodeSet,
        length: int,
        batch_size: int = 16,
        seed: int = 0,
        shuffle: bool = True,
        prefetch: int = 3,
        change: Callable[[Batch], Batch] | None = None,
    ) -> None:
        super().__init__(episodes, length, min(batch_size, max(len(episodes), 1)), seed, prefetch, change)
        self.shuffle = shuffle

    def __len__(self) -> int:
        longest = max(sum(len(self.episodes[index]) for index in queue) for queue in self._deal(self.epoch))
        return -(-longest // self.length)

    def _deal(self, epoch: int) -> list[list[int]]:
        """Give each episode to the row with least to do so far."""
        order = np.arange(len(self.episodes))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        queues: list[list[int]] = [[] for _ in range(self.batch_size)]
        load = np.zeros(self.batch_size, np.int64)
        for index in order:
            row = int(np.argmin(load))
            queues[row].append(int(index))
            load[row] += len(self.episodes[int(index)])
        return queues

    def _plan(self, epoch: int) -> Callable[[int], Sequence[Sequence[_Piece]]]:
        queues = self._deal(epoch)

        def rows_of(number: int) -> Sequence[Sequence[_Piece]]:
            begin, end = number * self.length, (number + 1) * self.length
            return [list(self._between(queue, begin, end)) for queue in queues]

        return rows_of

    def _between(self, queue: Sequence[int], begin: int, end: int) -> Iterator[_Piece]:
        """Yield what a row shows from step `begin` to step `end` of its queue."""
        at = 0
        for index in queue:
            steps = len(self.episodes[index])
            start, stop = max(begin - at, 0), min(end - at, steps)
            if start < stop:
                yield _Piece(index, start, stop, at + start - begin, start)
            at += steps
            if at >= end:
                return
