"""`wormwheel drive`: drive LaneKeeping yourself, on a page in your browser.

wormwheel drive                                        # keys, mouse or gamepad; R records
wormwheel drive --policy runs/demo/policy              # hand over and take back; see it think
wormwheel train imitation --data runs/drive/human      # what was recorded trains

The page is served to this computer alone, at an address with a token that is printed; see docs/drive.md.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import socket
import statistics
import webbrowser
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.driver import OpenedDriver, PolicyDriver
from agents.driving.driver_options import DriverOptions
from agents.runs.directory import check_directory, open_run
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import check_json, new_directory, say, say_next, table, with_tracks, write_results
from experiments.drive.guard import ADDRESS
from experiments.drive.inside import Accounts, explain_there, open_there
from experiments.drive.keeping import HUMAN, POLICY
from experiments.drive.messages import MOST_BYTES
from experiments.drive.session import DriveSession
from experiments.machine import one_thread
from experiments.policy_paths import name_drivers, open_drivers

WORLD = LaneKeepingConfig(episode_s=600.0, start_offset=0.1, start_heading_rad=0.05)
"""Where a person drives unless told otherwise: long drives."""
RESULTS = (HUMAN, POLICY)
"""What is worth keeping of a run."""


@dataclass(frozen=True, config={"extra": "forbid"})
class DriveOptions:
    """Drive yourself, on a page in your browser; record it, hand over to a policy, take back.

    What you drive while recording is a data set, OUT/human, that `wormwheel train imitation` takes; what the policy
    drives is another, OUT/policy. Ctrl-C or "Finish" ends.
    """

    policy: str | None = None
    """Driver to hand over to, such as runs/demo/policy or driver.onnx. Our own policies are looked into."""
    out: Path | None = None
    """Directory of the data sets; runs/drive, with a number added if that is taken, when not given."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the first road; each new one counts on."""
    record: bool = False
    """Record from the start; the page has a button."""
    account: bool = True
    """Account for the policy's steering as it drives, in a process of its own."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on this computer; any that is free when 0."""
    browser: bool = True
    """Open the page in a browser. It is served to this computer alone, at the address that is printed."""
    driver: Annotated[DriverOptions, arg(name="")] = DriverOptions()
    """What the driver cannot say of itself."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: WORLD)
    """Where to drive; the size of the frames is the policy's, where there is one."""
    json: Path | None = None
    """File for what was driven and how old the frames were, as JSON."""

    def __post_init__(self) -> None:
        """Check what does not go together."""
        if self.world.throttle:
            raise ValueError("the page has its own speed control: leave --throttle out.")


def run(options: DriveOptions) -> None:
    """Serve the page until the person has finished, and say what was kept."""
    import uvicorn

    from experiments.drive.app import Hub, make_app

    check_json(options.json)
    world = with_tracks(options.world)
    name, driver = _driver(options, world)
    out = new_directory(options.out, "runs/drive")
    check_directory(out, "drive", False, RESULTS)
    options = replace(options, out=out, world=world)
    with open_run(out, "drive", options, False, RESULTS) as directory, one_thread(), _listen(options.port) as place:
        session = DriveSession(world, out, options.seed, driver, name)
        session.record(options.record)
        directory.begin()
        with _accounts(options, driver) as accounts:
            hub = Hub(session, accounts)
            port, token = place.getsockname()[1], secrets.token_urlsafe(24)
            server = uvicorn.Server(
                uvicorn.Config(
                    make_app(hub, token, port),
                    log_level="warning",
                    access_log=False,
                    ws="websockets-sansio",
                    ws_max_size=MOST_BYTES,
                    ws_per_message_deflate=False,
                    timeout_graceful_shutdown=2,
                )
            )
            hub.on_end = lambda: setattr(server, "should_exit", True)
            address = f"http://{ADDRESS}:{port}/?token={token}"
            say(f"drive at {address}")
            say("the address is for this computer and for you alone; Ctrl-C ends")
            if options.browser:
                webbrowser.open(address)
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[place])
        if hub.stepper.failure is not None:
            raise hub.stepper.failure
    _tell(session, hub.ages_ms, options)


def _driver(options: DriveOptions, world: LaneKeepingConfig) -> tuple[str, OpenedDriver | None]:
    """Open the driver, with its name."""
    if options.policy is None:
        return "", None
    named = name_drivers([options.policy], options.driver)
    try:
        opened = open_drivers(named, world)
    except ValueError:
        opened = open_drivers(named, world, throttle=True)  # one that holds the speed too is as welcome
    return next(iter(opened.items()))


@contextlib.contextmanager
def _listen(port: int) -> Iterator[socket.socket]:
    """Take a port of this computer's own address.

    Raises:
        OSError: if it is taken.
    """
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((ADDRESS, port))
        except OSError as error:
            raise ValueError(
                f"port {port} of {ADDRESS} cannot be used ({error.strerror}): give another --port, or none."
            ) from error
        yield place
    finally:
        place.close()


@contextlib.contextmanager
def _accounts(options: DriveOptions, driver: OpenedDriver | None) -> Iterator[Accounts | None]:
    """Make what accounts for the policy's steering; None where nothing can be accounted for."""
    ours = options.policy is not None and isinstance(driver, PolicyDriver)
    if not (options.account and ours and driver.preprocessing == driver.policy.config.preprocessing):  # type: ignore[union-attr]
        yield None
        return
    path = Path(next(iter(name_drivers([str(options.policy)], options.driver).values())).source)
    if not path.is_dir():
        yield None
        return
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), open_there, (path, options.driver.trust))
    try:
        say("loading what accounts for the steering")
        with contextlib.suppress(BrokenExecutor):  # the page says so when the first account is asked for
            executor.submit(os.getpid).result()  # while nobody drives yet: it takes the computer for some seconds
        yield Accounts(executor, explain_there)
    finally:
        executor.shutdown(cancel_futures=True)


def _tell(session: DriveSession, ages_ms: Any, options: DriveOptions) -> None:
    """Say what was kept, and how old the frames were."""
    keeper = session.keeper
    rows = [
        [who, f"{keeper.frames[who]:,}", f"{keeper.stretches[who]:,}", f"{keeper.frames[who] * session.period_s:.0f} s"]
        for who in (HUMAN, POLICY)
    ]
    table(f"kept in {keeper.out}", ["who drove", "frames", "episodes", "of driving"], rows)
    ages = list(ages_ms)
    median, high = (statistics.median(ages), float(np.percentile(ages, 95))) if ages else (None, None)
    if median is not None:
        say(f"frames were {median:.0f} ms old when shown (median; 95 % under {high:.0f} ms, {len(ages):,} frames)")
    figures = {
        "frames": keeper.frames,
        "episodes": keeper.stretches,
        "interventions_kept": keeper.interventions,
        "take_overs": session.take_overs,
        "drives": session.drive,
        "crashes": session.crashes,
        "shown": len(ages),
        "age_ms": {"median": median, "95 %": high},
    }
    write_results(options.json, "drive", options, figures)
    if keeper.frames[HUMAN]:
        say_next("to train on it", "train", "imitation", "--data", keeper.out / HUMAN)
