"""The directory of a robustness test: what is to be done, what is done, and the table of it all.

    plan.json         everything that the numbers depend on; another plan is refused
    cells/…/….json    one file for each finished job, written beside and moved into place
    results.parquet   one row for each drive
    recordings.parquet  one row for each block of recorded frames, with --data

A kill loses the jobs in flight and nothing else: the next start reads what is there and does the rest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.runs.directory import MARKER, is_leftover
from agents.runs.files import make_directory, replacing, write_json
from agents.runs.reading import DamagedFile, damaged, one_line, read_object
from experiments.console import plain
from experiments.robustness.jobs import JobResult, Row

if TYPE_CHECKING:
    import pandas as pd

EXTRA = "pip install -e '.[robustness]'"
"""How to get what writes the table."""

GROWING = ("policies", "perturbations")
"""What may be added to a test, or left out, when it is resumed: each job is one policy under one perturbation."""

CHANGING = ("code",)
"""What may be another when a test is resumed: jobs that it concerns are done again."""


class Store:
    """What is done of a plan."""

    def __init__(self, directory: Path, plan: Mapping[str, Any]):
        """Open a directory, or make it.

        Args:
            directory: of the test.
            plan: JSON values; everything that the numbers depend on.

        Raises:
            ValueError: if the directory holds another test.
            OSError: if it cannot be written.
        """
        self.directory = directory
        open_plan(directory, plan, GROWING, CHANGING)
        make_directory(directory / "cells")

    def finished(self, code: Mapping[str, str]) -> tuple[dict[str, JobResult], list[str]]:
        """Read the jobs that are done; one that cannot be read counts as not done.

        Args:
            code: what each job would be made by now, by its key; see `experiments.robustness.provenance`.

        Returns:
            The results by key, and the keys of those that were made by other code, or do not say by which.
        """
        found, stale = {}, []
        for key, now in code.items():
            try:
                content = read_object(self._path(key))
                rows = tuple(_checked_row(row) for row in content["rows"])
                result = JobResult(content["key"], rows, float(content["seconds"]), content.get("code", ""))
            except (OSError, ValueError, KeyError, TypeError, OverflowError):
                continue
            if result.key != key:
                continue
            if result.code == now:
                found[key] = result
            else:
                stale.append(key)
        return found, stale

    def save(self, result: JobResult) -> None:
        """Keep a finished job.

        Raises:
            WriteError: if it cannot be written.
        """
        path = self._path(result.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(result)) + "\n", encoding="utf-8")

    def _path(self, key: str) -> Path:
        return self.directory / "cells" / f"{key}.json"


def open_plan(
    directory: Path, plan: Mapping[str, Any], growing: Sequence[str] = (), changing: Sequence[str] = ()
) -> None:
    """Write down in a directory what is to be done there, or check that it agrees with what was begun there.

    Args:
        directory: made when absent.
        plan: JSON values; everything that the numbers depend on.
        growing: keys of lists that may differ, because an entry has nothing to do with the others: what is new is
            added. Entries that are objects must not contradict one of the same driver and run.
        changing: keys of objects that may differ, because whoever uses what is there looks at it; new entries win.

    Raises:
        ValueError: if the directory holds something else, or another plan.
        OSError: if it cannot be written.
    """
    wanted, path = plain(dict(plan)), directory / "plan.json"
    if path.exists():
        there = _read_plan(path)
        with damaged(path, "give another --out"):
            old = {key: there.get(key, []) for key in growing}
            if wrong := [key for key, entries in old.items() if not isinstance(entries, list)]:
                raise ValueError(f"{wrong[0]} should be a list")
            known = {
                key: {(str(entry["driver"]), entry["run"]) for entry in old[key] if isinstance(entry, dict)}
                for key in growing
            }
            both: dict[str, Any] = {key: {**there.get(key, {}), **wanted.get(key, {})} for key in changing}
        both |= {key: _joined(directory, old[key], wanted[key], known[key]) for key in growing}
        _check_same(directory, {**there, **both}, {**wanted, **both})
        if {**there, **both} != there:
            write_json(path, {**wanted, **both})
        return
    if directory.is_dir() and any(entry.name != MARKER and not is_leftover(entry) for entry in directory.iterdir()):
        raise ValueError(f"{directory} holds something else, which is not written over: give another --out.")
    make_directory(directory)
    write_json(path, wanted)


def _joined(directory: Path, there: list[Any], wanted: list[Any], known: set[tuple[str, Any]]) -> list[Any]:
    """Return what is in either list, without repeating what is in both; `known` are driver and run of those there."""
    more = [entry for entry in wanted if entry not in there]
    for entry in more:
        if isinstance(entry, dict) and (entry["driver"], entry["run"]) in known:
            raise ValueError(
                f"{directory} was begun with another policy as run {entry['run']} of {entry['driver']}: give another "
                "--out, or other names."
            )
    return [*there, *more]


def check_extra() -> None:
    """Check before a long run that its tables can be made at the end.

    Raises:
        ValueError: if pandas or pyarrow is not installed.
    """
    try:
        import pandas  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"tables of results are made with pandas and pyarrow, and {error.name} is not installed: {EXTRA}"
        ) from None


def make_table(rows: Sequence[Mapping[str, Any]], kind: type[Any]) -> pd.DataFrame:
    """Make a data frame of rows, the fields of `kind` its columns, each of one type; what is missing is NaN.

    Args:
        rows: plain values, one for each field of `kind`.
        kind: what a row is.
    """
    import pandas as pd

    table = pd.DataFrame(list(rows), columns=[item.name for item in dataclasses.fields(kind)])
    types = {"str": "str", "int": "int64", "float": "float64", "bool": "bool"}
    types |= {"int | None": "Int64", "float | None": "float64"}
    return table.astype({item.name: types[str(item.type)] for item in dataclasses.fields(kind)})


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet in one piece."""
    with replacing(path) as partial:
        table.to_parquet(partial, engine="pyarrow", index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; a value that is missing is NaN."""
    import pandas as pd

    return pd.read_parquet(path)


def _checked_row(row: Any) -> dict[str, Any]:
    """Check that a saved row has the columns of a table, each of its type.

    Raises:
        ValueError: if it has not, as after damage or in a file of an earlier version.
    """
    for kind in filter(dataclasses.is_dataclass, _kinds(Row)):
        types = {item.name: str(item.type) for item in dataclasses.fields(kind)}
        if isinstance(row, dict) and row.keys() == types.keys():
            if all(_is(value, types[name]) for name, value in row.items()):
                return row
    raise ValueError("no row of a table")


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    """Yield the kinds of rows that there are."""
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


def _is(value: Any, kind: str) -> bool:
    """Whether a JSON value is of a field's type; a whole number may stand for any number, a truth value for none."""
    if value is None:
        return kind.endswith("| None")
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    wanted = kinds[kind.split(" ")[0]]
    return isinstance(value, wanted) and (kind == "bool" or not isinstance(value, bool))


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, DamagedFile) as error:
        raise ValueError(f"{one_line(error)} Else give another --out, or remove {path.parent}.") from None


def _check_same(directory: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare plans, and name the first thing that differs."""
    for key in [*wanted, *there]:
        if there.get(key) == wanted.get(key):
            continue
        old, new = _differing(there.get(key), wanted.get(key), key)
        raise ValueError(
            f"{directory} was begun with {old}, this command asks for {new}: give another --out, or the same options "
            "to resume."
        )


def _differing(old: Any, new: Any, name: str) -> tuple[str, str]:
    """Describe the first difference of two JSON values, in a few words each."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *old]:
            if old.get(key) != new.get(key):
                return _differing(old.get(key), new.get(key), f"{name}.{key}")
    if isinstance(old, list) and isinstance(new, list):
        if len(old) == len(new):
            for one, other in zip(old, new, strict=True):
                if one != other:
                    return _differing(one, other, name)
        return f"{len(old)} {name}" + _extra(old, new), f"{len(new)}" + _extra(new, old)
    return f"{name} {json.dumps(old)}", json.dumps(new)


def _extra(some: list[Any], others: list[Any]) -> str:
    """Name what only one of two lists has."""
    more = [entry for entry in some if entry not in others]
    if not more:
        return ""
    return f" (such as {more[0]})"
