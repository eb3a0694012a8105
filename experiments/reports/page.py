"""The frame of a report: style sheet, script and the page around the sections. No network, no framework.

Small pieces that reports are made of: cards, cells of sortable tables, figures with their intervals.

Everything returns HTML; what it is given is escaped here.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.driving.metrics import Estimate

EMBED_BYTES = 8_000_000
"""Films up to this size become part of the page; larger ones are linked and must stay beside it."""

STYLE = """
:root { color-scheme: light dark; --text:#1d2430; --muted:#5c6778; --grid:#dfe4ec; --surface:#ffffff; --page:#f3f5f9;
  --first:#c2570c; --second:#1f6fb2; --alarm:#c62828; --good:#1d7a3e; --road:#c3cbd8;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
@media (prefers-color-scheme: dark) { :root { --text:#e8eef7; --muted:#97a3b6; --grid:#2c3546; --surface:#161c28;
  --page:#0d111a; --first:#ffb74d; --second:#5cbfff; --alarm:#ff635c; --good:#5fd38a; --road:#3b465b; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--page); color:var(--text); font:16px/1.55 var(--font); overflow-wrap:break-word; }
main { max-width:1080px; margin:0 auto; padding:28px 20px 64px; }
header { margin-bottom:20px; }
h1 { font-size:1.05rem; letter-spacing:.04em; text-transform:uppercase; color:var(--muted); margin:0 0 6px; }
.verdict { font-size:clamp(1.25rem, 3.4vw, 1.75rem); line-height:1.3; font-weight:650; margin:0; text-wrap:balance; }
h2 { font-size:1.25rem; margin:40px 0 4px; }
h3 { font-size:1rem; margin:0 0 6px; }
p { margin:4px 0 12px; max-width:72ch; }
.muted, figcaption, small { color:var(--muted); }
figcaption, small { font-size:.85rem; }
.cards { display:grid; grid-template-columns:repeat(auto-fit, minmax(150px, 1fr)); gap:12px; margin:22px 0; }
.card, .box { background:var(--surface); border:1px solid var(--grid); border-radius:12px; padding:14px 16px;
  min-width:0; }
.box { overflow-x:auto; }
.card b { display:block; white-space:nowrap; font-size:1.4rem; line-height:1.2; font-variant-numeric:tabular-nums; }
.card span { display:block; font-size:.85rem; color:var(--muted); }
.card.good b { color:var(--good); } .card.bad b { color:var(--alarm); }
.pair { display:grid; align-items:start; gap:16px;
  grid-template-columns:repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.box svg, .box img, video { display:block; width:100%; height:auto; }
video { border-radius:12px; background:#0d111a; }
.gallery { display:grid; grid-template-columns:repeat(auto-fit, minmax(150px, 1fr)); gap:10px; }
.gallery.small { grid-template-columns:repeat(auto-fit, minmax(105px, 1fr)); }
.gallery figure { margin:0; } .gallery img { width:100%; border-radius:8px; display:block; }
figure { margin:0; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; font-size:.92rem; }
th, td { padding:6px 8px; text-align:right; border-bottom:1px solid var(--grid); }
th:first-child, td:first-child { text-align:left; }
th button { all:unset; cursor:pointer; font-weight:650; color:var(--text); }
th button:focus-visible { outline:2px solid var(--second); outline-offset:2px; border-radius:3px; }
th[aria-sort=ascending] button::after { content:" ↑"; } th[aria-sort=descending] button::after { content:" ↓"; }
.box td svg { width:64px; height:44px; display:block; }
td small { display:block; white-space:nowrap; }
.apart { margin-top:16px; }
.outline { fill:none; stroke:var(--road); stroke-linejoin:round; }
.trail { fill:none; stroke:var(--first); stroke-linejoin:round; }
.hit { fill:var(--alarm); }
.tag { display:inline-block; border-radius:99px; padding:0 9px; font-size:.8rem; border:1px solid currentColor; }
.tag.good { color:var(--good); } .tag.bad { color:var(--alarm); }
pre, code { font-family:var(--mono); font-size:.85rem; }
pre { white-space:pre-wrap; background:var(--page); border:1px solid var(--grid); border-radius:8px; padding:10px 12px;
  margin:8px 0; overflow-wrap:anywhere; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:2px 18px; margin:0; font-size:.92rem; }
dt { color:var(--muted); } dd { margin:0; overflow-wrap:anywhere; }
summary { cursor:pointer; font-weight:600; }
a { color:var(--second); }
@media (max-width:640px) { main { padding:18px 14px 48px; } .wide { display:none; } th, td { padding:6px 4px; }
  .card { padding:10px 12px; } .card b { font-size:1.3rem; } .cards { grid-template-columns:1fr 1fr; gap:10px; }
  .box { padding:12px; } .gallery, .gallery.small { grid-template-columns:1fr 1fr; } }
"""

SCRIPT = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    var button = head.querySelector("button");
    if (!button) { return; }
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var rows = Array.prototype.slice.call(table.tBodies[0].rows);
      rows.sort(function (a, b) {
        var p = a.cells[column].dataset.value, q = b.cells[column].dataset.value, x = Number(p), y = Number(q);
        if (!p || !q) { return !p - !q; }  // what has no value comes last
        if (x !== x || y !== y) { return up ? p.localeCompare(q) : q.localeCompare(p); }
        return up ? x - y : y - x;
      });
      rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
    });
  });
});
"""


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: of the window; escaped here.
        body: HTML of what it shows, escaped already.
        style: more CSS, after the common one.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def picture(frame: NDArray[np.uint8], description: str, scale: int = 1, quality: int = 88) -> str:
    """Return a frame uint8 `[H, W, 3]` RGB as an `img` with its bytes inside, enlarged by a whole factor."""
    if scale > 1:
        size = (frame.shape[1] * scale, frame.shape[0] * scale)
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    done, content = cv2.imencode(".webp", frame[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"a frame of {frame.shape[0]}×{frame.shape[1]} pixels could not be encoded.")
    code = base64.b64encode(content.tobytes()).decode()
    height, width = frame.shape[:2]
    words = html.escape(description, quote=True)
    return f'<img src="data:image/webp;base64,{code}" alt="{words}" width="{width}" height="{height}">'


def film(path: Path, page_directory: Path, poster: NDArray[np.uint8] | None = None) -> str:
    """Return a `video`, its bytes inside up to `EMBED_BYTES`, else a link to the file beside the page.

    Args:
        path: MP4 file.
        page_directory: where the page goes.
        poster: picture to show before it plays.
    """
    still = ""
    if poster is not None:
        done, content = cv2.imencode(".jpg", poster[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        if done:
            still = f' poster="data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"'
    if path.stat().st_size <= EMBED_BYTES:
        source = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    else:
        inside = path.parent.resolve() == page_directory.resolve()
        source = html.escape(path.name if inside else path.resolve().as_uri(), quote=True)
    return f'<video controls muted playsinline loop preload="metadata"{still} src="{source}"></video>'


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
