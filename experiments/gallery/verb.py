"""`wormwheel gallery`: every perturbation at every severity, in one picture.

    wormwheel gallery --out gallery.png
    wormwheel gallery --families weather light --height 120 --width 160 --out weather.png

Frames show what a driver sees after a while of driving. Where nothing is to be seen in a frame, a small plot stands for
it: the way of the car under the same commands (dynamics, actuation), or when the picture that the driver has was taken
(timing).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import Field
from pydantic.dataclasses import dataclass

from agents.driving.driver import PolicyDriver
from agents.driving.expert import Expert
from agents.runs.files import replacing
from agents.runs.ours import MARK, check_ours
from envs import LANE_KEEPING
from envs.camera.info import camera_info
from envs.dashboard.canvas import BACKGROUND, DRIVER, MUTED, TEXT, Box, Picture, text
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import (
    FAMILIES,
    PERTURBATIONS,
    SEVERITIES,
    CameraInfo,
    PerturbedEnv,
    RecordedEpisode,
    parse,
)
from experiments.console import check_place, progress, screen
from experiments.gallery.plots import plot_time, plot_way
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

WARM_UP = 26
"""Frames driven before the one that is shown."""
_GAP, _CAPTION, _HEAD, _COLUMN_HEADS = 4, 32, 26, 22
_WITHOUT_FRAMES = ("timing", "dynamics", "actuation")


@dataclass(frozen=True, config={"extra": "forbid"})
class GalleryOptions:
    """Draw every perturbation at every severity."""

    out: Path = Path("gallery.png")
    """The picture to write, .png or .jpg."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """What to show."""
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = SEVERITIES
    """What to show of each, besides the clean frame."""
    seed: int = 5
    """Seed of the road, the look and the perturbations."""
    height: Annotated[int, Field(gt=0, le=2000)] = 48
    """Rows of a frame, pixels."""
    width: Annotated[int, Field(gt=0, le=2000)] = 96
    """Columns of a frame, pixels."""
    zoom: Annotated[int, Field(gt=0, le=16)] = 2
    """How many times larger a frame is shown."""
    columns: Annotated[int, Field(gt=0, le=100)] = 2
    """Columns of the page."""
    quality: Annotated[int, Field(ge=1, le=100)] = 80
    """Of a picture written as .jpg, 1 to 100."""
    policy: Path | None = None
    """Policy that the attacks are made against, of that frame size; one with random weights when left out."""

    def __post_init__(self) -> None:
        """Check what was asked for."""
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown:
            raise ValueError(f"there is no family {', '.join(unknown)}. There are {', '.join(FAMILIES)}.")
        if self.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise ValueError(f"out must end in .png or .jpg, got {self.out}.")

    @property
    def world(self) -> LaneKeepingConfig:
        """Where the frames are taken."""
        return LaneKeepingConfig(height=self.height, width=self.width, speed_mps=(1.5, 1.5), variety=0.0)


def run(options: GalleryOptions) -> Path:
    """Draw the gallery and write it."""
    check_ours(options.out)
    check_place(options.out.parent)
    picture = Image.fromarray(draw_gallery(options))
    with replacing(options.out) as partial:
        if options.out.suffix.lower() == ".png":
            about = PngInfo()
            about.add_text("Comment", MARK)
            picture.save(partial, pnginfo=about)
        else:
            picture.save(partial, quality=options.quality, comment=MARK.encode())
    count = sum(len(FAMILIES[family]) for family in options.families)
    screen().print(
        f"{options.out}: {count} perturbations in {len(options.families)} families", markup=False, soft_wrap=True
    )
    return options.out


def draw_gallery(options: GalleryOptions) -> Picture:
    """Draw the page: perturbations down, severities across, by family."""
    names = [name for family in options.families for name in FAMILIES[family]]
    driver = _attacked(options)
    blocks: list[Picture] = []
    with progress("drawing", len(names)) as bar:
        for family in options.families:
            for number, name in enumerate(FAMILIES[family]):
                blocks.append(_block(name, family if number == 0 else "", thumbnails(name, options, driver), options))
                bar.advance()
    return _page(blocks, options.columns, ["clean", *(f"severity {severity}" for severity in options.severities)])


def thumbnails(name: str, options: GalleryOptions, driver: PolicyDriver | None = None) -> list[Picture]:
    """What a perturbation looks like: clean, then at each severity, enlarged.

    Args:
        name: of the perturbation.
        options: size and seed.
        driver: what attacks are made against; one with random weights when None.
    """
    family = PERTURBATIONS[name].family
    cells = ["", *(f"{name}:{severity}" for severity in options.severities)]
    if family in _WITHOUT_FRAMES:
        box = Box(0, 0, options.zoom * options.width, options.zoom * options.height)
        if family == "timing":
            return plot_time(cells, options.world.period_s, options.seed, box)
        return plot_way(cells, partial(_make, options=options), options.seed, box)
    driver = driver or _attacked(options)
    size = options.zoom * options.width, options.zoom * options.height
    shown = [_frame(cell, options, driver) for cell in cells]
    return [np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST), np.uint8) for frame in shown]


def _make(perturbation: str, options: GalleryOptions) -> PerturbedEnv:
    return PerturbedEnv(gymnasium.make(LANE_KEEPING, config=options.world, disable_env_checker=True), perturbation)


class _CleanDrive(NamedTuple):
    """Frames of a while of driving well, as a recording."""

    frames: NDArray[np.uint8]
    camera: CameraInfo
    speed_mps: float
    yaw_rate_radps: NDArray[np.float64]


@lru_cache(maxsize=1)
def _drive(world: LaneKeepingConfig, seed: int) -> _CleanDrive:
    env = LaneKeepingEnv(world)
    expert = Expert()
    observation, _ = env.reset(seed=seed)
    frames, turns = [observation["camera"]], [0.0]
    for _ in range(WARM_UP):
        observation, *_ = env.step(np.array([expert.steer(env)], np.float32))
        state = env.vehicle_state
        frames.append(observation["camera"])
        turns.append(state.speed * math.tan(state.steer) / env.vehicle_params.wheelbase_m)
    camera = camera_info(env.scene.params, world.height, world.width, world.period_s)
    speed_mps = env.target_speed_mps
    env.close()
    return _CleanDrive(np.stack(frames), camera, speed_mps, np.array(turns))


def _frame(perturbation: str, options: GalleryOptions, driver: PolicyDriver) -> Picture:
    """What is seen after a while of driving well."""
    composition = parse(perturbation)
    if composition.frames and not composition.changes_time:
        drive = _drive(options.world, options.seed)
        episode = RecordedEpisode(composition, options.seed, drive.camera)
        elapsed = np.ones(len(drive.frames))
        return episode.take(drive.frames, elapsed, drive.speed_mps, drive.yaw_rate_radps).frames[-1]
    env = _make(perturbation, options)
    env.gradient = partial(driver.steering_gradient, 0)
    expert = Expert()
    observation, _ = env.reset(seed=options.seed)
    for step in range(WARM_UP):
        if composition.attacks:
            driver.act(observation["camera"][None], observation["elapsed"], np.array([step == 0]), [env])
        observation, *_ = env.step(np.array([expert.steer(env)], np.float32))
    env.close()
    frame: Picture = observation["camera"]
    return frame


def _attacked(options: GalleryOptions) -> PolicyDriver:
    """The driver that attacks are made against."""
    if options.policy is not None:
        return PolicyDriver(load_policy(options.policy))
    fit = Preprocessing(options.height, options.width)
    return PolicyDriver(DrivingPolicy.create(PolicyConfig(preprocessing=fit)))


def _block(name: str, family: str, pictures: Sequence[Picture], options: GalleryOptions) -> Picture:
    """One perturbation: its name, the unit and the doses over a row of pictures; its family's name before the first."""
    doses = {severity: PERTURBATIONS[name](severity).dose_at(options.height) for severity in options.severities}
    height, width = pictures[0].shape[:2]
    head = _HEAD if family else 0
    block = np.full((head + _CAPTION + height + _GAP, len(pictures) * (width + _GAP) + _GAP, 3), BACKGROUND, np.uint8)
    if family:
        text(block, family.upper(), _GAP, 11, 14, DRIVER, bold=True)
    captions = [name.replace("_", " "), *(f"{dose:g}" for dose in doses.values())]
    text(block, f"dose: {PERTURBATIONS[name].unit}", _GAP, head + 17, 11, MUTED)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = _GAP + number * (width + _GAP)
        if number:
            text(block, caption, x + width, head + 3, 11, TEXT, anchor="r")
        else:
            text(block, caption, x, head + 3, 11, TEXT, bold=True)
        block[head + _CAPTION : head + _CAPTION + height, x : x + width] = picture
    return block


def _page(blocks: Sequence[Picture], columns: int, heads: Sequence[str]) -> Picture:
    """Blocks one below the other, in columns of about the same height, each under its heads."""
    target = sum(len(block) for block in blocks) / columns
    stacks: list[list[Picture]] = [[]]
    height = 0.0
    for block in blocks:
        if height > len(stacks) * target - 0.5 * len(block) and len(stacks) < columns:
            stacks.append([])
        stacks[-1].append(block)
        height += len(block)
    tall = max(sum(len(block) for block in stack) for stack in stacks)
    wide = blocks[0].shape[1]
    page = np.full((tall + 2 * _GAP + _COLUMN_HEADS, len(stacks) * (wide + 3 * _GAP), 3), BACKGROUND, np.uint8)
    for number, stack in enumerate(stacks):
        top, left = _GAP + _COLUMN_HEADS, number * (wide + 3 * _GAP)
        cell = (wide - _GAP) // len(heads)
        for place, head in enumerate(heads):
            at = left + _GAP + place * cell
            text(page, head, at if place == 0 else at + cell - _GAP, _GAP, 13, TEXT, anchor="r" if place else "l")
        for block in stack:
            page[top : top + len(block), left : left + wide] = block
            top += len(block)
    return page
