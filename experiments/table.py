"""`wormwheel table`: the tables of a finished robustness test, for a paper, a spreadsheet or a README.

    wormwheel table runs/robustness --latex > ranking.tex
    wormwheel table runs/robustness --csv --of conditions > conditions.csv

The figures are those of `summary.json`; a column ending in "low" or "high" is an end of a 95 % interval in CSV, and the
interval stands in brackets in LaTeX and Markdown.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from agents.runs.reading import damaged, one_line, read_object
from experiments.console import screen, table

Cell = str | int | float | tuple[float, float, float] | None
"""Words, a number, or a figure with the ends of its interval; None and NaN are nothing."""
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--", "×": "$\\times$"},
}


@dataclass(frozen=True, config={"extra": "forbid"})
class TableOptions:
    """Print a table of a finished robustness test as LaTeX, CSV or Markdown."""

    run: Positional[Path]
    """Directory of the test, or its `summary.json`."""
    of: Literal["ranking", "runs", "families", "conditions"] = "ranking"
    """"ranking" (a row for each driver), "runs" (each training run), "families" (mean lane error by family) or
    "conditions" (each disturbance at each severity)."""
    latex: bool = False
    """As LaTeX, with booktabs."""
    csv: bool = False
    """As CSV."""
    md: bool = False
    """As Markdown."""

    def __post_init__(self) -> None:
        """Check that one form was asked for."""
        if self.latex + self.csv + self.md > 1:
            raise ValueError("give one of --latex, --csv and --md.")


def run(options: TableOptions) -> None:
    """Print the table; as on the screen when no form was asked for."""
    columns, rows = read(options.run, options.of)
    if options.csv:
        text = to_csv(columns, rows)
    elif options.latex:
        text = to_latex(columns, rows)
    elif options.md:
        text = to_markdown(columns, rows)
    else:
        table(str(options.run), columns, [[_words(cell) for cell in row] for row in rows])
        return
    screen().out(text, end="", highlight=False)


def read(run: Path, of: str = "ranking") -> tuple[list[str], list[list[Cell]]]:
    """Read a table of a test.

    Args:
        run: directory of the test, or its summary.
        of: which table; see `TableOptions`.

    Returns:
        The columns' names and the rows.

    Raises:
        ValueError: if there is no such test, or it was one on recordings alone.
        OSError: if it cannot be read.
    """
    path = run / "summary.json" if run.is_dir() else run
    if not path.is_file():
        raise ValueError(f"{run} holds no summary.json: give the directory of a finished `wormwheel robustness`.")
    summary = read_object(path)
    form = one_line(summary.get("format", "JSON file without a format"))
    if form != "wormwheel-robustness-summary":
        raise ValueError(f"{path} is a {form}; tables are made of a robustness test on roads.")
    with damaged(path, "run the robustness test again, which makes it from what was driven"):
        findings = summary["findings"]
        made = {"runs": _runs, "families": _families, "conditions": _conditions, "ranking": _ranking}[of](findings)
        for form_it in (to_csv, to_latex, to_markdown):  # whatever is wrong with a cell is known before it is printed
            form_it(*made)
        return made


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write CSV: the ends of intervals are columns of their own, what is missing is empty."""
    with_ends = [any(isinstance(row[k], tuple) for row in rows) for k in range(len(columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = zip(columns, with_ends, strict=True)
    writer.writerow(
        [name for head, ends in heads for name in ((head, f"{head} low", f"{head} high") if ends else (head,))]
    )
    for row in rows:
        line: list[Any] = []
        for cell, ends in zip(row, with_ends, strict=True):
            values = cell if isinstance(cell, tuple) else (cell, None, None) if ends else (cell,)
            line += [
                "" if _missing(value) else f"{value:.6g}" if isinstance(value, float) else value for value in values
            ]
        writer.writerow(line)
    return out.getvalue()


def to_latex(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write a LaTeX tabular, which needs the package booktabs."""
    lines = [[_latex(name) for name in columns], *([_latex(_words(cell)) for cell in row] for row in rows)]
    head, *body = [" & ".join(line) + r" \\" for line in lines]
    begin = [rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*begin, *body, r"\bottomrule", r"\end{tabular}", ""])


def to_markdown(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write a Markdown table."""
    lines = [list(columns), ["---", *["---:"] * (len(columns) - 1)], *([_words(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in lines) + "\n"


def _ranking(findings: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    base = findings["baseline"]
    columns = ["driver", "training runs", "lane error, %", "mean, %", "clean, %", "off the road, %", "autonomy, %"]
    rows: list[list[Cell]] = [
        [
            one["name"],
            one["runs"],
            *(
                _estimate(one[name], 100)
                for name in ("error_iqm_runs", "error", "clean_error", "crash_share", "autonomy")
            ),
        ]
        for one in findings["drivers"]
    ]
    if len(rows) > 1:
        columns += [f"× {base}", "behind the first, points"]
        for row, one in zip(rows, findings["drivers"], strict=True):
            row += [_estimate(one["corruption_error"], 1), _estimate(one["behind"], 100)]
    return columns, rows


def _runs(findings: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    columns = ["driver", "run", "seed", "lane error, %", "clean, %", "off the road", "of", "clean off the road", "of"]
    rows: list[list[Cell]] = [
        [
            *(driver["name"], one["run"], one["training_seed"], _times(one["error_iqm"], 100)),
            *(_times(one["clean_error"], 100), one["crashes"], one["drives"]),
            *(one["clean_crashes"], one["clean_drives"]),
        ]
        for driver in findings["drivers"]
        for one in driver["each_run"]
    ]
    return columns, rows


def _families(findings: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    drivers = findings["drivers"]
    rows: list[list[Cell]] = []
    for family in dict.fromkeys(one["family"] for one in findings["conditions"]):
        members = [one["perturbation"] for one in findings["conditions"] if one["family"] == family]
        row: list[Cell] = [family]
        for driver in drivers:
            values = [driver["by_condition"][member]["error"]["value"] for member in members]
            known = [value for value in values if not _missing(value)]
            row.append(100 * sum(known) / len(known) if known else None)
        rows.append(row)
    return ["family", *(f"{driver['name']}, %" for driver in drivers)], rows


def _conditions(findings: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    columns = ["driver", "disturbance", "family", "severity", "lane error, %", "off the road", "of"]
    rows: list[list[Cell]] = []
    for driver in findings["drivers"]:
        clean = {"perturbation": "", "family": "clean", "severity": 0}
        for one in (clean, *findings["conditions"]):
            here = driver["by_condition"][one["perturbation"]]
            words = [driver["name"], one["perturbation"] or "clean", one["family"], one["severity"]]
            rows.append([*words, _estimate(here["error"], 100), here["crashes"], here["drives"]])
    return columns, rows


def _estimate(found: Mapping[str, Any], scale: float) -> Cell:
    value, low, high = (_times(found.get(name), scale) for name in ("value", "low", "high"))
    return None if value is None else (value, math.nan if low is None else low, math.nan if high is None else high)


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _words(cell: Cell) -> str:
    """Write a cell: two significant decimals at most, an interval in brackets, a dash for nothing."""
    if isinstance(cell, tuple):
        value, low, high = cell
        ends = "" if _missing(low) and _missing(high) else f" [{_words(low)}, {_words(high)}]"
        return _words(value) + ends
    if cell is None or _missing(cell):
        return "–"
    return (
        f"{cell:.2f}"
        if isinstance(cell, float) and abs(cell) < 10
        else f"{cell:.1f}"
        if isinstance(cell, float)
        else str(cell)
    )


def _latex(words: str) -> str:
    return "".join(_LATEX.get(character, character) for character in words)
