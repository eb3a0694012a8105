"""One page that shows what a demonstration found: `report.html`, whole in itself.

Figures are inline SVG, pictures and the film lie in the page, so it can be mailed or opened from a disk without a
network. It follows the reader's light or dark setting and fits a phone.

    write_report("runs/demo/report.html", results, Material(film=Path("runs/demo/drive.mp4")))
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from agents.runs.files import write_text
from experiments.console import duration
from experiments.demo.results import OFFSET_EDGES, Results, Road
from experiments.reports import plots
from experiments.reports.page import render
from policies.wiring.wiring import Wiring

VEHICLES = {"bullet": "MIT racecar, PyBullet physics", "bicycle": "kinematic bicycle"}
"""What a page calls them."""


@dataclass(frozen=True)
class Material:
    """What a report shows besides figures.

    Attributes:
        film: MP4 of a drive; None leaves it out.
        poster: picture of the film, uint8 `[H, W, 3]`.
        looks: frames from the recording, uint8 `[H, W, 3]`.
        noisy: for each variance, the same frame under noise, and with what the driver looks at.
        wiring: the circuit; None for other cores.
    """

    film: Path | None = None
    poster: NDArray[np.uint8] | None = None
    looks: Sequence[NDArray[np.uint8]] = ()
    noisy: Sequence[tuple[float, NDArray[np.uint8], NDArray[np.uint8]]] = ()
    wiring: Wiring | None = None


def write_report(path: str | Path, results: Results, material: Material | None = None) -> None:
    """Write a report in one piece.

    Args:
        path: the HTML file.
        results: what was found.
        material: film, pictures and wiring.

    Raises:
        WriteError: if the file cannot be written; an older one is still there then.
    """
    material = material or Material()
    clean = results.clean
    content = render(
        "demo/templates/report.html",
        results=results,
        material=material,
        directory=Path(path).parent,
        duration=duration,
        noise_svg=_noise(results),
        offset_svg=_offsets(results),
        learning_svg=_learning(results),
        wiring_svg=_circuit(material.wiring),
        roads=[(road, _map(road), film_command(results, road)) for road in clean.roads],
        lane_width=_range([road.lane_width_m for road in clean.roads]),
        seconds=[(name, duration(value)) for name, value in results.seconds.items()],
        origin=[
            ("started", results.started),
            ("vehicle", VEHICLES.get(results.vehicle, results.vehicle)),
            *results.machine.items(),
            *results.versions.items(),
        ],
    )
    write_text(path, content)


def film_command(results: Results, road: Road) -> str:
    """Return the command that films the drive on a road; "" where the options that it needs are not known."""
    known = results.options
    if not {"out", "variety"} <= known.keys():
        return ""
    words = ["wormwheel", "render", "--policy", str(Path(known["out"]) / "policy"), "--seed", str(road.seed)]
    words += ["--seconds", str(math.ceil(road.duration_s + 1)), "--vehicle", results.vehicle]
    words += ["--variety", f"{known['variety']:g}", "--out", f"road-{road.seed}.mp4"]
    return shlex.join(words)


def _noise(results: Results) -> Markup:
    if len(results.levels) < 2:
        return Markup("")
    drawn = plots.noise_figure({level.variance: level.figures for level in results.levels})
    about = "Crashes per kilometre and mean lateral offset against the variance of the noise"
    return Markup(plots.as_svg(drawn, "noise", about))


def _offsets(results: Results) -> Markup:
    levels = results.levels[:4]
    names = {"clean" if level.variance == 0 else f"noise {level.variance:g}": level.offsets for level in levels}
    drawn = plots.offset_figure(names, OFFSET_EDGES)
    return Markup(plots.as_svg(drawn, "offset", "How often the car was how far from the middle of its lane"))


def _learning(results: Results) -> Markup:
    if not results.history:
        return Markup("")
    drawn = plots.learning_figure(results.history)
    return Markup(plots.as_svg(drawn, "learning", "Steering error on training and validation frames by epoch"))


def _circuit(wiring: Wiring | None) -> Markup:
    if wiring is None:
        return Markup("")
    return Markup(plots.as_svg(plots.wiring_figure(wiring), "wiring", f"The circuit of {wiring.units} neurons"))


def _map(road: Road) -> dict[str, Any]:
    """Return a road and the way along it as coordinates of an SVG in metres."""
    outline, trail = np.array(road.outline), np.array(road.trail)
    low, high = outline.min(0), outline.max(0)
    margin = 2 * road.lane_width_m
    width, height = (high - low) + 2 * margin

    def path(points: NDArray[np.floating]) -> str:
        return " ".join(f"{x - low[0] + margin:.2f},{high[1] - y + margin:.2f}" for x, y in points)

    thin = max(width / 64, height / 44) * 1.4
    return {
        "width": f"{width:.2f}",
        "height": f"{height:.2f}",
        "outline": path(outline),
        "trail": path(trail),
        "end": path(trail[-1:]).split(","),
        "thin": f"{thin:.2f}",
        "wide": f"{max(2 * road.lane_width_m, 2.2 * thin):.2f}",
        "radius": f"{2.2 * thin:.2f}",
    }


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
