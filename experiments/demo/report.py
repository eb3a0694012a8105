"""One page that shows what a demonstration found: `report.html`, whole in itself.

Figures are inline SVG, pictures and the film lie in the page, so it can be mailed or opened from a disk without a
network. It follows the reader's light or dark setting and fits a phone.

    write_report("runs/demo/report.html", results, Material(film=Path("runs/demo/drive.mp4")))
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.runs.files import write_text
from experiments.console import duration
from experiments.demo.results import OFFSET_EDGES, NoiseLevel, Results, Road
from experiments.reports import plots
from experiments.reports.page import (
    card,
    cell,
    estimate_cell,
    film,
    head_cells,
    interval_text,
    number_text,
    page,
    picture,
    terms,
)
from policies.wiring.wiring import Wiring


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
    directory = Path(path).parent
    sections = [
        _header(results),
        _cards(results),
        _film(material, directory),
        _noise(results, material),
        _roads(results),
        _learning(results, material),
        _inside(results, material),
        _origin(results),
    ]
    write_text(path, page("Wormwheel: what the demonstration found", "\n".join(filter(None, sections))))


def _header(results: Results) -> str:
    return f'<header><h1>Wormwheel demonstration</h1><p class="verdict">{html.escape(results.verdict())}</p></header>'


def _cards(results: Results) -> str:
    figures, level = results.clean.figures, results.clean
    crashes = figures["crashes_per_km"]
    # No crash in d km: a Poisson process of 3.0 / d crashes per km would show one with 95 % probability.
    most = 3.0 / max(level.distance_m / 1000, 1e-9)
    bound = interval_text(crashes) if level.crashes else f"(below {most:.1f} with 95 % confidence)"
    cards = [
        card(number_text(crashes), f"crashes per km {bound}", "good" if level.crashes == 0 else "bad"),
        card(
            number_text(figures["mean_offset_lane"], 100, 1, " %"),
            f"of the lane width off its middle {interval_text(figures['mean_offset_lane'], 100, 1)}"
            f"{_of_expert(results)}",
        ),
        card(number_text(figures["autonomy"], 100, 1, " %"), "of the time without intervention"),
        card(f"{level.distance_m / 1000:.2f} km", f"on {len(level.roads)} unseen roads"),
        card(str(results.neurons), f"neurons, {results.synapses} synapses, {results.parameters:,} parameters in all"),
        card(duration(sum(results.seconds.values())), "from nothing to this page"),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _of_expert(results: Results) -> str:
    if results.expert is None:
        return ""
    return f"; expert {number_text(results.expert.figures['mean_offset_lane'], 100, 1, ' %')}"


def _film(material: Material, directory: Path) -> str:
    if material.film is None:
        return ""
    return (
        "<h2>The drive</h2><p>Large: the road ahead. On the right: the map, the small picture that the driver gets "
        "with the places it looks at, and its neurons at work. Below: the wheel, the distance from the middle of the "
        f"lane, and the neurons' voltages over the last seconds.</p>{film(material.film, directory, material.poster)}"
    )


def _noise(results: Results, material: Material) -> str:
    levels = results.levels
    if len(levels) < 2:
        return ""
    figure = plots.as_svg(
        plots.noise_figure({level.variance: level.figures for level in levels}),
        "noise",
        "Crashes per kilometre and mean lateral offset against the variance of the noise",
    )
    rows = "".join(
        f"<tr>{cell(f'{level.variance:g}', level.variance)}{cell(str(level.crashes), level.crashes)}"
        f"{estimate_cell(level.figures['crashes_per_km'])}{estimate_cell(level.figures['mean_offset_lane'], 100, 1)}"
        f"{estimate_cell(level.figures['steering_rate_per_s'], 1, 2, 'wide')}</tr>"
        for level in levels
    )
    heads = head_cells(
        [
            ("variance", ""),
            ("crashes", ""),
            ("per km", ""),
            ("offset, % of lane", ""),
            ("steering, locks/s", "wide"),
        ]
    )
    shown = "".join(
        f"<figure>{picture(frame, f'frame under noise of variance {variance:g}', 2)}"
        f"{picture(seen, f'where the driver looks under noise of variance {variance:g}', 1)}"
        f"<figcaption>variance {variance:g}</figcaption></figure>"
        for variance, frame, seen in material.noisy
    )
    caption = "<figcaption>Above: what the driver gets. Below: where it looks.</figcaption>"
    gallery = f'<div class="box apart"><div class="gallery">{shown}</div>{caption}</div>' if shown else ""
    return (
        "<h2>Under noise</h2><p>The same roads and starts, with Gaussian noise on every pixel of what the driver sees "
        "(pixels in [0, 1], clipped again). Bands and brackets are 95 % bootstrap intervals over the roads.</p>"
        f'<div class="pair"><div class="box">{figure}</div><div class="box"><table class="sortable"><thead><tr>{heads}'
        f"</tr></thead><tbody>{rows}</tbody></table></div></div>{gallery}"
    )


def _roads(results: Results) -> str:
    levels = results.levels
    names = {"clean" if level.variance == 0 else f"noise {level.variance:g}": level.offsets for level in levels[:4]}
    figure = plots.as_svg(
        plots.offset_figure(names, OFFSET_EDGES), "offset", "How often the car was how far from the middle of its lane"
    )
    heads = head_cells(
        [
            ("road", ""),
            ("seed", "wide"),
            ("driven, m", ""),
            ("time, s", "wide"),
            ("mean offset", ""),
            ("worst", ""),
            ("lane, m", "wide"),
            ("outcome", ""),
        ]
    )
    rows = "".join(_road_row(number, road) for number, road in enumerate(results.clean.roads, start=1))
    return (
        "<h2>Road by road</h2><p>Clean frames. Offsets are from the middle of the right-hand lane, as shares of its "
        "width: beyond 50 % the car's middle has left the lane. A click on a heading sorts.</p>"
        f'<div class="box"><table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        "<h2>Where in the lane</h2><p>What lies further out than the figure is counted at its edges.</p>"
        f'<div class="pair"><div class="box">{figure}</div>'
        f"{_explain_offsets(results.clean)}</div>"
    )


def _explain_offsets(level: NoiseLevel) -> str:
    figures = level.figures
    rows = [
        ("mean absolute offset", f"{number_text(figures['mean_offset_m'], 100, 1, ' cm')}"),
        ("root mean square", f"{number_text(figures['rms_offset_m'], 100, 1, ' cm')}"),
        ("worst moment", f"{100 * max(road.worst_offset_lane for road in level.roads):.0f} % of the lane width"),
        ("lane width", f"{_range([road.lane_width_m for road in level.roads])} m"),
        ("steering", f"{number_text(figures['steering_rate_per_s'], 1, 2)} full locks per second"),
    ]
    return f'<div class="box"><h3>On clean frames</h3><dl>{terms(rows)}</dl></div>'


def _learning(results: Results, material: Material) -> str:
    body = ""
    if results.history:
        figure = plots.as_svg(
            plots.learning_figure(results.history),
            "learning",
            "Steering error on training and validation frames by epoch",
        )
        body = f'<div class="box">{figure}</div>'
    looks = "".join(f"<figure>{picture(frame, 'a frame of the recording', 2)}</figure>" for frame in material.looks)
    if looks:
        body += f'<div class="box"><h3>What it learnt from</h3><div class="gallery small">{looks}</div></div>'
    return (
        f"<h2>How it learnt</h2><p>A geometric driver that knows the true position drove {results.recorded_roads} "
        "roads, pushed off its line now and then; the circuit learnt its steering from "
        f"{results.recorded_frames:,} frames, never seeing more than the camera's picture. Frames for training are "
        "changed in light, colour and sharpness, so they are harder than those for validation.</p>"
        f'<div class="pair">{body}</div>'
    )


def _inside(results: Results, material: Material) -> str:
    if material.wiring is None:
        return ""
    wiring = material.wiring
    figure = plots.as_svg(plots.wiring_figure(wiring), "wiring", f"The circuit of {wiring.units} neurons")
    layers = ", ".join(f"{size} {html.escape(name)}" for name, size in reversed(wiring.layers))
    return (
        f"<h2>The circuit</h2><p>{wiring.inputs} features of the picture reach {layers} neurons over "
        f'{wiring.synapse_count} synapses. The motor neuron is the steering.</p><div class="box">{figure}</div>'
    )


def _origin(results: Results) -> str:
    seconds = [(name, duration(value)) for name, value in results.seconds.items()]
    origin = [
        ("started", results.started),
        ("vehicle", _vehicle(results)),
        *results.machine.items(),
        *results.versions.items(),
    ]
    options = "\n".join(f"{name} = {value}" for name, value in results.options.items())
    return (
        "<h2>How this was made</h2>"
        f'<div class="box"><pre>{html.escape(results.command)}</pre>'
        f'<div class="pair"><div><h3>Time</h3><dl>{terms(seconds)}</dl></div>'
        f"<div><h3>Machine and versions</h3><dl>{terms(origin)}</dl></div></div>"
        f"<details><summary>All options</summary><pre>{html.escape(options)}</pre></details></div>"
    )


def _road_row(number: int, road: Road) -> str:
    outcome = '<span class="tag bad">left the road</span>' if road.crashed else '<span class="tag good">kept</span>'
    return (
        f'<tr><td data-value="{number}">{_thumbnail(road)}</td>{cell(str(road.seed), road.seed, "wide")}'
        f"{cell(f'{road.distance_m:.0f}', road.distance_m)}{cell(f'{road.duration_s:.0f}', road.duration_s, 'wide')}"
        f"{cell(f'{100 * road.mean_offset_lane:.1f} %', road.mean_offset_lane)}"
        f"{cell(f'{100 * road.worst_offset_lane:.0f} %', road.worst_offset_lane)}"
        f"{cell(f'{road.lane_width_m:.2f}', road.lane_width_m, 'wide')}"
        f'<td data-value="{int(road.crashed)}">{outcome}</td></tr>'
    )


def _thumbnail(road: Road) -> str:
    """Draw a road and the way along it, as SVG in metres."""
    outline = np.array(road.outline)
    low, high = outline.min(0), outline.max(0)
    margin = 2 * road.lane_width_m
    width, height = (high - low) + 2 * margin

    def path(points: NDArray[np.floating]) -> str:
        return " ".join(f"{x - low[0] + margin:.2f},{high[1] - y + margin:.2f}" for x, y in points)

    trail = np.array(road.trail)
    thin = max(width / 64, height / 44) * 1.4
    wide = max(2 * road.lane_width_m, 2.2 * thin)
    end = path(trail[-1:]).split(",")
    hit = f'<circle class="hit" cx="{end[0]}" cy="{end[1]}" r="{2.2 * thin:.2f}"/>' if road.crashed else ""
    return (
        f'<svg viewBox="0 0 {width:.2f} {height:.2f}" role="img" aria-label="road {road.seed}">'
        f'<polygon class="outline" points="{path(outline)}" stroke-width="{wide:.2f}"/>'
        f'<polyline class="trail" points="{path(trail)}" stroke-width="{thin:.2f}"/>{hit}</svg>'
    )


def _vehicle(results: Results) -> str:
    names = {"bullet": "MIT racecar, PyBullet physics", "bicycle": "kinematic bicycle"}
    return names.get(results.vehicle, results.vehicle)


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
