"""A short run of the fuzzer over the readers; `make fuzz` runs a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.fuzz_recordings import FORMATS, examine, run

CASES = 40
"""Of each format."""


@pytest.mark.parametrize("name", FORMATS)
def test_damage_ends_in_a_count_or_one_line(tmp_path: Path, name: str):
    if name in ("lerobot", "minari", "parquet"):
        pytest.importorskip("pyarrow")
        pytest.importorskip("h5py")
    assert list(run([name], CASES, 0, tmp_path)) == []


def test_the_fuzzer_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(error: Exception):
        def load(path: Path) -> None:
            raise error

        return load

    for error, said in (
        (KeyError("x"), "KeyError"),
        (ValueError(f"{tmp_path} a\nb"), "several lines"),
        (ValueError("something"), "names no file"),
        (ValueError(f"{tmp_path} \ud800"), "cannot be printed"),
        (ValueError(f"{tmp_path} is damaged"), None),
    ):
        monkeypatch.setattr("tests.reliability.fuzz_recordings.load_episodes", broken(error))
        fault = examine(tmp_path, tmp_path)
        assert (fault is None) == (said is None) and (said is None or said in (fault or ""))
