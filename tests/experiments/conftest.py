"""What the tests of the verbs share: a recording, a trained policy, a road. Made once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tyro._parsers import ParserSpecification

from experiments import cli, training_time
from tests.experiments.verbs import DRIVER, ROAD, write_tub


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small batches gain nothing from more threads, and test processes that run side by side lose much by them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def parsers_are_built_once() -> Iterator[None]:
    """Build each verb's parser once: that takes tyro a fifth of a second, and these tests run a thousand commands."""
    build = ParserSpecification.from_callable_or_type
    kept: dict[tuple[Any, str], ParserSpecification] = {}

    def once(f: Any, **about: Any) -> ParserSpecification:
        if about["intern_prefix"] or about["parent_classes"]:
            return build(f, **about)  # a part of a parser
        key = (f, repr(about["default_instance"]))
        if key not in kept:
            kept[key] = build(f, **about)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParserSpecification, "from_callable_or_type", once)
        yield


@pytest.fixture(scope="session", autouse=True)
def trainings_are_timed_by_their_first_steps() -> Iterator[None]:
    """Before it trains the command measures steps for a third of a second: too long for trainings that take less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_time, "MEASURED_S", 0.0)
        yield


def quietly(*arguments: object) -> None:
    """Run the command; it must succeed."""
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        code = cli.main([str(argument) for argument in arguments])
    assert code == 0, screen.getvalue()


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated data set of three short episodes, frames of 24×48."""
    path = tmp_path_factory.mktemp("recording") / "data"
    quietly("record", "--out", path, "--frames", 270, "--episode-s", 4.5, *ROAD)
    return path


@pytest.fixture(scope="session")
def tub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Donkeycar tub of 120 pictures of 24×48, whose steering can be seen."""
    return write_tub(tmp_path_factory.mktemp("tub") / "tub")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, recording: Path) -> Path:
    """The run directory of a small driver, trained on `recording`."""
    out = tmp_path_factory.mktemp("trained") / "mine"
    quietly("train", "imitation", "--data", recording, "--out", out, *DRIVER, "--no-baseline")
    return out


@pytest.fixture
def circle(tmp_path: Path) -> Path:
    """The CSV file of a round road, alone in its directory; a lap at 1:10 is 12.6 m."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rows = [f"{20 * np.cos(a):.4f},{20 * np.sin(a):.4f},4,4" for a in angle]
    path = tmp_path / "roads" / "circle.csv"
    path.parent.mkdir()
    path.write_text("# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + "\n".join(rows) + "\n")
    return path
