"""Filming a driver: what `wormwheel render` writes, and what it says when it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from agents.driving.driver import PolicyDriver
from agents.driving.metrics import Drive
from agents.recordings.episodes import EpisodeMeta
from agents.recordings.writer import EpisodeWriter
from envs.dashboard.canvas import DRIVER, Box, fit, text, text_width
from envs.dashboard.panels import StripPanel, highlight
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.cli import main
from experiments.film import drive as drive_module
from experiments.film import verb
from experiments.film.drive import Take, drive_take, film_drive, film_two
from experiments.film.neurons import OwnRange
from experiments.film.reel import LAST_S, SLOW_S, SLOWER, Filmed, Reel
from experiments.film.video import VideoWriter
from policies.checkpoint import save_policy
from policies.cores import CORES
from policies.policy import DrivingPolicy, PolicyConfig
from tests.experiments.verbs import hear_elapsed

WORLD = ["--vehicle", "bicycle", "--variety", "0.3"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver without training, that steers straight on."""
    driver = DrivingPolicy.create(PolicyConfig(), seed=0)
    with torch.no_grad():
        driver.core.output_w.zero_()  # type: ignore[union-attr]
        driver.core.output_b.zero_()  # type: ignore[union-attr]
    return save_policy(driver, tmp_path_factory.mktemp("driver") / "policy")


def tub(directory: Path, height: int = 48, width: int = 96, steps: int = 30) -> Path:
    rng = np.random.default_rng(0)
    writer = EpisodeWriter(directory)
    with writer.episode(EpisodeMeta(source="test", nominal_period_s=0.05)) as recording:
        for step in range(steps):
            frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            recording.append(frame, float(np.sin(0.2 * step)), 0.05 * step)
    return directory


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.video[0].average_rate == 20
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_film_of_a_drive(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, preview = tmp_path / "drive.mp4", tmp_path / "drive.webp"
    arguments = ["render", "--policy", str(policy), "--out", str(out), "--preview", str(preview), "--seconds", "0.6"]
    assert main([*arguments, "--seed", "3", *WORLD]) == 0
    frames = decode(out)
    assert len(frames) == 12 + 40  # the drive, and the last picture for a moment
    assert frames[0].shape == (720, 1280, 3)
    assert 1_000 < preview.stat().st_size < 1_500_000
    assert "without leaving the road" in capsys.readouterr().out
    # The road moves, the frame of the panels stays.
    assert np.abs(frames[0][40:300, 40:600].astype(int) - frames[11][40:300, 40:600]).mean() > 3
    assert np.abs(frames[0][:10].astype(int) - frames[11][:10]).mean() < 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive.mp4", "drive.webp"]


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_pictures(policy: Path, tmp_path: Path):
    from policies.checkpoint import load_policy

    world = LaneKeepingConfig(vehicle="bicycle", episode_s=0.3)
    for name in ("a", "b"):
        film_drive(Take(load_policy(policy), "ltc", noise_variance=0.1), world, 5, tmp_path / f"{name}.mp4")
    # The pictures repeat exactly; the encoder repeats them to a grey level or two.
    assert np.abs(decode(tmp_path / "a.mp4")[3].astype(int) - decode(tmp_path / "b.mp4")[3]).mean() < 0.1
    film_drive(Take(load_policy(policy), "ltc", noise_variance=0.1), world, 6, tmp_path / "c.mp4")
    assert np.abs(decode(tmp_path / "a.mp4")[3].astype(int) - decode(tmp_path / "c.mp4")[3]).mean() > 3


def test_a_crash_ends_the_film_and_is_said(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "drive.mp4"
    arguments = ["render", "--policy", str(policy), "--out", str(out), "--seconds", "30", "--seed", "1"]
    assert main([*arguments, *WORLD, "--speed-mps", "6", "6"]) == 0
    assert "left the road after" in capsys.readouterr().out
    frames = decode(out)
    assert len(frames) < 300
    red = frames[-1][16:22, 1150:1250].reshape(-1, 3).mean(0)  # the outcome, in the header: nothing else is covered
    assert red[0] > red[1] + 50
    assert np.abs(frames[-1][70:].astype(int) - frames[-41][70:]).mean() < 1


def test_a_crash_is_shown_slowly_and_is_the_poster(policy: Path, tmp_path: Path):
    from policies.checkpoint import load_policy

    world = LaneKeepingConfig(vehicle="bicycle", variety=0.3, speed_mps=(6.0, 6.0), episode_s=30.0)
    filmed = film_drive(Take(load_policy(policy), "ltc"), world, 1, tmp_path / "drive.mp4")
    assert filmed.drive is not None and filmed.drive.crashed
    steps = round(filmed.drive.duration_s / world.period_s)
    slow = min(steps, round(SLOW_S / world.period_s))
    assert filmed.frames == steps + (SLOWER - 1) * slow + round(LAST_S / world.period_s)
    frames = decode(tmp_path / "drive.mp4")
    last = frames[-round(LAST_S / world.period_s) - 1]
    assert np.abs(filmed.poster.astype(int) - last).mean() < 3  # the moment of leaving, not calm driving
    first_slow = steps - slow
    chip = (slice(84, 100), slice(30, 300))  # says that it is slow
    assert np.abs(frames[first_slow][chip].astype(int) - frames[first_slow - 1][chip]).mean() > 10
    assert np.abs(frames[first_slow].astype(int) - frames[first_slow + 2]).mean() < 1.5  # one picture, three times


def test_memory_does_not_grow_with_the_film(tmp_path: Path):
    picture = np.zeros((720, 1280, 3), np.uint8)
    with VideoWriter(tmp_path / "long.mp4", 20.0) as writer:
        reel = Reel(writer, 0.05, 3600.0)
        for _ in range(120):
            reel.append(picture)
        assert len(reel._held) <= 40 and len(reel.preview) <= 80
        reel.close()
    assert writer.frame_count == 120


def test_two_drives_side_by_side(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "two.mp4"
    arguments = ["render", "--policy", str(policy), "--out", str(out), "--side-by-side", "--seconds", "0.6"]
    assert main([*arguments, "--perturbation", "darkness:5", "--seed", "3", *WORLD]) == 0
    words = capsys.readouterr().out
    assert "clean: " in words and "darkness, severity 5 of 5: " in words
    frames = decode(out)
    assert frames[0].shape == (720, 1280, 3) and len(frames) == 12 + 40
    # What the drivers get stands below: clean on the left, dark on the right.
    left, right = frames[10][570:680, 230:450], frames[10][570:680, 830:1050]
    assert left.mean() > right.mean() + 10
    other = save_policy(DrivingPolicy.create(PolicyConfig(core="lstm"), seed=0), tmp_path / "lstm")
    assert main(["render", "--policy", str(policy), str(other), *arguments[3:], "--seed", "3", *WORLD]) == 0
    assert "lstm, clean: " in capsys.readouterr().out


@pytest.mark.parametrize(("noise_seed", "drawn_from"), [(None, 5), (0, 0), (3, 3)])
def test_noise_and_perturbation_are_drawn_from_the_seed_of_the_noise(
    noise_seed: int | None, drawn_from: int, monkeypatch: pytest.MonkeyPatch
):
    heard: list[tuple[object, ...]] = []

    def pretend(driver: object, make_env: Any, seeds: list[int], *_: object, noise_seed: int, **more: object) -> Any:
        heard.append((seeds, noise_seed, make_env(0)._seed))
        return [None]

    monkeypatch.setattr(drive_module, "rollout", pretend)
    take = Take(DrivingPolicy.create(PolicyConfig()), "ltc", 0.1, "fog:3", noise_seed)
    drive_take(take, LaneKeepingConfig(vehicle="bicycle"), 5, lambda *_: None)
    assert heard == [([5], drawn_from, drawn_from)]


def test_one_policy_beside_itself_has_two_states(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):

    world = LaneKeepingConfig(vehicle="bicycle", episode_s=0.5)
    clean = Take(PolicyDriver(DrivingPolicy.create(PolicyConfig(), seed=1)), "ltc")
    alone = drive_take(clean, world, 3, lambda *_: None)
    filmed, _ = film_two((clean, replace(clean, perturbation="darkness:5")), world, 3, tmp_path / "two.mp4")
    assert filmed.drive is not None
    np.testing.assert_array_equal(filmed.drive.steering, alone.steering)
    # A driver of others may have a state that only opening it once more makes new.
    given: list[Take] = []

    def pretend(takes: tuple[Take, Take], *_: object) -> tuple[Filmed, Drive]:
        given.extend(takes)
        return filmed, alone

    monkeypatch.setattr(verb, "film_two", pretend)
    out = ("--out", str(tmp_path / "two.mp4"), "--side-by-side", "--perturbation", "darkness:5")
    assert main(["render", "--policy", str(policy), *out, *WORLD]) == 0
    assert given[0].policy is not given[1].policy and given[0].is_clean and not given[1].is_clean


def test_a_failing_drive_beside_another_ends_the_film(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from policies.checkpoint import load_policy

    def fail(*_: object) -> None:
        raise RuntimeError("the simulator died")

    monkeypatch.setattr(drive_module, "_large_view", fail)
    take = Take(load_policy(policy), "ltc")
    world = LaneKeepingConfig(vehicle="bicycle", episode_s=1.0)
    with pytest.raises(RuntimeError, match="the simulator died"):
        film_two((take, take), world, 3, tmp_path / "two.mp4")
    assert not list(tmp_path.iterdir())


def test_the_scale_of_a_strip_grows_to_what_there_is():
    box = Box(0, 0, 500, 140)
    picture = np.zeros((140, 500, 3), np.uint8)
    strip = StripPanel(box, "X", "", 0.05, (0.1, 1.0), lambda limit: f"{limit:g}", (("a", DRIVER),))
    tops = []
    for values in ([0.09] * 20, [0.9] * 5):
        for value in values:
            strip.draw(picture, value)
        amber = np.abs(picture[40:108].astype(int) - np.array(DRIVER)).sum(-1) < 30
        tops.append(np.flatnonzero(amber.any(1))[0])
        first = np.flatnonzero(amber.any(0))[0]
    assert tops[0] < 12 and tops[1] < 12  # near the top in both: the scale went from 0.1 to 1
    rows = np.flatnonzero(np.abs(picture[40:108, first + 2].astype(int) - np.array(DRIVER)).sum(-1) < 60)
    assert rows.size and rows.min() > 20  # what was high before is low on the new scale


@pytest.mark.parametrize("core", sorted(set(CORES) & {"lstm", "feedforward", "ltc"}))
def test_film_of_a_recording_by_any_core(core: str, tmp_path: Path):
    place = save_policy(DrivingPolicy.create(PolicyConfig(core=core), seed=0), tmp_path / "policy")
    data = tub(tmp_path / "data", 60, 80)
    out = tmp_path / "out.mp4"
    arguments = ["render", "--policy", str(place), "--data", str(data), "--crop-top", "20", "--out", str(out)]
    assert main([*arguments, "--seconds", "0.5"]) == 0
    frames = decode(out)
    assert len(frames) == 10 and frames[0].shape == (720, 1280, 3)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--out", "drive.avi"], "ends in .mp4"),
        (["--out", "DIRECTORY.mp4"], "is a directory"),
        (["--preview", "drive.png"], ".webp or .gif"),
        (["--seconds", "0"], "seconds must be a positive number"),
        (["--episode-s", "5"], "--seconds is the length of a film"),
        (["--noise-variance", "-1"], "at least 0"),
        (["--data", "nothing-here"], "nothing-here"),
        (["--data", "DATA"], "say how to fit them"),
        (["--track", "no-such.csv"], "no-such.csv"),
        (["--policy", "no-such-policy"], "no-such-policy"),
        (["--side-by-side"], "needs a second policy"),
        (["--policy", "a", "b"], "two with --side-by-side"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    words: str,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIRECTORY.mp4").mkdir()
    tub(tmp_path / "DATA", 60, 80, steps=3)
    assert main(["render", "--policy", str(policy), "--seconds", "0.1", *WORLD, *extra]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert words in error and "Traceback" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA", "DIRECTORY.mp4"]


def test_highlight_glows_where_saliency_is():
    frame = np.full((10, 20, 3), 100, np.uint8)
    glow = np.zeros((10, 20), np.float32)
    glow[:, 10:] = 1.0
    picture = highlight(frame, glow, 40, 20).astype(int)
    assert picture[10, 35].sum() > picture[10, 5].sum() + 200
    assert picture.shape == (20, 40, 3)


def test_own_range_stretches_each_neuron_but_not_stillness():
    scale = OwnRange(least=0.1)
    for value in np.linspace(0, 1, 11):
        last = scale(np.array([value, 5.0 + 0.001 * value]))
    np.testing.assert_allclose(last[0], 1.0)
    assert abs(last[1]) < 0.05
    np.testing.assert_allclose(scale(np.array([0.5, 5.0]))[0], 0.0, atol=1e-9)


def test_fit_keeps_shape_inside():
    box = fit(Box(10, 20, 200, 100), 160, 120)
    assert (box.width, box.height) == (133, 100)
    assert box.x >= 10 and box.x + box.width <= 210


def test_text_is_clipped_at_the_edges_and_aligned():
    picture = np.zeros((20, 60, 3), np.uint8)
    text(picture, "far too long a line for this picture", 2, 5)
    text(picture, "gone", 300, 5)
    assert picture.max() > 100
    right = np.zeros((20, 60, 3), np.uint8)
    text(right, "ab", 58, 5, anchor="r")
    lit = np.flatnonzero(right.max((0, 2)) > 60)
    assert 58 - text_width("ab") <= lit.min() and lit.max() <= 58


def test_a_driver_on_film_counts_time_in_its_own_period(monkeypatch: pytest.MonkeyPatch):
    heard = hear_elapsed(monkeypatch)
    config = PolicyConfig(core="gru", nominal_period_s=0.1)
    world = LaneKeepingConfig(vehicle="bicycle", variety=0.0, episode_s=0.2, pixels_per_m=24.0)
    drive_take(Take(DrivingPolicy.create(config), "slow"), world, 1, lambda *moment: None)
    assert heard == [0.5] * 4
