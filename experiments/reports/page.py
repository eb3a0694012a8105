"""Pages that are whole in themselves: one frame, one style, templates beside the verbs. No network, no framework.

A verb keeps its page as `experiments/VERB/templates/NAME.html`, which extends `reports/templates/page.html` and takes
cards, tables and lists from `reports/templates/pieces.html`. What is put in is escaped by the templates.

    write_text(path, render("demo/templates/report.html", results=results))
"""

from __future__ import annotations

import base64
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from agents.driving.statistics import Estimate

EMBED_BYTES = 8_000_000
"""Films up to this size become part of the page; larger ones are linked and must stay beside it."""
_ROOT = Path(__file__).resolve().parents[1]
"""The package `experiments`: templates are named from here on."""


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: its file, from the folder `experiments` on; what goes into `.html` is escaped.
        **values: what it shows. A name that the template asks for and that is missing is an error.
    """
    return environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Make the environment of all templates; `pair` puts a value and others into a tuple, `finite` is a test."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ROOT),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(("html",)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {"number": number_text, "interval": interval_text, "pair": lambda *values: values}
    made.filters |= filters
    made.tests["finite"] = lambda value: value is not None and math.isfinite(value)
    made.globals |= {"film": film, "picture": picture}
    return made


def picture(frame: NDArray[np.uint8], description: str, scale: int = 1, quality: int = 88) -> Markup:
    """Return a frame uint8 `[H, W, 3]` RGB as an `img` with its bytes inside, enlarged by a whole factor."""
    if scale > 1:
        size = (frame.shape[1] * scale, frame.shape[0] * scale)
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    done, content = cv2.imencode(".webp", frame[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"a frame of {frame.shape[0]}×{frame.shape[1]} pixels could not be encoded.")
    return _piece("picture", _data("image/webp", content.tobytes()), description, *frame.shape[:2])


def film(path: Path, page_directory: Path, poster: NDArray[np.uint8] | None = None) -> Markup:
    """Return a `video`, its bytes inside up to `EMBED_BYTES`, else a link to the file beside the page.

    Args:
        path: MP4 file.
        page_directory: where the page goes.
        poster: picture to show before it plays.
    """
    still = ""
    if poster is not None:
        done, content = cv2.imencode(".jpg", poster[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        still = _data("image/jpeg", content.tobytes()) if done else ""
    if path.stat().st_size <= EMBED_BYTES:
        return _piece("film", _data("video/mp4", path.read_bytes()), still)
    inside = path.parent.resolve() == page_directory.resolve()
    return _piece("film", path.name if inside else path.resolve().as_uri(), still)


def number_text(estimate: Estimate, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
    """Write a figure; a dash where it is not finite."""
    return f"{shorten(estimate.value * scale, digits)}{unit}" if np.isfinite(estimate.value) else "–"


def interval_text(estimate: Estimate, scale: float = 1.0, digits: int = 2) -> str:
    """Write the interval of a figure, or the end that is known; nothing where there is none."""
    return estimate.interval(lambda end: shorten(end * scale, digits))


def shorten(value: float, digits: int) -> str:
    """Write a number with at most `digits` decimals, fewer where it is large."""
    return f"{value:.{min(digits, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else digits)}f}"


def _piece(name: str, *values: Any) -> Markup:
    """Fill a macro of the common pieces."""
    module = environment().get_template("reports/templates/pieces.html").module
    return Markup(str(getattr(module, name)(*values)))


def _data(kind: str, content: bytes) -> str:
    """Return bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
