"""What the page is sent: itself, once, and a packet for each frame.

A packet is a 4-byte little-endian length, so many bytes of JSON, then the JPEG of the large picture and, where the
driver's own frame is another, its PNG; the JSON says how long each is.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from envs.perturbations import PERTURBATIONS
from experiments.drive.guard import NAMES
from experiments.drive.keeping import HUMAN, POLICY
from experiments.drive.session import DriveSession, Seen
from experiments.explain.page import HEIGHT, WIDTH, circuit_plan
from experiments.reports.page import render
from policies.policy import DrivingPolicy

JPEG_QUALITY = 85


def page(session: DriveSession, nonce: str) -> str:
    """Return the HTML.

    Args:
        session: whose world is shown.
        nonce: that its script and style carry.
    """
    menu = {
        family: [
            {
                "name": name,
                "unit": PERTURBATIONS[name].unit,
                "doses": [PERTURBATIONS[name](severity).dose_at(session.world.height) for severity in range(1, 6)],
                "later": PERTURBATIONS[name].changes_scenario,
            }
            for name in names
        ]
        for family, names in session.menu().items()
    }
    data = {
        "menu": menu,
        "severities": session.severities,
        "policy": session.name,
        "circuit": None if session.inside is None else _circuit(session.inside.driver.policy),
        "period_s": session.period_s,
        "variety": session.variety,
        "wanted": session.wanted_mps,
        "fastest": session.fastest_mps,
        "out": str(session.keeper.out),
    }
    # `<` cannot end the script that the data stand in.
    text = Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704
    return render(
        "drive/templates/drive.html",
        data=text,
        menu=menu,
        nonce=nonce,
        name=session.name,
        has_inside=session.inside is not None,
        out=str(session.keeper.out),
        width=WIDTH,
        height=HEIGHT,
        aspect=session.world.width / session.world.height,
    )


def headers(nonce: str, port: int) -> dict[str, str]:
    """Return the headers of the page: nothing from elsewhere, no frame around it, nothing kept."""
    sockets = " ".join(f"ws://{name}:{port}" for name in NAMES)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src blob: data:; "
        f"connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def head(session: DriveSession, seen: Seen) -> dict[str, Any]:
    """Return what a packet says of a frame, as JSON values."""
    keeper, info, glimpse = session.keeper, seen.info, seen.glimpse
    said: dict[str, Any] = {
        "n": seen.number,
        "made_ms": 1000.0 * seen.made_s,
        "drive": seen.drive,
        "who": seen.who,
        "steering": round(seen.steering, 4),
        "suggestion": None if seen.suggestion is None else round(seen.suggestion, 4),
        "ended": seen.ended,
        "recording": session.recording,
        "frames": {HUMAN: keeper.frames[HUMAN], POLICY: keeper.frames[POLICY], "pending": keeper.pending},
        "stretches": dict(keeper.stretches),
        "interventions": keeper.interventions,
        "take_overs": session.take_overs,
        "crashes": session.crashes,
        "offset_m": round(float(info["lateral_offset_m"]), 4),
        "lane_width_m": round(float(info["lane_width_m"]), 4),
        "speed_mps": round(float(info["speed_mps"]), 3),
        "wanted_mps": round(session.wanted_mps, 3),
        "time_s": round(float(info["time_s"]), 3),
        "way_m": round(float(info["progress_m"]), 2),
        "pose": [round(value, 3) for value in seen.pose],
        "acting": str(session.acting),
        "notice": session.notice,
    }
    if glimpse is not None:
        rows, columns = glimpse.saliency.shape
        said["looked_s"] = round(glimpse.time_s, 3)
        said["saliency"] = [rows, columns, base64.b64encode(glimpse.saliency.tobytes()).decode()]
        said["states"] = _short(glimpse.states)
        for name, values in (
            ("tau_s", glimpse.time_constants_s),
            ("sensory", glimpse.sensory),
            ("recurrent", glimpse.recurrent),
        ):
            said[name] = None if values is None else _short(values)
    return said


def pictures(seen: Seen) -> tuple[bytes, bytes]:
    """Return the JPEG of the large picture, empty where there is none, and the PNG of the driver's frame."""
    own = _encode(".png", seen.frame)
    return (b"" if seen.view is seen.frame else _encode(".jpg", seen.view)), own


def packet(said: dict[str, Any], large: bytes, own: bytes) -> bytes:
    """Put a packet together."""
    text = json.dumps({**said, "bytes": [len(large), len(own)]}, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + large + own


def _encode(kind: str, frame: NDArray[np.uint8]) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, coded = cv2.imencode(kind, frame[..., ::-1], options)
    assert done
    return coded.tobytes()


def _circuit(policy: DrivingPolicy) -> dict[str, Any]:
    return {**circuit_plan(policy), "width": WIDTH, "height": HEIGHT}


def _short(values: NDArray[np.float32]) -> list[float]:
    return [round(float(value), 4) for value in values]
