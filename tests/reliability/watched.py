"""Which test runs which lines and how long it takes, so that a break is tried first by those that run it."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.reliability.breaks import Break


class Watcher:
    """Plugin of pytest: notes for each test how long it took and which lines of some modules it ran."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = frozenset(files)
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, set[tuple[str, int]]] = {}
        self._now: set[tuple[str, int]] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace one test with its fixtures."""
        self._now = self.lines.setdefault(item.nodeid, set())
        begun_s = time.process_time()
        sys.settrace(self._called)
        threading.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.seconds[item.nodeid] = time.process_time() - begun_s

    def _called(self, frame: types.FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return self._stepped if frame.f_code.co_filename in self.files else None

    def _stepped(self, frame: types.FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "line":
            self._now.add((frame.f_code.co_filename, frame.f_lineno))
        return self._stepped

    def found(self) -> dict[str, Any]:
        """Return what was seen, as JSON can hold it."""
        return {name: [self.seconds.get(name, 0.0), sorted(lines)] for name, lines in self.lines.items()}


@dataclass(frozen=True)
class Watched:
    """What the tests of some modules took and ran."""

    seconds: dict[str, float]
    """By test."""
    lines: dict[str, frozenset[tuple[str, int]]]
    """By test: module and line."""

    @classmethod
    def of(cls, found: dict[str, Any]) -> Watched:
        """Make it from what a `Watcher` has found, modules named as in the tree."""
        lines = {name: frozenset((file, line) for file, line in ran) for name, (_, ran) in found.items()}
        return cls({name: seconds for name, (seconds, _) in found.items()}, lines)

    def order(self, made: Break) -> dict[str, int]:
        """Return the place of each test: those that run the line first, the quick ones of them before the slow."""
        reached = range(made.line, made.last_line + 1)

        def rank(name: str) -> tuple[bool, bool, float]:
            ran = self.lines[name]
            hits = any((made.path, line) in ran for line in reached)
            return not hits, not any(path == made.path for path, _ in ran), self.seconds[name]

        return {name: number for number, name in enumerate(sorted(self.lines, key=rank))}


class Order:
    """Plugin of pytest: runs tests in a given order, unknown ones last."""

    def __init__(self, places: dict[str, int]) -> None:
        self.places = places

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort."""
        items.sort(key=lambda item: self.places.get(item.nodeid, len(self.places)))
