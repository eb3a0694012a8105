"""What a driver cannot say of itself: how it takes frames, what its steering means, and whether it may run code.

Our policies say all of it; a network of somebody else says little. The same options serve every verb:

    DriverOptions(frame="66x200", layout="CHW", range="-1..1", colour="yuv", positive="right", degrees=25)
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.runs.reading import read_object
from policies.preprocessing import Crop


@dataclass(frozen=True, config={"extra": "forbid"})
class DriverOptions:
    """How frames are made for a driver, and what it says becomes steering; needed where the driver cannot say it."""

    frame: Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")] | None = None
    """Rows and columns of the frames that the driver takes, such as 66x200; those of the camera when not given. Our
    policies, ONNX files with fixed sizes and Stable-Baselines3 zips say it themselves."""
    layout: Literal["CHW", "HWC"] | None = None
    """Order of a frame's axes: channels first or last. When not given, as an ONNX file or a zip says, CHW for PyTorch
    modules and HWC for functions."""
    range: Literal["0..1", "-1..1", "0..255"] | None = None
    """Range of the pixels. When not given, 0..255 for functions, zips and ONNX files that take uint8, else 0..1."""
    colour: Literal["rgb", "bgr", "grey", "yuv"] | None = None
    """Colours of the frames; rgb when not given, or grey where an ONNX file or a zip takes one channel."""
    crop_top: Crop | None = None
    """Rows cut off at the top, pixels of the camera or the recording, before the frame is resized to the driver's.
    Needed for a policy whose own camera had another size; 0 resizes the whole frame. Below 0, here as on the other
    sides, adds pixels that repeat the edge, for a camera that sees less than the policy's own."""
    crop_bottom: Crop | None = None
    """Rows cut off at the bottom, pixels of the camera or the recording."""
    crop_left: Crop | None = None
    """Columns cut off on the left, pixels of the camera or the recording."""
    crop_right: Crop | None = None
    """Columns cut off on the right, pixels of the camera or the recording."""
    crop_horizon: Annotated[int, Field(ge=-10_000, le=10_000)] | None = None
    """Row of the horizon, pixels of the camera or the recording: where rows are added at the bottom, lines of the road
    go on straight from the last row that there is, away from the middle of this one, instead of downwards."""
    positive: Literal["left", "right"] = "left"
    """Side to which positive steering turns; our policies say it themselves."""
    degrees: Annotated[float, Field(ge=0.01, le=100_000.0)] | None = None
    """Degrees of full lock, where the driver answers in degrees; without it, and for our policies, it answers in
    [−1, 1] of full lock."""
    steering_gain: Annotated[float, Field(ge=1e-4, le=1e4)] | None = None
    """What the steering is multiplied with, for a car whose full lock turns it less or more; `wormwheel fit` suggests
    it."""
    fit: Path | None = None
    """JSON file that `wormwheel fit` has written: its crop and gain, where none are given here."""
    driver_period_s: Annotated[float, Field(ge=1e-4, le=60.0)] | None = None
    """Time between two frames that the driver expects, seconds, where it cannot say it; used to count elapsed time."""
    trust: bool = False
    """Load drivers whose files can run code: Stable-Baselines3 zips are pickles, and policies may name cores of one's
    own. Only for files from people you trust."""

    @property
    def crops(self) -> dict[str, int] | None:
        """The crops in pixels; None when none was given."""
        names = ("crop_top", "crop_bottom", "crop_left", "crop_right")
        if all(getattr(self, name) is None for name in names):
            return None
        horizon = {} if self.crop_horizon is None else {"crop_horizon": self.crop_horizon}
        return {name: getattr(self, name) or 0 for name in names} | horizon

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of `frame`."""
        if self.frame is None:
            return None
        rows, columns = self.frame.split("x")
        return int(rows), int(columns)

    def resolved(self) -> DriverOptions:
        """Return the options with what the file of `fit` says filled in.

        Raises:
            ValueError: if the file is no fit.
            OSError: if it cannot be read.
        """
        if self.fit is None:
            return self
        content = read_object(self.fit)
        try:
            found = content.get("figures", content)["fit"]
            suggested = {name: int(found[name]) for name in ("crop_top", "crop_bottom", "crop_left", "crop_right")}
            if found.get("crop_horizon") is not None:
                suggested["crop_horizon"] = int(found["crop_horizon"])
            gain = float(found["steering_gain"])
            given: dict[str, Any] = self.crops or suggested
            chosen = gain if self.steering_gain is None else self.steering_gain
            return replace(self, **given, steering_gain=chosen, fit=None)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{self.fit} is no result of `wormwheel fit`: it has no object 'fit' with crops and gain."
            ) from error


@dataclass(frozen=True, config={"extra": "forbid"})
class DriverSpec:
    """A driver by what opens it; can be sent to another process (`agents.driving.open_driver.open_driver`)."""

    source: str
    """Run or policy directory, an ONNX file, a zip of Stable-Baselines3, `module:factory` or `file.py:factory`."""
    options: DriverOptions = DriverOptions()
    """What the driver cannot say."""

    @property
    def path(self) -> Path:
        """The file or directory that is named, without the factory."""
        return Path(self.source.rpartition(".py:")[0] + ".py") if ".py:" in self.source else Path(self.source)

    def fingerprint(self) -> str:
        """Return a few letters that change when the driver's files or options do; of modules, the name alone counts."""
        digest = hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode())
        if self.path.is_dir():
            for name in ("config.json", "model.safetensors"):
                digest.update((self.path / name).read_bytes())
        elif self.path.is_file():
            content = self.path.read_bytes()
            digest.update(content)
            for name in sorted(_weight_files(content)) if self.path.suffix == ".onnx" else ():
                file = self.path.parent / name
                digest.update(name.encode() + (file.read_bytes() if file.is_file() else b""))
        return digest.hexdigest()[:16]


def _weight_files(content: bytes) -> set[str]:
    """Return the names of the files beside an ONNX file in which its weights lie; the file itself may be the same."""
    names = set()
    for entry in re.finditer(rb"\x0a\x08location\x12", content):  # protobuf: key "location", then its value
        at, size, shift = entry.end(), 0, 0
        while at < len(content):
            size |= (content[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if content[at - 1] < 0x80:
                break
        names.add(content[at : at + min(size, 4096)].decode("utf-8", "replace"))
    return {name for name in names if "\0" not in name}


def _plain(spec: DriverSpec) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(spec.options.resolved()), default=str))
    return {"source": spec.source if not spec.path.exists() else "", "options": values}
