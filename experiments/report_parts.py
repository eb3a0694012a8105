"""Small pieces that reports are made of: cards, cells of sortable tables, figures with their intervals.

Everything returns HTML; what it is given is escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from agents.metrics import Estimate


def card(value: str, words: str, kind: str = "") -> str:
    """Return a figure in large letters with words below; `kind` is "good", "bad" or nothing."""
    return f'<div class="card {kind}"><b>{html.escape(value)}</b><span>{html.escape(words)}</span></div>'


def cell(words: str, value: float | str, kind: str = "") -> str:
    """Return a cell of a sortable table: what it shows, and the number or word that it is sorted by; NaN comes last."""
    extra = f' class="{kind}"' if kind else ""
    key = "" if value != value else html.escape(str(value), quote=True)
    return f'<td{extra} data-value="{key}">{html.escape(words)}</td>'


def estimate_cell(estimate: Estimate, scale: float = 1.0, digits: int = 2, kind: str = "") -> str:
    """Return a cell with a figure and its interval; NaN comes last when the table is sorted."""
    extra = f' class="{kind}"' if kind else ""
    interval = html.escape(interval_text(estimate, scale, digits))
    value = estimate.value if np.isfinite(estimate.value) else ""
    number = html.escape(number_text(estimate, scale, digits))
    return f'<td{extra} data-value="{value}">{number} <small>{interval}</small></td>'


def head_cells(columns: Sequence[tuple[str, str]]) -> str:
    """Return the headings of a sortable table, each with its class."""
    return "".join(
        f'<th scope="col"{f" class={kind!r}" if kind else ""}><button type="button">{html.escape(name)}</button></th>'
        for name, kind in columns
    )


def sortable(heads: str, rows: str, kind: str = "") -> str:
    """Return a table in a box that scrolls by itself, made of `head_cells` and of rows; `kind` is one more class."""
    table = f'<table class="{kind} sortable">' if kind else '<table class="sortable">'
    return f'<div class="box">{table}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def terms(rows: Sequence[tuple[str, str]]) -> str:
    """Return the inside of a list of terms and what they are."""
    return "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows)


def number_text(estimate: Estimate, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    """Write a figure; a dash where it is not finite."""
    return f"{shorten(estimate.value * scale, digits)}{unit}" if np.isfinite(estimate.value) else "–"


def interval_text(estimate: Estimate, scale: float = 1.0, digits: int = 2) -> str:
    """Write the interval of a figure; nothing where it is not finite."""
    if not (np.isfinite(estimate.low) and np.isfinite(estimate.high)):
        return ""
    return f"[{shorten(estimate.low * scale, digits)}, {shorten(estimate.high * scale, digits)}]"


def shorten(value: float, digits: int) -> str:
    """Write a number with at most `digits` decimals, fewer where it is large."""
    return f"{value:.{min(digits, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else digits)}f}"
