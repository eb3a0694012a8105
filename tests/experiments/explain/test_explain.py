"""`wormwheel explain`: the page, the smallest dose, and the figures about both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.driving.rollout import STEERING_STEP
from agents.recordings.episodes import Episode, EpisodeMeta
from envs.camera.info import CameraInfo
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import PERTURBATIONS
from envs.perturbations.composition import Composition
from experiments.explain.ablation import (
    AblationOptions,
    _agree,
    moments,
    on_the_road,
    regions,
    removals,
    synapses_on_the_road,
)
from experiments.explain.counterfactual import Counterfactual, at_dose, film_pair, smallest_dose
from experiments.explain.page import GRID, _jpeg, _overlay, explain, explain_page
from experiments.explain.rerun_file import write_rerun
from experiments.explain.watch import watch_drive, watch_recording
from policies.checkpoint import save_policy
from policies.explain.account import cut_change, explain_decision, measured_change, region_masks
from policies.explain.activity import run_activity
from policies.explain.saliency import gradient_saliency
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import ArrayFrames
from tests.experiments.verbs import wormwheel

HEAD = HeadConfig(channels=(4, 6, 4), kernels=(5, 3, 3), strides=(2, 2, 2))
WORLD = LaneKeepingConfig(vehicle="bicycle", variety=0.0)


def driver(core: str) -> DrivingPolicy:
    config = PolicyConfig(core=core, head=HEAD, preprocessing=Preprocessing(24, 48, height=24, width=48))
    return DrivingPolicy.create(config, seed=3).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh LTC driver, as a policy directory."""
    return save_policy(driver("ltc"), tmp_path_factory.mktemp("policy") / "fresh")


def test_the_verb_writes_a_page_that_is_whole_in_itself(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    figures = tmp_path / "explain.json"
    options = ("--out", tmp_path, "--seconds", 1.5, "--frames", 4, "--every", 10, "--no-silence", "--json", figures)
    ran = wormwheel(capsys, "explain", "--policy", saved, *options)
    assert ran.code == 0, ran.err
    page = (tmp_path / "explain.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']""", page.split("<script>")[0])
    data = json.loads(re.search(r"var D = (\{.*\});\n", page)[1])  # type: ignore[index]
    count = len(data["frames"])
    assert len(data["steering"]) == len(data["states"]) == count and 10 <= count <= 30
    assert len(data["circuit"]["nodes"]) == 19
    assert set(data["accounts"]) == {str(moment) for moment in range(9, count, 10)}
    for account in data["accounts"].values():
        assert np.sum(account["regions"]) == pytest.approx(account["change"], rel=0.01, abs=2e-4)
        assert np.sum(account["back"]) == pytest.approx(account["change"], rel=0.01, abs=2e-4)
        for layer in account["layers"].values():
            assert np.sum(layer["shares"]) == pytest.approx(account["change"], rel=0.01, abs=2e-3)
    assert set(json.loads(figures.read_text())["figures"]) >= {"accounts", "roles", "largest_step"}


def test_a_core_without_synapses_has_a_page_too():
    policy = driver("gru")
    drive = watch_drive(policy, 2, 0.8, world=WORLD)
    found = explain(policy, drive, frames=3, every=5)
    assert found["currents"] is None and len(found["circuit"]["nodes"]) == policy.core.state_size
    assert "no synapses of its own" in explain_page(found, "</script><b>", "command")
    assert "</script><b>" not in explain_page(found, "</script><b>", "command")


def test_a_covered_region_stays_what_it_was():
    policy = driver("ltc")
    mask = region_masks(24, 48, (2, 4))[3].numpy()
    plain = watch_drive(policy, 2, 1.0, world=WORLD)
    covered = watch_drive(policy, 2, 1.0, world=WORLD, cover=(5, mask), stop=12)
    assert len(covered.frames) == 12 and np.array_equal(plain.frames[:6], covered.frames[:6])
    assert all(np.array_equal(frame[mask], plain.frames[5][mask]) for frame in covered.frames[6:])
    assert not np.array_equal(covered.frames[6][~mask], covered.frames[5][~mask])


@pytest.mark.parametrize("core", ["ltc", "gru"])
def test_a_recording_for_the_rerun_viewer(core: str, tmp_path: Path):
    pytest.importorskip("rerun")
    policy = driver(core)
    found = explain(policy, watch_drive(policy, 2, 0.8, world=WORLD), frames=3, every=5)
    write_rerun(tmp_path / "drive.rrd", found, "mine")
    read = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "print", tmp_path / "drive.rrd"], capture_output=True, text=True
    )
    assert read.returncode == 0, read.stderr
    wanted = {"/seen", "/saliency/gradient", "/steering", "/states", "/account/regions", "/quantities"}
    wanted |= {"/currents/recurrent", "/time_constants_s"} if core == "ltc" else set()
    assert {place for place in wanted if place not in read.stdout} == set(), read.stdout[:2000]


def test_on_the_road_a_part_is_taken_away_as_it_is_in_thought():
    """With K = 2 the steering is read before the car moves otherwise: on the road and on its frames it is the same."""
    policy, options = driver("ltc"), AblationOptions(closed_loop=3, frames=2, seed=1)
    masks = region_masks(24, 48, options.grid)
    found_on_road = {**on_the_road(policy, options), **synapses_on_the_road(policy, options)}
    removed, shares, cuts = (
        found_on_road[name]
        for name in ("region, on the road", "region, on the road, by its share", "synapse, on the road")
    )
    assert all(one.moments == 3 for one in found_on_road.values()) and len(found_on_road) == 6
    assert removed.measured == shares.measured
    on_frames, cut_there = [], []
    looked_at: dict[int, list[int]] = {2: [], 3: []}
    for kind, found in ((2, on_frames), (3, cut_there)):
        for _, drive, states, first, rng in moments(policy, options, 3, kind):
            looked_at[kind].append(first)
            span = slice(first, first + 2)
            given, times = (torch.from_numpy(drive.frames[span]), states[first - 1 : first]), drive.elapsed[span]
            if kind == 2:
                mask = masks[int(rng.integers(len(masks)))][None]
                found.append(float(measured_change(policy, *given, mask, torch.from_numpy(times))[0]))
            else:
                number = int(rng.integers(len(policy.core.wiring.recurrent)))  # type: ignore[union-attr, arg-type]
                found.append(cut_change(policy, *given, number, torch.from_numpy(times)))
    assert looked_at[2] != looked_at[3], "each kind draws moments of its own"
    # On the road the region is covered before the frame is whitened, in thought after it.
    np.testing.assert_allclose(removed.measured, on_frames, rtol=0.1, atol=3e-5)
    np.testing.assert_allclose(cuts.measured, cut_there, rtol=0, atol=2e-6)
    assert max(map(abs, on_frames)) > 1e-4 and max(map(abs, cut_there)) > 1e-4


def test_ablation_counts_its_moments():
    other = removals(driver("lstm"), AblationOptions(moments=6, frames=4, seed=1))
    found = regions(driver("lstm"), AblationOptions(moments=6, frames=4, seed=1))
    assert other.measured == found.measured  # the same moments, the same regions
    assert found.moments == len(found.predicted) == len(found.measured) == 6
    assert -1 <= found.spearman <= 1 and not found.gap > 0.01


def test_a_dose_between_severities_keeps_the_draws():
    camera = CameraInfo(24, 48, 0.05)
    plain, same = at_dose("gaussian", 0.05), at_dose("gaussian", 0.1)
    assert (plain.dose, same.dose, plain.name) == (0.05, 0.1, "gaussian")
    frame = np.full((24, 48, 3), 128, np.uint8)
    from envs.perturbations.perturbation import Moment

    one, two = (made.begin(3, camera).frame(frame, Moment(0.0)).astype(float) - 128 for made in (plain, same))
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.5  # the same noise, stronger


def test_the_draws_of_a_dose_are_those_of_the_third_severity_and_large_frames_have_large_doses(
    monkeypatch: pytest.MonkeyPatch,
):
    from envs.perturbations.perturbation import LARGE_ROWS, Moment
    from experiments.explain import counterfactual
    from experiments.explain.watch import Watched

    camera, frame = CameraInfo(24, 48, 0.05), np.full((24, 48, 3), 128, np.uint8)
    third = PERTURBATIONS["gaussian"](3)
    ours, its = (made.begin(3, camera).frame(frame, Moment(0.0)) for made in (at_dose("gaussian", third.dose), third))
    np.testing.assert_array_equal(ours, its)
    kept = Watched(frame[None], np.ones(1, np.float32), np.zeros(1, np.float32))
    monkeypatch.setattr(counterfactual, "watch_drive", lambda *_: kept)
    rows = LARGE_ROWS + 1
    large = replace(driver("gru").config, preprocessing=Preprocessing(rows, 48, height=24, width=48))
    for policy, dose in ((driver("gru"), 0.18), (DrivingPolicy.create(large), 0.38)):
        assert smallest_dose(policy, "gaussian", seed=1).survived == dose


def test_what_becomes_of_a_drive_without_a_neuron(monkeypatch: pytest.MonkeyPatch):
    from experiments.explain import verb
    from experiments.explain.watch import Watched

    policy, one, still = driver("ltc"), np.ones(2, np.float32), np.zeros(2, np.float32)
    frames = np.zeros((2, 24, 48, 3), np.uint8)

    def drive(*offsets_m: float, crashed: bool = False) -> Watched:
        return Watched(frames, one, still, {"offset": np.array(offsets_m, np.float32)}, crashed, duration_s=3.4)

    heard = sorted({int(source) for source, _, _ in policy.core.wiring.recurrent})  # type: ignore[union-attr]

    def pretend(policy: DrivingPolicy, *_: object) -> Watched:
        cut = [int(source) for source, w in zip(policy.core.source, policy.core.raw_w, strict=True) if w < -30]  # type: ignore[arg-type]
        assert len(set(cut)) == 1, "one neuron says nothing"
        return drive(0.1, -0.3, crashed=cut[0] == heard[1])

    monkeypatch.setattr(verb, "watch_drive", pretend)
    found = verb._silence(policy, verb.ExplainOptions(Path("unused")), drive(0.02, -0.02))
    assert sorted(found) == heard
    assert found[heard[0]] == "mean offset 20.0 cm instead of 2.0 cm"
    assert found[heard[1]] == "the car leaves the road after 3.4 s"


def test_a_recording_is_watched_by_its_clock_beside_the_human():
    policy = DrivingPolicy.create(replace(driver("gru").config, nominal_period_s=0.1), seed=3).eval()
    frames = np.random.default_rng(0).integers(0, 256, (8, 24, 48, 3), np.uint8)
    time_s = 5.0 + np.array([0.0, 0.05, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])
    labels = np.linspace(-0.5, 0.5, 8, dtype=np.float32)
    meta = EpisodeMeta("made", 0.05, 24, 48)
    found = watch_recording(policy, Episode(labels, time_s, meta, ArrayFrames(frames)), 0.3)
    elapsed = np.array([1.0, 0.5, 2.0, 0.5, 0.5, 0.5], np.float32)  # in the driver's periods
    np.testing.assert_allclose(found.elapsed, elapsed, rtol=1e-5)
    np.testing.assert_allclose(found.time_s, time_s[:6] - 5.0, atol=1e-9)
    assert found.duration_s == pytest.approx(0.45) and found.period_s == 0.05
    np.testing.assert_array_equal(found.quantities["human steering"], labels[:6])
    with torch.inference_mode():
        steering, _ = policy(torch.from_numpy(frames[:6])[None], None, torch.from_numpy(elapsed)[None])
    np.testing.assert_allclose(found.steering, steering[0, :, 0], atol=1e-5)


def test_agreement_is_that_of_ranks():
    found = _agree([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 8.0, 27.0, 26.0, 1000.0], 0.1)
    assert (found.spearman, found.moments, found.gap) == (pytest.approx(0.9), 5, 0.1)


def test_the_page_shows_each_moment_from_the_state_before_it():
    policy = driver("ltc")
    drive = watch_drive(policy, 2, 0.8, world=WORLD)
    found = explain(policy, drive, frames=3, every=5)
    frames, elapsed = torch.from_numpy(drive.frames), torch.from_numpy(drive.elapsed)
    states = run_activity(policy, frames, elapsed).states
    account = explain_decision(policy, frames[7:10], states[6:7], elapsed[7:10], "held", GRID)
    shown = found["accounts"]["9"]
    assert shown["steering"] == pytest.approx(account.steering, abs=2e-5)
    np.testing.assert_allclose(shown["regions"], account.regions.sum(0), atol=1e-4)
    np.testing.assert_allclose(shown["back"], account.regions.sum((1, 2)), atol=1e-4)
    np.testing.assert_allclose(shown["features"], account.features.sum(0), atol=1e-4)
    heat = gradient_saliency(policy, frames[9:10], states[8:9], elapsed[9:10]).numpy()[0]
    picture = policy.config.preprocessing(frames[9]).numpy()
    assert found["slope"][9] == _jpeg(_overlay(picture, heat))


def test_the_film_of_both_drives_shows_the_drives_that_were_tried(tmp_path: Path):
    policy = DrivingPolicy.create(replace(driver("ltc").config, nominal_period_s=0.1), seed=3).eval()
    found = Counterfactual("gaussian", "variance", 0.2, 0.1, 0.1, 0.2, [])
    filmed = film_pair(found, policy, "fresh", 7, 0.5, tmp_path / "pair.mp4", WORLD)
    for dose, drive in zip((0.1, 0.2), filmed, strict=True):
        tried = watch_drive(policy, 7, 0.5, Composition((at_dose("gaussian", dose),)), WORLD)
        np.testing.assert_allclose(tried.steering, drive.steering, rtol=0, atol=STEERING_STEP / 2)  # the car rounds
        assert (tried.elapsed == 0.5).all()
    assert not np.array_equal(filmed[0].steering, filmed[1].steering)


def test_bisection_ends_between_a_kept_lane_and_a_crash(monkeypatch: pytest.MonkeyPatch):
    from experiments.explain import counterfactual
    from experiments.explain.watch import Watched

    edge, asked = 0.37, []

    def pretend(policy: object, seed: int, seconds: float, perturbation: object = "", world: object = None) -> Watched:
        dose = perturbation.parts[0].dose if str(perturbation) else 0.0  # type: ignore[attr-defined]
        asked.append((seed, dose))
        frames = np.full((3 if dose > edge else 6, 24, 48, 3), 90, np.uint8)
        count = len(frames)
        return Watched(frames, np.ones(count, np.float32), np.zeros(count, np.float32), crashed=dose > edge)

    monkeypatch.setattr(counterfactual, "watch_drive", pretend)
    found = smallest_dose(driver("ltc"), "dropped_frames", seed=9, rounds=8)  # doses to 0.7
    assert found.dose is not None and found.survived <= edge < found.dose
    assert found.dose - found.survived == pytest.approx(0.7 / 2**8)
    assert {seed for seed, _ in asked} == {9} and len(found.tried) == 9
    assert (found.kept_at, found.crashed_at) == (found.survived, found.dose)
    found = smallest_dose(driver("ltc"), "fog", seed=9)  # its dose, the visibility, falls: even the mildest crashes
    assert found.dose == found.tried[0][0] and np.isnan(found.survived)
    edge = 1.0
    found = smallest_dose(driver("ltc"), "dropped_frames", seed=9)
    assert found.dose is None and (found.kept_at, found.crashed_at) == (0.0, found.survived)
    edge = -1.0
    with pytest.raises(ValueError, match="without any dropped_frames"):
        smallest_dose(driver("ltc"), "dropped_frames", seed=9)
    with pytest.raises(ValueError, match="there is no perturbation 'snog'"):
        smallest_dose(driver("ltc"), "snog", seed=9)
    with pytest.raises(ValueError, match="the name alone"):
        smallest_dose(driver("ltc"), "fog:3", seed=9)


def test_what_does_not_go_together_is_refused(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "explain", "--policy", saved, "--data", tmp_path, "--counterfactual", "fog")
    assert ran.code == 2 and "leave --data out" in ran.complaint
    ran = wormwheel(capsys, "explain", "--policy", saved, "--frames", 1)
    assert ran.code == 2 and "frames" in ran.complaint
    ran = wormwheel(capsys, "explain", "--policy", saved, "--out", tmp_path, "--seconds", 0.2)
    assert ran.code == 2 and "--seconds" in ran.complaint


def test_times_are_those_of_the_drive_where_actions_are_held():
    drive = watch_drive(driver("gru"), 2, 0.9, "lower_rate:5", world=WORLD)
    assert drive.duration_s == pytest.approx(0.9)
    np.testing.assert_allclose(drive.time_s, [0.0, 0.3, 0.6], atol=1e-6)
    found = explain(driver("gru"), drive, frames=2, every=2)
    assert found["times_s"] == pytest.approx([0.0, 0.3, 0.6]) and found["duration_s"] == pytest.approx(0.9)


def test_a_driver_that_works_the_pedal_is_watched_too():
    config = replace(driver("gru").config, motors=2)
    drive = watch_drive(DrivingPolicy.create(config, seed=3), 2, 0.3, world=WORLD)
    assert len(drive.steering) >= 3
