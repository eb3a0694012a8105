"""`wormwheel data info PATH`: format, episodes, frames, hours, clock, steering, and what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from agents.recordings.doctor.labels import steering_facts
from agents.recordings.doctor.timing import clock_facts
from agents.recordings.options import ReadOptions
from experiments.console import check_json, duration, table, write_results
from experiments.data.reading import format_of, load, shown

MOST_EPISODES = 30
"""Episodes that are listed one by one."""
BARS = " ▁▂▃▄▅▆▇█"
"""Heights of the histogram's bars."""


@dataclass(frozen=True)
class InfoOptions:
    """Show what a recording holds."""

    path: Positional[Path]
    """The recording: a data set, a tub, a log, a table, a video with --table, ..."""
    reading: Annotated[ReadOptions, arg(name="")] = ReadOptions()
    """How it is read."""
    json: Path | None = None
    """File for what is shown, as JSON."""


def run(options: InfoOptions) -> None:
    """Show it."""
    check_json(options.json)
    episodes = load(options.path, options.reading)
    clock, steering = clock_facts(episodes), steering_facts(episodes)
    driven_s = (episodes.centre if len(episodes.centre) else episodes).duration_s
    sizes = sorted({f"{e.meta.width}×{e.meta.height}" if e.meta.width else "no pictures" for e in episodes})
    facts: dict[str, Any] = {
        "format": format_of(options.path) if options.reading.table is None else "table",
        "episodes": len(episodes),
        "frames": episodes.frame_count,
        "of driving": f"{duration(driven_s)} ({driven_s / 3600:.3f} h)",
        "frame size": " and ".join(sizes),
        "nominal period": f"{1000 * episodes[0].meta.nominal_period_s:.4g} ms",
    }
    if clock:
        low, high = clock["from_5_to_95_percent_s"]
        facts["rate"] = (
            f"{clock['rate_hz']:.3g} frames/s; 90 % of the steps take {1000 * low:.3g} to {1000 * high:.3g} ms"
        )
        facts["gaps"] = (
            f"{clock['cuts']} cuts between episodes, {clock['frames_missing']} frames missing within, "
            f"longest step {1000 * clock['longest_s']:.4g} ms"
        )
    facts |= {
        "steering, mean and spread": f"{steering['mean']:+.3f} ± {steering['spread']:.3f} of full lock, positive left",
        "steers left, straight, right": f"{steering['left']:.0%}, {steering['straight']:.0%}, {steering['right']:.0%}",
        "steering from right to left": histogram(steering["histogram"]),
        "more columns": ", ".join(episodes[0].extras) or "none",
        "left out": f"{sum(episodes.skipped.values()):,} records" if episodes.skipped else "nothing",
        **{f"  {reason}": count for reason, count in episodes.skipped.items()},
    }
    table(str(options.path), ["", ""], [[key, shown(value)] for key, value in facts.items()], left=2)
    rows = [
        [str(i), f"{len(e):,}", f"{e.meta.start_s:.1f}", duration(e.duration_s), e.meta.extra.get("camera", "")]
        for i, e in enumerate(episodes)
    ]
    if len(rows) > 1:
        more = f"; the first {MOST_EPISODES} of {len(rows):,}" if len(rows) > MOST_EPISODES else ""
        table(f"episodes{more}", ["number", "frames", "from, s", "lasts", "camera"], rows[:MOST_EPISODES], left=0)
    figures = {
        "path": str(options.path),
        **facts,
        "clock": clock,
        "steering": steering,
        "skipped": dict(episodes.skipped),
    }
    figures |= {"warnings": episodes.warnings}
    write_results(options.json, "data info", options, figures)


def histogram(counts: list[int]) -> str:
    """Draw counts as bars of text."""
    most = max(max(counts), 1)
    return "".join(BARS[0 if count == 0 else 1 + round((len(BARS) - 2) * count / most)] for count in counts)
