"""A short run of the fuzzer over ways to write tables; `make fuzz` runs a long one."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.fuzz_tables import draw, examine, make_pictures, run


def test_tables_are_read_right_or_refused_in_one_line(tmp_path: Path):
    ends = [(end, said, case.told) for case, end, said in run(60, 0, tmp_path)]
    assert [end for end in ends if end[0] == "fault"] == []
    assert sum(end == "right" for end, _, _ in ends) > 40, "most tables say what they mean"


def test_the_fuzzer_sees_wrong_labels_and_wrong_clocks(tmp_path: Path):
    make_pictures(tmp_path)
    case = next(case for case in map(draw, range(100)) if examine(case, tmp_path)[0] == "right")
    case.labels = [-label for label in case.labels]
    assert examine(case, tmp_path)[1].startswith("labels")
    case.labels, case.period_s = [-label for label in case.labels], 0.2
    assert examine(case, tmp_path)[1].startswith("period")
