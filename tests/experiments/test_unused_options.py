"""An option that changes nothing beside the others is refused in one line that names both."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.imitation.adapt import AdaptConfig
from agents.imitation.train import ImitationConfig
from agents.imitation.views import ViewsConfig
from agents.recordings import load_episodes
from experiments.robustness.suites import choose_suite
from experiments.train_imitation import TrainOptions, defaults_for
from experiments.training_sets import SplitOptions, split
from tests.agents.recordings.makers import make_native
from tests.experiments.verbs import wormwheel


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train imitation --data TUB --carry-state --burn-in 8", ("burn_in", "carry_state")),
        ("train imitation --data TUB --carry-state --stride 4", ("stride", "carry_state")),
        ("train imitation --data TUB --views.least-shown 0.8", ("views", "--views.share")),
        ("train imitation --data TUB --hold-out 0 --baseline", ("--baseline", "--hold-out 0")),
        ("train imitation --data TUB --core feedforward --baseline", ("--baseline", "--core feedforward")),
        ("train imitation --data TUB --rig.hfov-deg 90", ("--rig", "--views.share")),
        ("train imitation --data TUB --split-seed 3", ("--split-seed", "--split episode")),
        ("train imitation --data TUB --seeds 1 2 --seed 3", ("--seed ", "--seeds")),
        ("data cross-validate TUB --seeds 1 2 --seed 3", ("--seed ", "--seeds")),
        ("train ppo --env CartPole-memory --sde-sample-freq 8", ("--sde-sample-freq", "--use-sde")),
        ("train ppo --imitator-kl-coef-end 0.5", ("--imitator-kl-coef-end", "--imitator-kl-coef is 0")),
        ("train ppo --largest-severity 2", ("--largest-severity", "--perturbations")),
        ("train ppo --env CartPole-memory --evaluate-s 9", ("--evaluate-s", "CartPole-memory")),
        ("train ppo --seeds 1 2 --seed 3", ("--seed ", "--seeds")),
        ("adapt --policy P --replay TUB --rule online --windows 4", ("windows", "'online'")),
        ("evaluate --expert --track F --episodes 5", ("--episodes", "--track")),
        ("evaluate --expert --track F --episode-s 5", ("--episode-s", "--laps 1")),
        ("evaluate --policy P --data TUB --seed 5", ("--seed", "--data")),
        ("gate --policy P --require crashes<=0 --margin 0.1", ("--margin", "--against")),
        ("gate --policy P --against Q --response-tolerance None --response-delay-s 0.1", ("delay-s", "--response-tol")),
        ("robustness --policy P --world none --data TUB --roads 2", ("--roads", "--world none")),
        ("robustness --policy P --world none --data TUB --variety 0.5", ("--variety", "--world none")),
    ],
)
def test_it_is_refused(command: str, words: tuple[str, ...], tub: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = wormwheel(capsys, *command.replace("TUB", str(tub)).split())
    assert ran.code == 2 and all(word in ran.complaint for word in words), ran.complaint
    assert not any(tmp_path.glob("runs/*"))


def test_severities_are_for_perturbations_that_name_none():
    with pytest.raises(ValueError, match="--severities are for perturbations that name none"):
        choose_suite("quick", ["fog:3", "rain:2+night:1"], [5])
    assert choose_suite("quick", ["fog:3", "rain"], [5]).conditions() == ("fog:3", "rain:5")


def test_a_gap_is_for_blocks_of_time(tmp_path: Path):
    make_native(tmp_path / "set", (9, 9, 9))
    episodes = load_episodes(tmp_path / "set")
    with pytest.raises(ValueError, match="--gap-s does nothing here, for whole episodes are held out"):
        split(episodes, SplitOptions(split="episode", gap_s=1.0))
    assert split(episodes, SplitOptions(split="episode", split_seed=2), refuse_leaks=False).held_out is not None


def test_defaults_are_no_options_that_somebody_set(tub: Path):
    walked = defaults_for(TrainOptions(data=(tub,), learning=ImitationConfig(carry_state=True)))
    assert walked.learning.stride == 0 and defaults_for(TrainOptions(data=(tub,))).learning.stride == 4
    assert AdaptConfig(rule="online", online_rate=1e-3).steps == AdaptConfig().steps
    assert ViewsConfig(share=0.5, least_shown=0.8).share == 0.5
