"""Reading ahead in a background thread, with a bounded queue, errors passed on and no thread left behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

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
